//! Kubeng against a real API server, with the rights of `deploy/rbac.yaml` and no others.
//!
//! Each test has a control plane of its own, in a network namespace of its own:
//! an EndpointSlice cannot name a loopback address. See `tests/cluster`.

mod faults;
mod fleets;
mod home;
mod inside;
mod leading;
mod objects;
mod overrides;
mod quiet;
mod rig;
mod rights;
mod statuses;
mod traffic;
mod upstreams;
