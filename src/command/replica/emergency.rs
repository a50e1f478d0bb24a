//! `kubeng replica emergency`: a change on the machine of a replica, for a limited time.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use http::Method;
use kubeng_admin::AdminClient;
use serde_json::json;

use super::super::Finding;
use super::super::say::say_line;

/// Refuse a route on one replica alone, for a limited time; its controllers see that and by whom
#[derive(Debug, Args)]
pub(super) struct Emergency {
    /// Address of the admin listener of the replica itself
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9180")]
    admin: String,
    /// The route that answers 503 there, as Ingress/shop/web#default
    #[arg(long, value_name = "ROUTE", required_unless_present = "end")]
    refuse: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT", required_unless_present = "end")]
    reason: Option<String>,
    /// How long: 30s, 10m, 2h; at most a day
    #[arg(long = "for", value_name = "TIME", default_value = "10m")]
    lasts: String,
    /// Who does it [default: the user who calls this]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Take it back
    #[arg(long, conflicts_with_all = ["refuse", "reason"])]
    end: bool,
}

impl Emergency {
    pub(super) fn run(self) -> anyhow::Result<Finding> {
        let client = AdminClient::new(&self.admin)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ask = |method, body: Option<&_>| {
            let asked = client.ask(method, "/emergency", None, body, WITHIN);
            let asked = runtime.block_on(asked);
            asked.with_context(|| format!("the replica at {}", self.admin))
        };
        if self.end {
            ask(Method::DELETE, None)?;
            say_line(format_args!("taken back"))?;
            return Ok(Finding::Fine);
        }
        let (Some(route), Some(reason)) = (&self.refuse, &self.reason) else {
            bail!("which route, and why? say --refuse and --reason, or --end");
        };
        let seconds = seconds(&self.lasts)?;
        let by = self.by.clone().unwrap_or_else(user);
        ask(
            Method::POST,
            Some(&json!({ "route": route, "reason": reason, "by": by, "seconds": seconds })),
        )?;
        say_line(format_args!("{route} answers 503 on this replica for {seconds} s"))?;
        Ok(Finding::Fine)
    }
}

fn seconds(text: &str) -> anyhow::Result<u64> {
    let form = || format!("--for {text:?} is not of the form 30s, 10m or 2h");
    let at = text.len().saturating_sub(1);
    let (number, unit) = text.split_at_checked(at).with_context(form)?;
    let number: u64 = number.parse().with_context(form)?;
    let seconds = match unit {
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        _ => None,
    };
    let seconds = seconds.with_context(form)?;
    ensure!((1..=86_400).contains(&seconds), "--for {text} is not from 1 s to a day");
    Ok(seconds)
}

fn user() -> String {
    let name = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    name.unwrap_or_else(|_| format!("user {}", rustix::process::getuid().as_raw()))
}

const WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_end_within_a_day() {
        for (text, expected) in [("30s", 30), ("10m", 600), ("24h", 86_400)] {
            assert_eq!(seconds(text).unwrap(), expected);
        }
        for text in ["", "m", "10", "0s", "25h", "1d", "-1m", "99999999999999999999h"] {
            seconds(text).unwrap_err();
        }
    }
}
