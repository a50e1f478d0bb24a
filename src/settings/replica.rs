//! Settings of `kubeng proxy`: a replica whose controllers are elsewhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use kubeng_config::label::{LABELS_MAX, is_name, is_value};
use kubeng_config::name::{FleetName, ListenerId, ReplicaName};
use serde::Deserialize;

use super::address::address;
use super::given::Given;
use super::{Settings, apart};

/// What only a replica is given; all else is as with `kubeng run`.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct GivenReplica {
    /// Fleet that this replica belongs to
    #[arg(long, value_name = "NAME", env = "KUBENG_FLEET")]
    fleet: Option<String>,

    /// Controller to follow, as https://HOST:PORT; may be repeated, the first that answers is followed
    #[arg(
        long = "controller",
        value_name = "URL",
        env = "KUBENG_CONTROLLERS",
        value_delimiter = ','
    )]
    controllers: Vec<String>,

    /// Name of this replica within its fleet [default: the name of the machine]
    #[arg(long, value_name = "NAME", env = "KUBENG_REPLICA_NAME")]
    name: Option<String>,

    /// Token that a controller has issued for joining its fleet; used once
    #[arg(long, value_name = "TOKEN", env = "KUBENG_JOIN_TOKEN", hide_env_values = true)]
    join_token: Option<String>,

    /// File with such a token
    #[arg(
        long,
        value_name = "FILE",
        env = "KUBENG_JOIN_TOKEN_FILE",
        conflicts_with = "join_token"
    )]
    join_token_file: Option<PathBuf>,

    /// Certificate chain of this replica in PEM, instead of joining; read again when it changes
    #[arg(long, value_name = "FILE", env = "KUBENG_CERT")]
    cert: Option<PathBuf>,

    /// Its private key in PEM
    #[arg(long, value_name = "FILE", env = "KUBENG_KEY")]
    key: Option<PathBuf>,

    /// Authorities that certificates of controllers must come from, in PEM
    #[arg(long, value_name = "FILE", env = "KUBENG_CA")]
    ca: Option<PathBuf>,

    /// Public keys that statements of controllers are signed with, one a line
    #[arg(long, value_name = "FILE", env = "KUBENG_SIGNING_KEYS")]
    signing_keys: Option<PathBuf>,

    /// Where this replica opens a listener of the fleet instead of at its own address; may be repeated
    #[arg(
        long = "listen",
        value_name = "LISTENER=ADDR",
        env = "KUBENG_LISTEN",
        value_delimiter = ','
    )]
    listen: Vec<String>,

    /// File with the key that private keys are encrypted with on disk, at least 32 bytes [default: they
    /// are protected by the mode of their file only]
    #[arg(long, value_name = "FILE", env = "KUBENG_DATA_KEY_FILE")]
    data_key_file: Option<PathBuf>,

    /// Label that is shown beside this replica, such as site=bj; may be repeated. Those of its join token
    /// stand above it
    #[arg(long = "label", value_name = "NAME=VALUE", env = "KUBENG_LABELS", value_delimiter = ',')]
    labels: Vec<String>,

    /// Tell of itself at least so often [default: as its Fleet says]
    #[arg(long, value_name = "SECONDS", env = "KUBENG_HEARTBEAT")]
    heartbeat: Option<u64>,

    /// Look at all that it runs at least so often, without a change [default: as its Fleet says]
    #[arg(long, value_name = "SECONDS", env = "KUBENG_TABLE_CHECK")]
    table_check: Option<u64>,
}

/// The lines of a settings file that belong to a replica.
const NAMES: &[&str] = &[
    "fleet",
    "controllers",
    "name",
    "join-token",
    "join-token-file",
    "cert",
    "key",
    "ca",
    "signing-keys",
    "listen",
    "data-key-file",
    "labels",
    "heartbeat",
    "table-check",
];

/// How a replica finds its controllers, and what it keeps.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaSettings {
    pub(crate) fleet: FleetName,
    pub(crate) name: ReplicaName,
    pub(crate) controllers: Vec<String>,
    pub(crate) credentials: Credentials,
    pub(crate) listen: BTreeMap<ListenerId, SocketAddr>,
    pub(crate) data: PathBuf,
    pub(crate) data_key_file: Option<PathBuf>,
    pub(crate) labels: BTreeMap<String, String>,
    /// At least so often; none: as its Fleet says.
    pub(crate) heartbeat: Option<Duration>,
    /// At least so often; none: as its Fleet says.
    pub(crate) table_check: Option<Duration>,
}

/// How it shows controllers who it is.
#[derive(Clone)]
pub(crate) enum Credentials {
    /// By what a controller certifies for a token, which lies in the data folder from then on.
    Joined {
        /// Needed the first time; or why it cannot be read.
        token: Result<Option<String>, String>,
    },
    /// By files that something else cares for.
    Files { cert: PathBuf, key: PathBuf, ca: PathBuf, signing_keys: PathBuf },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Joined { token: Ok(None) | Err(_) } => f.write_str("Joined"),
            Self::Joined { token: Ok(Some(_)) } => f.write_str("Joined(by token)"),
            Self::Files { cert, .. } => write!(f, "Files({})", cert.display()),
        }
    }
}

