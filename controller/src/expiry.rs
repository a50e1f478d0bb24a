//! Certificates that end: told in time, and served all the same. Overrides end in [`overrides`], OCSP
//! responses in `staples`.

pub mod overrides;
mod staples;

use std::time::Duration;

use kubeng_config::name::ObjectKey;
use kubeng_config::problem::{CERTIFICATE_ENDED, CERTIFICATE_ENDS, Problem, Subject};

use crate::world::World;

/// How long before its end a certificate is told.
pub const TOLD_BEFORE: Duration = Duration::from_secs(14 * 24 * 3600);

/// How often the clock is looked at.
pub(crate) const LOOKED_AT_EVERY: Duration = Duration::from_secs(60);

/// The certificates that have ended at `now`, in seconds since 1970, or do so soon.
#[must_use]
pub fn problems(world: &World, now: i64) -> Vec<Problem> {
    let Some(snapshot) = world.snapshot(&world.settings().fleet) else { return Vec::new() };
    let soon = i64::try_from(TOLD_BEFORE.as_secs()).unwrap_or(i64::MAX);
    let parts = snapshot.certificates().sorted().into_iter();
    parts
        .filter_map(|(id, part)| {
            let end = part.value().not_after;
            let (code, verb) = match end.saturating_sub(now) {
                left if left <= 0 => (CERTIFICATE_ENDED, "ended"),
                left if left <= soon => (CERTIFICATE_ENDS, "ends"),
                _ => return None,
            };
            let key: Option<ObjectKey> = id.as_str().parse().ok();
            let object = key.as_ref().and_then(|key| world.object(key));
            Some(Problem {
                subject: key
                    .clone()
                    .map_or_else(|| Subject::Other(id.to_string()), Subject::Object),
                field: "/data/tls.crt".to_owned(),
                code,
                message: format!("the certificate {verb} at {}", moment(end)),
                remedy: "store a newer chain and its key in the Secret".to_owned(),
                provenance: object.map(|object| object.provenance.clone()),
            })
        })
        .collect()
}

pub(crate) fn moment(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(moment) => moment.to_string(),
        // Behind the year 9999, which some write for "never".
        Err(_) => format!("{seconds} s after 1970"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kubeng_config::listener::{Listener, Protocol};
    use kubeng_config::provenance::Provenance;
    use serde_json::{Value, json};

    use super::*;
    use crate::decode::{Decoded, decode};
    use crate::object::{Author, Change};
    use crate::settings::TranslateSettings;

    const END: i64 = 1_800_000_000;
    const DAY: i64 = 24 * 3600;

    fn upsert(value: Value) -> Change {
        match decode(value, Provenance::Product, Author::Operator) {
            Decoded::Object(object) => Change::Upsert(Arc::new(*object)),
            Decoded::Ignored | Decoded::Undecodable(..) | Decoded::Closed(..) => {
                panic!("it is an object")
            }
        }
    }

    /// A world that serves `a.example` with a certificate that ends at [`END`].
    fn world() -> World {
        let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2027, 1, 15);
        let key = rcgen::KeyPair::generate().unwrap();
        let chain = params.self_signed(&key).unwrap();
        let about = |name: &str| json!({"namespace": "shop", "name": name});
        let listener = Listener::new(([127, 0, 0, 1], 443).into(), Protocol::Https);
        let fleet = "main".parse().unwrap();
        let settings = TranslateSettings::new(fleet, vec![("https".parse().unwrap(), listener)]);
        let changes = [
            upsert(json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": about("cert"),
                "type": "kubernetes.io/tls",
                "stringData": {"tls.crt": chain.pem(), "tls.key": key.serialize_pem()},
            })),
            upsert(json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": about("web"),
                "spec": {
                    "ingressClassName": "kubeng",
                    "tls": [{"hosts": ["a.example"], "secretName": "cert"}],
                    "rules": [{"host": "a.example", "http": {"paths": [{
                        "path": "/", "pathType": "Prefix",
                        "backend": {"service": {"name": "web", "port": {"number": 80}}},
                    }]}}],
                },
            })),
        ];
        World::new(settings).step(&changes).world
    }

    #[test]
    fn the_end_of_a_certificate_is_told_in_time() {
        let world = world();
        let midnight = END - END % DAY;
        for (now, expected) in [
            (midnight - 15 * DAY, None),
            (midnight - 14 * DAY, Some(CERTIFICATE_ENDS)),
            (midnight - 1, Some(CERTIFICATE_ENDS)),
            (midnight, Some(CERTIFICATE_ENDED)),
            (midnight + 400 * DAY, Some(CERTIFICATE_ENDED)),
        ] {
            let problems = problems(&world, now);
            assert_eq!(problems.first().map(|problem| problem.code), expected, "{problems:?}");
            for problem in problems {
                assert_eq!(problem.subject.to_string(), "Secret/shop/cert");
                assert!(problem.message.contains("2027-01-15T00:00:00Z"), "{problem}");
            }
        }
    }
}
