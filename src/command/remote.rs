//! Asking the admin listener of a controller.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use http::Method;
use kubeng_admin::{AdminClient, Answer};
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

/// A replica may take 30 s to heal.
const WITHIN: Duration = Duration::from_secs(45);

impl Remote {
    /// Reads `/api/v1` + `path`.
    pub(super) fn read(&self, path: &str) -> anyhow::Result<Answer> {
        self.ask(Method::GET, path, None, None)
    }

    /// Reads it as JSON.
    pub(super) fn read_json(&self, path: &str) -> anyhow::Result<Value> {
        json(&self.read(path)?)
    }

    /// Changes something that was read as `etag`, and gives what became of it.
    pub(super) fn change(&self, path: &str, etag: &str, body: &Value) -> anyhow::Result<Value> {
        json(&self.ask(Method::POST, path, Some(etag), Some(body))?)
    }

    /// Removes something.
    pub(super) fn remove(&self, path: &str) -> anyhow::Result<()> {
        self.ask(Method::DELETE, path, None, None).map(drop)
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        etag: Option<&str>,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let client = AdminClient::new(&self.admin)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asked = runtime.block_on(client.ask(method, path, etag, body, WITHIN));
        asked.with_context(|| format!("the controller at {}", self.admin))
    }
}

fn json(answer: &Answer) -> anyhow::Result<Value> {
    serde_json::from_str(&answer.body).context("the answer is not JSON")
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

/// Who of the other controllers did not answer, and why, one a line.
pub(super) fn silent(answer: &Value) -> Vec<String> {
    let told = |peer: &Value| {
        let error = peer["error"].as_str()?;
        Some(format!("controller {} did not answer: {error}", text(peer, "url")))
    };
    list(answer, "peers").iter().filter_map(told).collect()
}

/// Replicas whose fleet does not exist, and what to do, one a line.
pub(super) fn turned_away(answer: &Value) -> Vec<String> {
    let told = |replica: &Value| {
        let [fleet, name] = ["fleet", "name"].map(|member| text(replica, member));
        let (address, since) = (text(replica, "address"), text(replica, "since"));
        format!(
            "replica {fleet}/{name} at {address} is turned away since {since}: there is no fleet \
             {fleet}; write a Fleet of this name, or join the replica to another one"
        )
    };
    list(answer, "turnedAway").iter().map(told).collect()
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