impl GivenReplica {
    /// Fills what is not given, here and in `given`, from a settings file.
    pub(crate) fn with_file(self, given: Given, path: &Path) -> anyhow::Result<(Self, Given)> {
        let (ours, rest): (Self, Given) = apart::read(path, NAMES)?;
        Ok((self.or(ours), given.or(rest)))
    }

    fn or(self, file: Self) -> Self {
        fn list(given: Vec<String>, file: Vec<String>) -> Vec<String> {
            if given.is_empty() { file } else { given }
        }
        // A token that is given in one way is not completed by the other.
        let has_token = self.join_token.is_some() || self.join_token_file.is_some();
        let file_token = |token| if has_token { None } else { token };
        Self {
            fleet: self.fleet.or(file.fleet),
            controllers: list(self.controllers, file.controllers),
            name: self.name.or(file.name),
            join_token: self.join_token.or(file_token(file.join_token)),
            join_token_file: self.join_token_file.or(if has_token {
                None
            } else {
                file.join_token_file
            }),
            cert: self.cert.or(file.cert),
            key: self.key.or(file.key),
            ca: self.ca.or(file.ca),
            signing_keys: self.signing_keys.or(file.signing_keys),
            listen: list(self.listen, file.listen),
            data_key_file: self.data_key_file.or(file.data_key_file),
            labels: list(self.labels, file.labels),
            heartbeat: self.heartbeat.or(file.heartbeat),
            table_check: self.table_check.or(file.table_check),
        }
    }

    /// The settings, complete and checked; those of the data plane beside them.
    pub(crate) fn settle(self, given: Given) -> anyhow::Result<(ReplicaSettings, Settings)> {
        refuse_sources(&given)?;
        let settings = given.settle()?;
        let fleet = self.fleet.as_deref().context("which fleet? say --fleet NAME")?;
        let fleet = fleet.parse().context("--fleet is empty")?;
        ensure!(
            !self.controllers.is_empty(),
            "which controller? say --controller https://HOST:PORT"
        );
        let data = settings.data.clone();
        let data = data.context("a replica keeps what it serves: say --data DIR")?;
        let name = match &self.name {
            Some(name) => name.parse().context("--name is empty")?,
            None => machine_name()?,
        };
        let listen = listen_at(&self.listen)?;
        let replica = ReplicaSettings {
            fleet,
            name,
            controllers: self.controllers.clone(),
            credentials: self.credentials()?,
            listen,
            data,
            data_key_file: self.data_key_file,
            labels: labels(&self.labels)?,
            heartbeat: seconds("heartbeat", self.heartbeat)?,
            table_check: seconds("table-check", self.table_check)?,
        };
        Ok((replica, settings))
    }

    fn credentials(&self) -> anyhow::Result<Credentials> {
        match (&self.cert, &self.key, &self.ca, &self.signing_keys) {
            (None, None, None, None) => {
                let read = |path: &PathBuf| {
                    std::fs::read_to_string(path)
                        .with_context(|| format!("cannot read join-token-file {}", path.display()))
                };
                let from_file = || self.join_token_file.as_ref().map(read);
                let token = self.join_token.clone().map(Ok).or_else(from_file).transpose();
                // Who has joined needs none, and a secret that is not needed is removed.
                let token = token.map(|token| token.map(|token| token.trim().to_owned()));
                Ok(Credentials::Joined { token: token.map_err(|error| format!("{error:#}")) })
            }
            (Some(cert), Some(key), Some(ca), Some(signing_keys)) => {
                ensure!(
                    self.join_token.is_none() && self.join_token_file.is_none(),
                    "a join token and --cert are two ways to say who the replica is; give one"
                );
                let (cert, key) = (cert.clone(), key.clone());
                Ok(Credentials::Files {
                    cert,
                    key,
                    ca: ca.clone(),
                    signing_keys: signing_keys.clone(),
                })
            }
            _ => bail!("--cert, --key, --ca and --signing-keys belong together; give all four"),
        }
    }
}

/// What a controller reads has no effect here, and somebody may believe that it has.
fn refuse_sources(given: &Given) -> anyhow::Result<()> {
    let faults = [
        ("--manifests", !given.manifests.is_empty()),
        ("--kubernetes", given.kubernetes.is_some()),
        ("--http", given.http.is_some()),
        ("--https", given.https.is_some()),
        ("--tcp", !given.tcp.is_empty()),
        ("--tls-passthrough", !given.tls_passthrough.is_empty()),
        ("--proxy-protocol-from", !given.proxy_protocol_from.is_empty()),
        ("--ingress-class", !given.ingress_classes.is_empty()),
        ("--default-backend", given.default_backend.is_some()),
        ("--default-certificate", given.default_certificate.is_some()),
        ("--client-certificates", given.client_certificates.is_some()),
    ];
    match faults.iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => bail!(
            "{name} has no effect on a replica: its controllers say what is served and where; \
             see --listen for other addresses"
        ),
        None => Ok(()),
    }
}

