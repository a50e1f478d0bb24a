//! Which fleet `kubeng run` serves: that of its own settings, or one that a Fleet Object describes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Args;
use kubeng_config::name::{FleetName, ListenerId};
use serde::Deserialize;

use super::given::Given;
use super::replica::listen_at;
use super::{Settings, apart};

/// What only `kubeng run` is given.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct GivenHome {
    /// Fleet object to serve; without it the other flags say where it listens and what it serves
    #[arg(long, value_name = "NAME", env = "KUBENG_FLEET")]
    fleet: Option<String>,

    /// With --fleet: where a listener of the fleet is opened instead of at its own address; may be
    /// repeated
    #[arg(
        long = "listen",
        value_name = "LISTENER=ADDR",
        env = "KUBENG_LISTEN",
        value_delimiter = ','
    )]
    listen: Vec<String>,
}

/// The lines of a settings file that are read here.
const NAMES: &[&str] = &["fleet", "listen"];

/// A fleet that a Fleet Object describes, and that is served in this process.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    /// Its name.
    pub(crate) fleet: FleetName,
    /// Where its Listeners are opened instead of at their own addresses.
    pub(crate) listen: BTreeMap<ListenerId, SocketAddr>,
}

impl GivenHome {
    /// Fills what is not given, here and in `given`, from a settings file.
    pub(crate) fn with_file(self, given: Given, path: &Path) -> anyhow::Result<(Self, Given)> {
        let (file, rest): (Self, Given) = apart::read(path, NAMES)?;
        let listen = if self.listen.is_empty() { file.listen } else { self.listen };
        Ok((Self { fleet: self.fleet.or(file.fleet), listen }, given.or(rest)))
    }

    /// The settings, complete and checked, and the Fleet Object if one is to be served.
    pub(crate) fn settle(self, given: Given) -> anyhow::Result<(Settings, Option<Home>)> {
        let Some(fleet) = self.fleet else {
            if !self.listen.is_empty() {
                bail!("--listen is for the listeners of a fleet: say --fleet NAME, or --http ADDR");
            }
            return Ok((given.settle()?, None));
        };
        refuse_what_fleets_say(&given)?;
        let fleet = fleet.parse().context("--fleet is empty")?;
        Ok((given.settle()?, Some(Home { fleet, listen: listen_at(&self.listen)? })))
    }
}

/// What a Fleet says has no effect here, and somebody may believe that it has.
fn refuse_what_fleets_say(given: &Given) -> anyhow::Result<()> {
    let faults = [
        ("--http", given.http.is_some()),
        ("--https", given.https.is_some()),
        ("--tcp", !given.tcp.is_empty()),
        ("--tls-passthrough", !given.tls_passthrough.is_empty()),
        ("--proxy-protocol-from", !given.proxy_protocol_from.is_empty()),
        ("--listener-connections-max", given.listener_connections_max.is_some()),
        ("--tls-version-min", given.tls_version_min.is_some()),
        ("--tls-cipher-suite", !given.tls_cipher_suites.is_empty()),
        ("--ingress-class", !given.ingress_classes.is_empty()),
        ("--without-class", given.without_class.is_some()),
        ("--default-backend", given.default_backend.is_some()),
        ("--default-certificate", given.default_certificate.is_some()),
    ];
    match faults.iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => bail!(
            "{name} has no effect with --fleet: the Fleet says it; see --listen for other addresses"
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(file: &str) -> anyhow::Result<(Settings, Option<Home>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeng.toml");
        std::fs::write(&path, file).unwrap();
        let (home, given) = GivenHome::default().with_file(Given::default(), &path)?;
        home.settle(given)
    }

    #[test]
    fn a_fleet_is_served_where_it_says_or_where_it_is_told() {
        assert!(settle("workers = 3").unwrap().1.is_none());
        let (settings, home) =
            settle("workers = 3\nfleet = \"prod\"\nlisten = [\"http=127.0.0.1:8080\"]").unwrap();
        let home = home.unwrap();
        assert_eq!((settings.workers, home.fleet.as_str()), (3, "prod"));
        let http = "http".parse::<ListenerId>().unwrap();
        assert_eq!(home.listen[&http], "127.0.0.1:8080".parse().unwrap());
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (file, word) in [
            ("listen = [\"http=127.0.0.1:1\"]", "say --fleet"),
            ("fleet = \"prod\"\nhttp = \"127.0.0.1:1\"", "--http has no effect"),
            ("fleet = \"prod\"\nlisten = [\"http\"]", "LISTENER=ADDR"),
            ("fleet = \"\"", "--fleet is empty"),
            ("fleets = \"prod\"", "fleets"),
        ] {
            let error = settle(file).unwrap_err();
            assert!(format!("{error:#}").contains(word), "{file}: {error:#}");
        }
    }
}
