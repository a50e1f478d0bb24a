//! `kubeng demo`: sample services, sample manifests, and what to try.

mod manifests;
mod services;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::say::say_line;
use super::{Finding, run};
use crate::settings::address;
use crate::settings::given::Given;
use crate::settings::process::LogFormat;
use crate::telemetry;

/// Start sample services and serve them from a scratch folder of sample manifests.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Address and port for HTTP; another port is taken if it is not free
    #[arg(
        long,
        value_name = "ADDR",
        env = "KUBENG_HTTP",
        default_value = "127.0.0.1:8080",
        value_parser = address::address
    )]
    http: SocketAddr,
    /// Address and port for HTTPS; another port is taken if it is not free
    #[arg(
        long,
        value_name = "ADDR",
        env = "KUBENG_HTTPS",
        default_value = "127.0.0.1:8443",
        value_parser = address::address
    )]
    https: SocketAddr,
    /// Address and port of the admin listener; another port is taken if it is not free
    #[arg(
        long,
        value_name = "ADDR",
        env = "KUBENG_ADMIN",
        default_value = "127.0.0.1:9180",
        value_parser = address::loopback
    )]
    admin: SocketAddr,
    /// Folder for the manifests, kept at the end [default: a scratch folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Demo {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        let _log = telemetry::start(LogFormat::Text);
        let scratch = tempfile::Builder::new().prefix("kubeng-demo-").tempdir()?;
        let folder = self.folder.unwrap_or_else(|| scratch.path().to_path_buf());
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let services = services::start()?;
        manifests::write(&folder, &services)?;
        let given = Given {
            manifests: vec![folder.clone()],
            http: Some(free(self.http)?),
            https: Some(free(self.https)?),
            admin: Some(free(self.admin)?),
            ..Given::default()
        };
        let settings = given.settle()?;
        guide(&folder, settings.http, settings.https, settings.admin)?;
        run::serve(settings, None)?;
        Ok(Finding::Fine)
    }
}

/// `wanted`, or the same address with a port that is free.
fn free(wanted: SocketAddr) -> anyhow::Result<SocketAddr> {
    let bound = std::net::TcpListener::bind(wanted)
        .or_else(|_| std::net::TcpListener::bind((wanted.ip(), 0)))
        .with_context(|| format!("no port is free on {}", wanted.ip()))?;
    Ok(bound.local_addr()?)
}

fn guide(
    folder: &Path,
    http: SocketAddr,
    https: Option<SocketAddr>,
    admin: SocketAddr,
) -> anyhow::Result<()> {
    let port = http.port();
    let folder = folder.display();
    say_line(format_args!(
        "Kubeng serves three sample services, two replicas each:

  http://shop.localhost:{port}/          a Service with an EndpointSlice
  http://billing.localhost:{port}/       an Upstream: a service outside the cluster
  ws://chat.localhost:{port}/            a WebSocket that echoes
  http://{admin}/status       what is served, and what is wrong

Try:

  curl http://shop.localhost:{port}/cart"
    ))?;
    if let Some(https) = https {
        say_line(format_args!(
            "  curl --cacert {folder}/shop.crt https://shop.localhost:{}/cart",
            https.port()
        ))?;
    }
    say_line(format_args!(
        "  curl --get http://{admin}/api/v1/explain --data-urlencode 'request=GET http://shop.localhost/cart'

See a change take effect: edit {folder}/shop.yaml,
for instance write \"path: /buy\" for \"path: /\", and ask again. It is served when the file is saved.
Check first: kubeng validate {folder}
Stop with Ctrl-C.
"
    ))
}