/// Where Listeners are opened, of texts such as `https=127.0.0.1:8443`.
pub(super) fn listen_at(given: &[String]) -> anyhow::Result<BTreeMap<ListenerId, SocketAddr>> {
    let read = |text: &str| -> Result<(ListenerId, SocketAddr), String> {
        let (name, at) = text.rsplit_once('=').ok_or("no address is named")?;
        let listener = name.parse().map_err(|_| format!("{name:?} is no name of a listener"))?;
        Ok((listener, address(at)?))
    };
    let mut listen = BTreeMap::new();
    for text in given {
        let (id, address) = read(text).map_err(|why| {
            anyhow!(
                "--listen {text:?} is not of the form LISTENER=ADDR, such as \
                 https=127.0.0.1:8443: {why}"
            )
        })?;
        if listen.insert(id, address).is_some() {
            bail!("--listen {text:?} names a listener for the second time");
        }
    }
    Ok(listen)
}

/// Labels as they are written, NAME=VALUE each.
pub(crate) fn labels(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    ensure!(
        given.len() <= LABELS_MAX,
        "--label stands {} times; at most {LABELS_MAX}",
        given.len()
    );
    let mut labels = BTreeMap::new();
    for text in given {
        let label = text.split_once('=').filter(|(name, value)| is_name(name) && is_value(value));
        let (name, value) = label.with_context(|| {
            format!("--label {text:?} is not of the form NAME=VALUE of a label of Kubernetes")
        })?;
        ensure!(
            labels.insert(name.to_owned(), value.to_owned()).is_none(),
            "--label {text:?} names a label for the second time"
        );
    }
    Ok(labels)
}

fn seconds(name: &str, given: Option<u64>) -> anyhow::Result<Option<Duration>> {
    match given {
        None => Ok(None),
        Some(seconds @ 1..=3600) => Ok(Some(Duration::from_secs(seconds))),
        Some(other) => bail!("{name} is {other} s; write 1 to 3600"),
    }
}

fn machine_name() -> anyhow::Result<ReplicaName> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    text.trim().parse().context("the machine has no name; say --name NAME")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "fleet = \"prod\"\ncontrollers = [\"https://a:1\"]\ndata = \"/d\"\n";

    fn settle(file: &str) -> anyhow::Result<(ReplicaSettings, Settings)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeng.toml");
        std::fs::write(&path, file).unwrap();
        let (replica, given) = GivenReplica::default().with_file(Given::default(), &path)?;
        replica.settle(given)
    }

    #[test]
    fn one_file_has_the_lines_of_both() {
        let text =
            format!("{WHOLE}workers = 3\nlisten = [\"https=127.0.0.1:8443\"]\nname = \"r1\"");
        let (replica, settings) = settle(&text).unwrap();
        assert_eq!((settings.workers, replica.name.as_str()), (3, "r1"));
        let https = "https".parse::<ListenerId>().unwrap();
        assert_eq!(replica.listen[&https], "127.0.0.1:8443".parse().unwrap());
        assert_eq!(replica.heartbeat, None, "as its fleet says");
        let text = format!("{WHOLE}labels = [\"site=bj\", \"canary=\"]\nheartbeat = 2");
        let (labelled, _) = settle(&text).unwrap();
        assert_eq!(labelled.labels["site"], "bj");
        assert_eq!(labelled.heartbeat, Some(Duration::from_secs(2)));
        assert!(settle(WHOLE).unwrap().0.name.as_str().len() > 1, "that of the machine");
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (more, word) in [
            ("manifests = [\"/m\"]", "--manifests has no effect"),
            ("http = \"127.0.0.1:1\"", "--listen"),
            ("listen = [\"https\"]", "LISTENER=ADDR"),
            ("listen = [\"a=127.0.0.1:1\", \"a=127.0.0.1:2\"]", "second time"),
            ("cert = \"c\"", "belong together"),
            ("heartbeat = 0", "1 to 3600"),
            ("labels = [\"site\"]", "NAME=VALUE"),
            ("labels = [\"site=b j\"]", "NAME=VALUE"),
            ("labels = [\"a=1\", \"a=2\"]", "second time"),
            ("fleets = \"x\"", "fleets"),
        ] {
            let error = settle(&format!("{WHOLE}{more}")).unwrap_err();
            assert!(format!("{error:#}").contains(word), "{more}: {error:#}");
        }
        let files = "cert = \"c\"\nkey = \"k\"\nca = \"a\"\nsigning-keys = \"s\"\n";
        settle(&format!("{WHOLE}{files}")).unwrap();
        let error = settle(&format!("{WHOLE}{files}join-token = \"t\"")).unwrap_err();
        assert!(error.to_string().contains("two ways"), "{error}");
    }
}
