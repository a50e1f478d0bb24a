//! Builds Snapshots from what it watches.
//!
//! Sources yield Events; [`world`] turns Objects into Snapshots by pure
//! functions; [`reconcile`] is the one loop between them. The words are those
//! of the glossary in `kubeng_config`.

mod assemble;
pub mod cluster;
pub mod control;
pub mod decode;
pub mod distribution;
pub mod endpoints;
mod events;
pub mod expiry;
pub mod fleet_status;
pub mod fleets;
pub mod hub;
pub mod intake;
mod judged;
pub mod kind;
pub mod layered;
pub mod leader;
pub mod metrics;
pub mod object;
mod pace;
mod published;
pub mod reconcile;
pub mod replicas;
pub mod settings;
pub mod source;
pub mod status;
pub mod translate;
pub mod world;
