//! Faults around replicas that serve: not one request may fail because of them.

mod api_server;
mod leaders;
mod network;
mod rejected;
pub(crate) mod rig;
mod start;
