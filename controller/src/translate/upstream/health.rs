//! How the endpoints of an Upstream are asked whether they are well.

use std::time::Duration;

use kubeng_config::backend::health::{HealthCheck, HttpProbe, Probe};
use kubeng_config::name::Hostname;
use kubeng_config::path::CanonicalPath;
use kubeng_config::problem::Problem;

use super::fields::{HOUR, bad, duration, number};
use crate::kind::upstream::UpstreamHealth;
use crate::object::Object;

/// The check; `first_host` is asked for where no host is written. A probe that cannot be asked is none: an Upstream without an answer to a wrong question
/// would be out as a whole. A number that cannot be used keeps its default.
pub(super) fn of(
    object: &Object,
    written: &UpstreamHealth,
    first_host: Option<Hostname>,
    problems: &mut Vec<Problem>,
) -> Option<HealthCheck> {
    let mut check = HealthCheck::new(probe(object, written, first_host, problems)?);
    let mut time = |name: &str, written: Option<&str>, range| {
        duration(object, &format!("/spec/health/{name}"), written, range, problems)
    };
    let interval = time("interval", written.interval.as_deref(), INTERVAL_MIN..=HOUR);
    let timeout = time("timeout", written.timeout.as_deref(), TIMEOUT_MIN..=TIMEOUT_MAX);
    check.interval = interval.unwrap_or(INTERVAL);
    // A question is over before the next one begins.
    let default = TIMEOUT.min(check.interval / 2);
    check.timeout = timeout.filter(|timeout| *timeout < check.interval).unwrap_or(default);
    if timeout.is_some_and(|timeout| timeout >= check.interval) {
        let message = format!("timeout is not less than interval; {:?} is used", check.timeout);
        bad(object, "/spec/health/timeout", message, "write less than interval", problems);
    }
    let mut times = |name: &str, written| {
        number(object, &format!("/spec/health/{name}"), written, 1..=20, problems)
    };
    if let Some(times) = times("unhealthyAfter", written.unhealthy_after) {
        check.unhealthy_after = times;
    }
    if let Some(times) = times("healthyAfter", written.healthy_after) {
        check.healthy_after = times;
    }
    Some(check)
}

fn probe(
    object: &Object,
    written: &UpstreamHealth,
    first_host: Option<Hostname>,
    problems: &mut Vec<Problem>,
) -> Option<Probe> {
    match written.probe.as_deref().unwrap_or("http") {
        "tcp" => Some(Probe::Tcp),
        "grpc" => {
            Some(Probe::Grpc { service: written.service.as_deref().unwrap_or_default().into() })
        }
        "http" => http(object, written, first_host, problems).map(Probe::Http),
        other => {
            let message = format!("probe {other:?} is unknown; endpoints are not asked");
            bad(object, "/spec/health/probe", message, "write http, grpc or tcp", problems);
            None
        }
    }
}

fn http(
    object: &Object,
    written: &UpstreamHealth,
    first_host: Option<Hostname>,
    problems: &mut Vec<Problem>,
) -> Option<HttpProbe> {
    let mut not_asked = |field: &str, message: String, remedy: &str| {
        let message = format!("{message}; endpoints are not asked");
        bad(object, &format!("/spec/health/{field}"), message, remedy, problems);
    };
    let path = written.path.as_deref().unwrap_or("/");
    let Ok(path) = CanonicalPath::of_rule(path) else {
        not_asked("path", format!("{path:?} is no path"), "write an absolute path");
        return None;
    };
    let host = match written.host.as_deref().map(str::parse).transpose() {
        Ok(host) => host.or(first_host),
        Err(error) => {
            not_asked("host", format!("the host cannot be used: {error}"), "write a DNS name");
            return None;
        }
    };
    let mut statuses = Vec::new();
    for text in &written.expect {
        let Some(range) = statuses_of(text) else {
            let message = format!("{text:?} is neither a status nor a range of them");
            not_asked("expect", message, "write statuses such as \"200\" or \"200-399\"");
            return None;
        };
        statuses.push(range);
    }
    if statuses.is_empty() {
        statuses.push((200, 399));
    }
    Some(HttpProbe { path, host, statuses })
}

fn statuses_of(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.parse().ok().filter(|status| (100..=599).contains(status));
    let (from, to) = (status(from)?, status(to)?);
    (from <= to).then_some((from, to))
}

/// From one question to the next unless it is written, and the least that may be.
const INTERVAL: Duration = Duration::from_secs(5);
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT_MIN: Duration = Duration::from_millis(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_single_or_ranges() {
        assert_eq!(statuses_of("200"), Some((200, 200)));
        assert_eq!(statuses_of("200-399"), Some((200, 399)));
        for bad in ["", "2xx", "99", "600", "399-200", "200-", "-200", "200-300-400"] {
            assert_eq!(statuses_of(bad), None, "{bad}");
        }
    }
}
