//! Changing host or path of what is forwarded.

use kubeng_config::filter::rewrite::Rewrite;
use kubeng_config::name::Hostname;

use super::Target;

/// What is forwarded instead of what came.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    pub(crate) host: Option<Hostname>,
    pub(crate) path: Option<String>,
}

impl Rewritten {
    /// Carries `rewrite` out; of several the last one counts.
    pub(crate) fn apply(&mut self, rewrite: &Rewrite, target: &Target<'_>) {
        let Rewrite { host, path } = rewrite;
        if let Some(host) = host {
            self.host = Some(host.clone());
        }
        if let Some(path) = path {
            self.path = Some(path.apply(target.path, target.matched));
        }
    }
}
