//! One fake or driver per neighbour, for tests and benches.

pub mod api_server;
pub mod backend;
pub mod client;
pub mod cluster;
pub mod cores;
pub mod fleet;
pub mod frames;
pub mod load;
pub mod metrics;
pub mod process;
pub mod relay;
pub mod trust;
pub mod usage;
