//! Asking the admin listener of a controller.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::Output;

/// Which controller is asked, and how it is told.
#[derive(Debug, Args)]
pub(super) struct Remote {
    /// Address of the admin listener of a controller
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9180")]
    admin: String,
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

/// An export of 40,000 routes has about 20 MiB.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A replica may take 30 s to heal.
const WITHIN: Duration = Duration::from_secs(45);

/// An answer that is well.
pub(super) struct Answer {
    pub(super) body: String,
    /// The version of what was read, for a change of it.
    pub(super) etag: Option<String>,
}

impl Answer {
    /// The body as JSON.
    pub(super) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body).context("the answer is not JSON")
    }
}

impl Remote {
    /// Reads `/api/v1` + `path`.
    pub(super) fn read(&self, path: &str) -> anyhow::Result<Answer> {
        self.ask(&Method::GET, path, None, None)
    }

    /// Reads it as JSON.
    pub(super) fn read_json(&self, path: &str) -> anyhow::Result<Value> {
        self.read(path)?.json()
    }

    /// Changes something that was read as `etag`.
    pub(super) fn change(&self, path: &str, etag: &str, body: &Value) -> anyhow::Result<Answer> {
        self.ask(&Method::POST, path, Some(etag), Some(body.to_string()))
    }

    /// Removes something.
    pub(super) fn remove(&self, path: &str) -> anyhow::Result<Answer> {
        self.ask(&Method::DELETE, path, None, None)
    }

    fn ask(
        &self,
        method: &Method,
        path: &str,
        etag: Option<&str>,
        body: Option<String>,
    ) -> anyhow::Result<Answer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let url = format!("{}/api/v1{path}", self.admin.trim_end_matches('/'));
        let asked = async {
            let exchange = exchange(method, &url, etag, body);
            tokio::time::timeout(WITHIN, exchange).await.context("no answer in time")?
        };
        let asked = runtime.block_on(asked);
        asked.with_context(|| format!("cannot ask the controller at {}", self.admin))
    }
}

async fn exchange(
    method: &Method,
    url: &str,
    etag: Option<&str>,
    body: Option<String>,
) -> anyhow::Result<Answer> {
    if url.starts_with("https://") {
        bail!("the admin listener speaks http only");
    }
    let uri: http::Uri =
        url.parse().context("it is not an address such as http://127.0.0.1:9180")?;
    let authority = uri.authority().context("it names no host")?;
    let port = authority.port_u16().unwrap_or(80);
    let host = authority.host().trim_matches(['[', ']']);
    let stream = tokio::net::TcpStream::connect((host, port)).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, authority.as_str())
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(etag) = etag {
        request = request.header(header::IF_MATCH, etag);
    }
    let request = request.body(Full::from(body.unwrap_or_default()))?;
    let answer = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let etag = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
        let etag = etag.map(str::to_owned);
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        let body = String::from_utf8(body.to_vec())?;
        if status.is_success() { Ok(Answer { body, etag }) } else { bail!(told(status, &body)) }
    };
    // The connection ends by itself once the answer is there.
    let (answer, _ended) = tokio::join!(answer, connection);
    answer
}

/// What an error answer says (RFC 9457).
fn told(status: StatusCode, body: &str) -> String {
    let detail = serde_json::from_str::<Value>(body).ok();
    let detail = detail.as_ref().and_then(|value| value["detail"].as_str());
    detail.map_or_else(|| format!("it answered {status}"), |detail| format!("{status}: {detail}"))
}

/// A query or a segment of a path, with what has a meaning in addresses encoded.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The text of a member, or a dash.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("-")
}

/// A digest as people tell it apart, or a dash.
pub(super) fn short<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().and_then(|digest| digest.get(..12)).unwrap_or("-")
}

/// The elements of a list, in order.
pub(super) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// Lines in columns; the last column is as long as it is.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        let of_head = head.get(at).map_or(0, |cell| cell.chars().count());
        cells.max().unwrap_or(0).max(of_head)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded: String =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        format!("{}\n", padded.trim_end())
    };
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    std::iter::once(line(&head)).chain(rows.iter().map(|row| line(row))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        let rows = [vec!["r1".to_owned(), "InSync".to_owned(), "fine".to_owned()]];
        assert_eq!(
            table(&["NAME", "S", "TEXT"], &rows),
            "NAME  S       TEXT\nr1    InSync  fine\n"
        );
    }

    #[test]
    fn what_has_a_meaning_in_addresses_is_encoded() {
        assert_eq!(encoded("replica:prod/r 1&x"), "replica%3Aprod%2Fr%201%26x");
    }
}
