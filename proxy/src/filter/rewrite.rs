//! Changing host or path of what is forwarded.

use http::StatusCode;
use kubeng_config::filter::rewrite::Rewrite;
use kubeng_config::name::Hostname;

use super::{Step, Target};

/// What is forwarded instead of what came.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    pub(crate) host: Option<Hostname>,
    pub(crate) path: Option<String>,
}

impl Rewritten {
    /// Carries `rewrite` out; of several the last one counts. What has no path then is refused.
    pub(crate) fn apply(&mut self, rewrite: &Rewrite, target: &Target<'_>) -> Step {
        let Rewrite { host, path } = rewrite;
        if let Some(host) = host {
            self.host = Some(host.clone());
        }
        match path.as_ref().map(|path| path.apply(target.path, target.matched)) {
            Some(Ok(path)) => self.path = Some(path),
            Some(Err(_)) => return Step::status(StatusCode::BAD_REQUEST),
            None => {}
        }
        Step::Pass
    }
}
