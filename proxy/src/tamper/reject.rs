//! A replica that cannot serve what others can, in builds for tests only.
//!
//! While the folder that `KUBENG_TEST_TAMPER` names has a file `reject`, every Delta is rejected, for
//! the reason that the file holds.

use std::path::PathBuf;

use kubeng_config::name::ListenerId;

use crate::compile::Rejection;

/// Why nothing is taken now; none where nobody wants that.
pub(crate) fn rejection() -> Option<Rejection> {
    let folder = std::env::var_os(super::VARIABLE).map(PathBuf::from)?;
    let why = std::fs::read_to_string(folder.join("reject")).ok()?;
    let id: ListenerId = "http".parse().ok()?;
    Some(Rejection::Tls { id, source: rustls::Error::General(why.trim().to_owned()) })
}
