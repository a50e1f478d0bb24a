//! What keeps connections to Backends of different policies apart.

use std::hash::BuildHasher;

use kubeng_config::backend::Backend;

/// A number that is equal only for Backends whose connections may be shared.
///
/// The key of the engine's pool leaves out trust and protocol, so they are put in here.
pub(crate) fn connection_key(backend: &Backend) -> u64 {
    let Backend { protocol, tls, balance: _, endpoints: _, addresses: _, proxy_protocol: _ } =
        backend;
    // The debug form names every field and every variant; it is read by nobody else.
    foldhash::fast::FixedState::default().hash_one(format!("{protocol:?} {tls:?}"))
}
