//! Letting clients in by their address.

use std::net::IpAddr;

use http::StatusCode;
use ipnet::IpNet;
use kubeng_config::filter::client_address::ClientAddress;

use super::{Step, Target};
use crate::forward;

/// Lets a request pass or answers 403.
pub(crate) fn on_request(rule: &ClientAddress, target: &Target<'_>) -> Step {
    let client = forward::client_address(target.facts, target.headers);
    if client.is_some_and(|client| lets_in(rule, client)) {
        Step::Pass
    } else {
        Step::status(StatusCode::FORBIDDEN)
    }
}

fn lets_in(rule: &ClientAddress, client: IpAddr) -> bool {
    let ClientAddress { allow, deny } = rule;
    !is_in(deny, client) && (allow.is_empty() || is_in(allow, client))
}

/// Whether `client` belongs to one of `nets`.
pub(super) fn is_in(nets: &[IpNet], client: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&client))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: &str, client: &str, expected: bool) {
        let rule: ClientAddress = serde_json::from_str(rule).unwrap();
        assert_eq!(lets_in(&rule, client.parse().unwrap()), expected, "{rule:?} {client}");
    }

    #[test]
    fn who_is_denied_stays_out_also_where_he_is_allowed() {
        let both = r#"{"allow":["10.0.0.0/8","2001:db8::/32"],"deny":["10.1.0.0/16"]}"#;
        check(both, "10.0.0.1", true);
        check(both, "10.1.0.1", false);
        check(both, "192.0.2.1", false);
        check(both, "2001:db8::1", true);
        check(r#"{"deny":["10.1.0.0/16"]}"#, "10.1.0.1", false);
        check(r#"{"deny":["10.1.0.0/16"]}"#, "10.2.0.1", true);
        check("{}", "10.2.0.1", true);
    }
}
