//! The tls sections of Ingresses.

use std::sync::Arc;

use kubeng_config::matching::HostMatch;
use kubeng_config::name::{CertificateId, ObjectKey, ObjectKind};
use kubeng_config::problem::{NO_LISTENER, NOT_COVERED, Problem, SHADOWED};

use super::certificate::{Chain, covers};
use super::claims::{bad_host, has_tls, host_match, rule_hosts, tls_hosts};
use super::refusal::Refused;
use crate::kind::ingress::{Ingress, IngressTls};
use crate::object::Object;
use crate::world::view::View;

/// The certificate that the tls sections of one Ingress give to `host`.
///
/// First comes a section that lists the host, then the first Secret whose names
/// cover it, then a section that lists no hosts, which means those of all rules.
pub(crate) fn choose(
    view: &mut View<'_>,
    key: &ObjectKey,
    ingress: &Ingress,
    host: &HostMatch,
) -> Option<CertificateId> {
    let mut choices: Vec<(u8, CertificateId)> = Vec::new();
    for tls in &ingress.tls {
        let Some(chain) = chain_of(view, key, tls) else { continue };
        let Ok((id, certificate)) = chain.certificate() else { continue };
        let lists = tls.hosts.iter().any(|listed| host_match(Some(listed)).as_ref() == Ok(host));
        if lists {
            choices.push((0, id.clone()));
        } else if covers(certificate, host) {
            choices.push((1, id.clone()));
        } else if tls.hosts.is_empty() {
            choices.push((2, id.clone()));
        }
    }
    // The first of equals stays: `min_by_key` gives the first minimum.
    choices.into_iter().min_by_key(|(place, _)| *place).map(|(_, id)| id)
}

/// What is wrong with the tls sections, after asking for the settings of every host.
pub(crate) fn check(view: &mut View<'_>, object: &Object, ingress: &Ingress) -> Vec<Problem> {
    let mut problems = Vec::new();
    let has_https = view.settings().has_https();
    for (number, tls) in ingress.tls.iter().enumerate() {
        let field = format!("/spec/tls/{number}");
        if has_https {
            check_section(view, object, ingress, (&field, tls), &mut problems);
        } else {
            let message = "the fleet has no HTTPS listener".to_owned();
            let remedy = "start Kubeng with --https, or remove the tls section";
            let refused = Refused::new(NO_LISTENER, message, remedy);
            problems.push(refused.problem(object, field));
        }
    }
    let is_asked = (has_https && has_tls(ingress)) || view.settings().default_backend.is_some();
    if is_asked {
        let mut hosts = rule_hosts(ingress);
        hosts.extend(tls_hosts(ingress));
        hosts.sort();
        hosts.dedup();
        for host in &hosts {
            check_host(view, object, ingress, host, &mut problems);
        }
    }
    problems
}

fn check_section(
    view: &mut View<'_>,
    object: &Object,
    ingress: &Ingress,
    (field, tls): (&str, &IngressTls),
    problems: &mut Vec<Problem>,
) {
    let chain = chain_of(view, &object.key, tls);
    let certificate = match chain.as_deref().map(Chain::certificate) {
        Some(Ok((id, certificate))) => Some((id, certificate)),
        Some(Err(refused)) => {
            problems.push(refused.problem(object, format!("{field}/secretName")));
            None
        }
        None => None,
    };
    let not_covered = |host: &HostMatch| {
        let message = format!("the certificate does not name {host}");
        let remedy = "put the host into the certificate, or name another Secret";
        Refused::new(NOT_COVERED, message, remedy)
    };
    for (number, written) in tls.hosts.iter().enumerate() {
        let field = format!("{field}/hosts/{number}");
        match (host_match(Some(written)), certificate) {
            (Err(error), _) => {
                problems.push(bad_host(written, &error).problem(object, field));
            }
            (Ok(host), Some((_, certificate))) if !covers(certificate, &host) => {
                problems.push(not_covered(&host).problem(object, field));
            }
            (Ok(_), _) => {}
        }
    }
    if let Some((id, certificate)) = certificate.filter(|_| tls.hosts.is_empty()) {
        for host in rule_hosts(ingress).iter().filter(|host| **host != HostMatch::Any) {
            let is_used = choose(view, &object.key, ingress, host).as_ref() == Some(id);
            if is_used && !covers(certificate, host) {
                problems.push(not_covered(host).problem(object, field.to_owned()));
            }
        }
    }
}

/// Asks for the settings of `host`, which keeps them in being, and tells whose certificate it gets.
fn check_host(
    view: &mut View<'_>,
    object: &Object,
    ingress: &Ingress,
    host: &HostMatch,
    problems: &mut Vec<Problem>,
) {
    let settings = view.host(host);
    let Some(winner) = &settings.certificate else { return };
    let Some(mine) = choose(view, &object.key, ingress, host) else { return };
    if winner.by != object.key && winner.id != mine {
        let message = format!("the certificate of {host} is that of {}, which is older", winner.by);
        let remedy = "name one Secret for the host in all Ingresses, or in one only";
        let refused = Refused::new(SHADOWED, message, remedy);
        problems.push(refused.problem(object, "/spec/tls".to_owned()));
    }
}

/// What the Secret of a section holds; none where it names no Secret.
fn chain_of(view: &mut View<'_>, ingress: &ObjectKey, tls: &IngressTls) -> Option<Arc<Chain>> {
    let name = tls.secret.as_deref().filter(|name| !name.is_empty())?;
    Some(view.certificate(&ObjectKey::new(ObjectKind::Secret, &ingress.namespace, name)))
}
