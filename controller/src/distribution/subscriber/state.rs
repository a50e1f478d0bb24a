//! How the link to the controllers is, in words for people.

use std::fmt;
use std::time::SystemTime;

/// How the link to the controllers is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LinkState {
    /// Whether one is followed.
    pub link: Link,
    /// Why the certificate could not be renewed at the last try.
    pub renewal: Option<String>,
}

/// Whether a controller is followed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Link {
    /// None is: what was heard last goes on being served.
    Apart {
        /// Since when; the start of the process if there never was one.
        since: SystemTime,
        /// Why each of them is not, as far as they were tried.
        reasons: Vec<Reason>,
    },
    /// One is.
    Following {
        /// Its address.
        controller: String,
        /// Since when.
        since: SystemTime,
        /// The last thing that it said and that this version cannot read.
        unread: Option<String>,
    },
}

/// Why one controller is not followed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reason {
    /// Its address.
    pub controller: String,
    /// In words.
    pub why: String,
}

impl Default for Link {
    fn default() -> Self {
        Self::Apart { since: SystemTime::now(), reasons: Vec::new() }
    }
}

impl LinkState {
    /// Whether a controller is followed.
    #[must_use]
    pub fn is_following(&self) -> bool {
        match &self.link {
            Link::Following { .. } => true,
            Link::Apart { .. } => false,
        }
    }

    pub(super) fn follows(&mut self, controller: String) {
        self.link = Link::Following { controller, since: SystemTime::now(), unread: None };
    }

    pub(super) fn apart(&mut self, now_reasons: Vec<Reason>) {
        match &mut self.link {
            Link::Apart { since: _, reasons } => *reasons = now_reasons,
            Link::Following { .. } => {
                self.link = Link::Apart { since: SystemTime::now(), reasons: now_reasons };
            }
        }
    }

    pub(super) fn unread(&mut self, why: String) {
        match &mut self.link {
            Link::Following { unread, .. } => *unread = Some(why),
            Link::Apart { .. } => {}
        }
    }
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.link {
            Link::Following { controller, since: _, unread } => {
                write!(f, "follows {controller}")?;
                if let Some(unread) = unread {
                    write!(f, ", which said what this version cannot read: {unread}")?;
                }
            }
            Link::Apart { since: _, reasons } if reasons.is_empty() => {
                f.write_str("is connecting to its controllers")?;
            }
            Link::Apart { since: _, reasons } => {
                f.write_str("is not connected to any controller")?;
                for (nth, Reason { controller, why }) in reasons.iter().enumerate() {
                    let between = if nth == 0 { ": " } else { "; " };
                    write!(f, "{between}{controller}: {why}")?;
                }
            }
        }
        if let Some(why) = &self.renewal {
            write!(f, "; its certificate could not be renewed: {why}")?;
        }
        Ok(())
    }
}
