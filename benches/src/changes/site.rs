//! What is changed: one site for each way in which routes and endpoints change.

use std::net::SocketAddr;

use anyhow::Result;

use super::ledger::Backends;
use crate::manifest::{self, CertificatePair, Folder};

/// A way to change what is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Site {
    /// The backend of an Ingress path.
    Backend,
    /// A path of an Ingress, there and not there.
    Path,
    /// An Ingress that adds a path to a host of another, there and not there.
    Ingress,
    /// An Ingress that adds a host below a wildcard, there and not there.
    Host,
    /// Which endpoints of a slice are ready.
    Ready,
    /// All endpoints of a slice.
    Endpoints,
    /// A second slice of a Service, there and not there.
    Slice,
    /// The certificate of a Secret.
    Secret,
}

/// Where sites are written, and what they point at.
pub(super) struct Ground {
    pub(super) folder: Folder,
    /// Red and blue first, then those of slices.
    pub(super) backends: Vec<SocketAddr>,
    pub(super) certificates: [CertificatePair; 2],
}

impl Site {
    pub(super) const ALL: [Self; 8] = [
        Self::Backend,
        Self::Path,
        Self::Ingress,
        Self::Host,
        Self::Ready,
        Self::Endpoints,
        Self::Slice,
        Self::Secret,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend of a path",
            Self::Path => "path of an Ingress",
            Self::Ingress => "Ingress new, removed",
            Self::Host => "host new, removed",
            Self::Ready => "endpoints ready or not",
            Self::Endpoints => "endpoints replaced",
            Self::Slice => "EndpointSlice new, removed",
            Self::Secret => "Secret rotated",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Path => "path",
            Self::Ingress => "ingress",
            Self::Host => "host",
            Self::Ready => "ready",
            Self::Endpoints => "endpoints",
            Self::Slice => "slice",
            Self::Secret => "secret",
        }
    }

    /// The host that is asked for.
    pub(super) fn host(self) -> String {
        format!("{}.bench.example", self.key())
    }

    /// The path that is asked for. Endpoints are also replaced under slow requests.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Path | Self::Ingress => "/extra/page",
            Self::Endpoints => "/page?after=20",
            Self::Backend | Self::Host | Self::Ready | Self::Slice | Self::Secret => "/page",
        }
    }

    /// The backends that may answer in state `turn`.
    pub(super) fn legal(self, turn: usize) -> Backends {
        let is_odd = !turn.is_multiple_of(2);
        match self {
            Self::Backend | Self::Path | Self::Ingress | Self::Host => {
                if is_odd {
                    1 << BLUE
                } else {
                    1 << RED
                }
            }
            Self::Ready => {
                let ready = [turn % 3, (turn + 1) % 3].map(|at| 1 << (FIRST_OF_SLICES + at));
                ready[0] | ready[1]
            }
            Self::Endpoints => {
                if is_odd {
                    0b11 << (FIRST_OF_SLICES + 2)
                } else {
                    0b11 << FIRST_OF_SLICES
                }
            }
            Self::Slice => {
                if is_odd {
                    0b11 << FIRST_OF_SLICES
                } else {
                    1 << FIRST_OF_SLICES
                }
            }
            Self::Secret => 1 << RED,
        }
    }
}

impl Ground {
    /// Writes all that stays, and every site in state 0.
    pub(super) fn prepare(&self) -> Result<()> {
        let mut text = String::new();
        for (name, backend) in [("red", RED), ("blue", BLUE)] {
            text += &manifest::service(SPACE, name);
            text += &manifest::slice(SPACE, name, name, &[(self.backends[backend], true)]);
        }
        text += &manifest::ingress(SPACE, "rest", "*.bench.example", &to("red"), None);
        for site in [Site::Ready, Site::Endpoints, Site::Slice] {
            let key = site.key();
            text += &manifest::service(SPACE, key);
            text += &manifest::ingress(SPACE, key, &site.host(), &to(key), Some(SECRET));
        }
        for (name, site) in [("ingress", Site::Ingress), ("secret", Site::Secret)] {
            text += &manifest::ingress(SPACE, name, &site.host(), &to("red"), Some(SECRET));
        }
        let first = &self.backends[FIRST_OF_SLICES..=FIRST_OF_SLICES];
        text += &manifest::slice(SPACE, "slice-one", "slice", &[(first[0], true)]);
        self.folder.save("standing.yaml", &text)?;
        for site in Site::ALL {
            self.write(site, 0)?;
        }
        Ok(())
    }

    /// Brings `site` into state `turn`.
    pub(super) fn write(&self, site: Site, turn: usize) -> Result<()> {
        let file = format!("{}.yaml", site.key());
        let is_odd = !turn.is_multiple_of(2);
        let text = match site {
            Site::Backend => Some(ingress(site, &to(if is_odd { "blue" } else { "red" }))),
            Site::Path => {
                let mut paths = to("red");
                paths.extend(is_odd.then(|| ("/extra".to_owned(), "blue")));
                Some(ingress(site, &paths))
            }
            Site::Ingress => {
                let paths = [("/extra".to_owned(), "blue")];
                let host = site.host();
                is_odd.then(|| manifest::ingress(SPACE, "extra", &host, &paths, Some(SECRET)))
            }
            Site::Host => is_odd.then(|| ingress(site, &to("blue"))),
            Site::Ready => {
                let legal = site.legal(turn);
                let ready = |at: usize| (self.backends[at], legal & (1 << at) != 0);
                let endpoints = [0, 1, 2].map(|at| ready(FIRST_OF_SLICES + at));
                Some(manifest::slice(SPACE, "ready", "ready", &endpoints))
            }
            Site::Endpoints => {
                let from = FIRST_OF_SLICES + if is_odd { 2 } else { 0 };
                let endpoints = [from, from + 1].map(|at| (self.backends[at], true));
                Some(manifest::slice(SPACE, "endpoints", "endpoints", &endpoints))
            }
            Site::Slice => {
                let second = [(self.backends[FIRST_OF_SLICES + 1], true)];
                is_odd.then(|| manifest::slice(SPACE, "slice-two", "slice", &second))
            }
            Site::Secret => Some(manifest::secret(SPACE, SECRET, &self.certificates[turn % 2])),
        };
        match text {
            Some(text) => drop(self.folder.save(&file, &text)?),
            None if turn == 0 => {}
            None => self.folder.remove(&file)?,
        }
        Ok(())
    }
}

fn ingress(site: Site, paths: &[(String, &str)]) -> String {
    manifest::ingress(SPACE, site.key(), &site.host(), paths, Some(SECRET))
}

fn to(service: &str) -> Vec<(String, &str)> {
    vec![("/".to_owned(), service)]
}

/// How many backends there must be.
pub(super) const BACKENDS: usize = 6;
/// The Secret of all hosts, as the flag for the default certificate wants it.
pub(super) const DEFAULT_CERTIFICATE: &str = "bench/certificate";
const RED: usize = 0;
const BLUE: usize = 1;
const FIRST_OF_SLICES: usize = 2;
const SPACE: &str = "bench";
const SECRET: &str = "certificate";
