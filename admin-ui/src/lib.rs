//! The admin listener: status, metrics and questions about what is served.
//!
//! It asks [`Control`](kubeng_controller::control::Control) and nothing else.
//! It has no login, so it belongs on a loopback address.

mod api;
mod client;
mod host;
mod peers;
mod probes;
mod problem;
mod server;
mod status;
mod writing;

pub use client::{AdminClient, Answer, ClientError};
pub use peers::follow as follow_peers;
pub use server::{Admin, LocalReplica, ServeError};
