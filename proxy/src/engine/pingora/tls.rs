//! Authorities as the engine wants to see them.

use std::sync::Arc;

use pingora_core::protocols::tls::CaType;
use pingora_core::utils::tls::{WrappedX509, parse_x509};

use crate::forward::tries::Try;

/// The authorities of the Backend of `to`; made once for each version of it.
///
/// `CompiledTls::of` has read each with the reader that is used here, which panics at others.
pub(super) fn authorities(to: &Try) -> Option<Arc<CaType>> {
    let tls = to.backend.spec.tls.as_ref()?;
    let made = to.backend.tls.made(|| -> Arc<CaType> {
        let kubeng_config::backend::tls::Roots::Bundle(bundle) = &tls.roots else {
            return Arc::from(Vec::new());
        };
        bundle.iter().map(|der| WrappedX509::new(der.0.to_vec(), parse_x509)).collect()
    })?;
    Some(Arc::clone(&made))
}
