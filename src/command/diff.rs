//! `kubeng diff`: in what two configurations differ.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Args;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use kubeng_config::difference::differences;
use kubeng_config::export::Export;
use kubeng_config::snapshot::Snapshot;

use super::load::{self, Reading};
use super::say::{say, say_line, tell_line};
use super::{Finding, Output};

/// Show in what two configurations differ.
///
/// Each side is a folder or file of manifests, a file that `kubeng export` wrote,
/// or the address of an admin listener, such as `http://127.0.0.1:9180`.
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 no difference, 1 they differ, 2 wrong usage.")]
pub(super) struct Diff {
    /// The first side
    before: String,
    /// The second side
    after: String,
    #[command(flatten)]
    reading: Reading,
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// An export of 40,000 routes has about 20 MiB.
const EXPORT_BYTES_MAX: usize = 256 << 20;

impl Diff {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        let (before, after) = match (self.ready(&self.before)?, self.ready(&self.after)?) {
            (Some(before), Some(after)) => (before, after),
            // Manifests name no ports: they are compared on those of the other side.
            (Some(before), None) => {
                let after = self.manifests(&self.after, Some(&before))?;
                (before, after)
            }
            (None, Some(after)) => (self.manifests(&self.before, Some(&after))?, after),
            (None, None) => {
                (self.manifests(&self.before, None)?, self.manifests(&self.after, None)?)
            }
        };
        let found = differences(&before, &after);
        match self.output {
            Output::Json => say_line(serde_json::to_string_pretty(&found)?)?,
            Output::Text => {
                for difference in &found {
                    say(format_args!("{difference}"))?;
                }
                say_line(format_args!("{} parts differ", found.len()))?;
            }
        }
        Ok(if found.is_empty() { Finding::Fine } else { Finding::Problems })
    }

    /// The Snapshot of a side that is one already; `None` for manifests.
    fn ready(&self, side: &str) -> anyhow::Result<Option<Snapshot>> {
        if side.starts_with("https://") {
            bail!("{side}: the admin listener speaks http only");
        }
        if side.starts_with("http://") {
            let fetched = fetch(side);
            return fetched.map(Some).with_context(|| format!("cannot fetch what {side} serves"));
        }
        let path = Path::new(side);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if !text.contains(kubeng_config::export::FORMAT) {
            return Ok(None);
        }
        read(&text).map(Some).with_context(|| format!("cannot use {}", path.display()))
    }

    fn manifests(&self, side: &str, beside: Option<&Snapshot>) -> anyhow::Result<Snapshot> {
        let paths = [Path::new(side).to_path_buf()];
        let loaded = match beside {
            Some(other) => load::load_beside(&paths, &self.reading, other)?,
            None => load::load(&paths, &self.reading)?,
        };
        for problem in loaded.problems() {
            tell_line(problem);
        }
        Ok(loaded.snapshot().clone())
    }
}

fn read(text: &str) -> anyhow::Result<Snapshot> {
    Ok(Export::read(text)?.into_snapshot()?)
}

/// Asks an admin listener for what it serves.
fn fetch(side: &str) -> anyhow::Result<Snapshot> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(async {
        let limit = std::time::Duration::from_secs(30);
        tokio::time::timeout(limit, get(side)).await.context("no answer within 30 seconds")?
    })?;
    read(&text)
}

async fn get(side: &str) -> anyhow::Result<String> {
    let base: http::Uri = side.parse().context("it is not an address")?;
    let authority = base.authority().context("it names no host")?;
    let port = authority.port_u16().unwrap_or(80);
    let stream = tokio::net::TcpStream::connect((authority.host(), port)).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
    let request = http::Request::get("/api/v1/snapshot?format=json")
        .header(http::header::HOST, authority.as_str())
        .body(Empty::new())?;
    let answer = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), EXPORT_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        if status != http::StatusCode::OK {
            bail!("it answered {status}");
        }
        Ok(String::from_utf8(body.to_vec())?)
    };
    // The connection ends by itself once the answer is there.
    let (answer, _ended) = tokio::join!(answer, connection);
    answer
}
