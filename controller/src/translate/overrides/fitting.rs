//! The Filters that a Patch stands for.

mod auth;
mod plain;

use kubeng_config::filter::Filter;
use kubeng_config::merge::Merged;
use kubeng_config::name::{BackendId, ObjectKey};
use kubeng_config::patch::Patch;
use kubeng_config::patch::reference::{BackendKind, BackendRef};
use kubeng_config::route::Route;

pub(super) use plain::leads_nowhere;

use super::{closed, guard, misfit, owners};
use crate::kind::ingress::PortName;
use crate::translate::refusal::Refused;
use crate::world::view::View;

/// One member that became a Filter, became none because it only tunes, or closes the Route.
type Made = Result<Option<Filter>, Refused>;

/// The Filters of `patch` for a Route of `object`.
///
/// # Errors
/// With why the Route is closed: something that protects cannot be carried out.
pub(super) fn filters(
    view: &mut View<'_>,
    object: &ObjectKey,
    patch: &Patch,
    merged: &Merged,
) -> Result<Vec<Filter>, Refused> {
    let mut filters = Vec::new();
    for (pointer, made) in protecting(view, object, patch) {
        let because = |refused: Refused| {
            let owners = owners(merged, pointer);
            closed(&format!("{pointer} of {owners}: {}", refused.message), &owners)
        };
        filters.extend(made.map_err(because)?);
    }
    for (_, made) in tuning(view, object, patch) {
        // What only tunes and cannot be carried out is left out; its override says so.
        filters.extend(made.ok().flatten());
    }
    Ok(filters)
}

/// The Filters that `patch` stands for where it is for all Routes of a fleet: those that name nothing
/// of a namespace.
///
/// # Errors
/// With where it cannot be carried out, and why.
pub(crate) fn of_fleet(patch: &Patch) -> Result<Vec<Filter>, (&'static str, Refused)> {
    let Patch { headers, buffering, compression, request_id, .. } = patch;
    let mut made = bounding(patch);
    if let Some(headers) = headers {
        made.push(("/headers/request", Ok(plain::request_headers(headers))));
        made.push(("/headers/response", Ok(plain::response_headers(headers))));
    }
    made.extend(buffering.as_ref().map(|wanted| ("/buffering", plain::buffering(wanted))));
    made.extend(compression.as_ref().map(|wanted| ("/compression", plain::compression(wanted))));
    made.extend(request_id.as_ref().map(|ids| ("/requestId", Ok(plain::request_id(ids)))));
    let mut filters = Vec::new();
    for (pointer, made) in made {
        filters.extend(made.map_err(|refused| (pointer, refused))?);
    }
    Ok(filters)
}

/// Everything of `patch` that cannot be carried out as a whole, by pointer.
pub(super) fn faults(
    view: &mut View<'_>,
    object: &ObjectKey,
    patch: &Patch,
) -> Vec<(&'static str, Refused)> {
    let mut made = protecting(view, object, patch);
    made.extend(tuning(view, object, patch));
    let mut faults: Vec<_> =
        made.into_iter().filter_map(|(pointer, made)| Some((pointer, made.err()?))).collect();
    let basic = patch.auth.as_ref().and_then(|auth| auth.basic.as_ref());
    let unusable = basic.and_then(|basic| auth::unusable_users(view, object, basic));
    faults.extend(unusable.map(|refused| ("/auth/basic/secretRef", refused)));
    faults
}

fn protecting(view: &mut View<'_>, object: &ObjectKey, patch: &Patch) -> Vec<(&'static str, Made)> {
    let Patch { auth, cors, .. } = patch;
    let mut made = bounding(patch);
    if let Some(auth) = auth {
        let (basic, jwt, external) = (&auth.basic, &auth.jwt, &auth.external);
        made.extend(basic.iter().map(|basic| ("/auth/basic", auth::basic(view, object, basic))));
        made.extend(jwt.iter().map(|jwt| ("/auth/jwt", auth::jwt(view, object, jwt))));
        let asked =
            external.iter().map(|asked| ("/auth/external", auth::external(view, object, asked)));
        made.extend(asked);
    }
    made.extend(cors.as_ref().map(|cors| ("/cors", plain::cors(cors))));
    made
}

/// Who may ask, and how much: what protects and names nothing of a namespace.
fn bounding(patch: &Patch) -> Vec<(&'static str, Made)> {
    let Patch { access, limits, .. } = patch;
    let mut made = Vec::new();
    made.extend(access.as_ref().map(|access| ("/access", plain::access(access))));
    if let Some(limits) = limits {
        made.push(("/limits", Ok(plain::body_limit(limits))));
        made.extend(limits.rate.as_ref().map(|rate| ("/limits/rate", plain::rate(rate))));
        let concurrency = limits.concurrency.as_ref();
        made.extend(concurrency.map(|limit| ("/limits/concurrency", plain::concurrency(limit))));
    }
    made
}

fn tuning(view: &mut View<'_>, object: &ObjectKey, patch: &Patch) -> Vec<(&'static str, Made)> {
    let mut made = Vec::new();
    if let Some(headers) = &patch.headers {
        made.push(("/headers/request", Ok(plain::request_headers(headers))));
        made.push(("/headers/response", Ok(plain::response_headers(headers))));
    }
    let Patch {
        rewrite,
        redirect,
        buffering,
        mirror,
        compression,
        error_pages,
        request_id,
        maintenance,
        ..
    } = patch;
    made.extend(rewrite.as_ref().map(|rewrite| ("/rewrite", Ok(plain::rewrite(rewrite)))));
    made.extend(redirect.as_ref().map(|redirect| ("/redirect", Ok(plain::redirect(redirect)))));
    made.extend(request_id.as_ref().map(|ids| ("/requestId", Ok(plain::request_id(ids)))));
    made.extend(buffering.as_ref().map(|wanted| ("/buffering", plain::buffering(wanted))));
    made.extend(compression.as_ref().map(|wanted| ("/compression", plain::compression(wanted))));
    let wanted = maintenance.as_ref();
    made.extend(wanted.map(|wanted| ("/maintenance", Ok(plain::maintenance(wanted)))));
    if let Some(mirror) = mirror {
        made.push(("/mirror", mirror_of(view, object, mirror)));
    }
    if let Some(pages) = error_pages {
        made.push(("/errorPages", plain::error_pages(view, object, pages)));
    }
    made
}

fn mirror_of(
    view: &mut View<'_>,
    object: &ObjectKey,
    mirror: &kubeng_config::patch::body::MirrorPatch,
) -> Made {
    let needed = || misfit("a mirror needs a backend", "write mirror.backend with name and port");
    let to = mirror.backend.as_ref().ok_or_else(needed)?;
    let backend = backend(view, object, to)?;
    plain::mirror(mirror, backend)
}

/// The Backend of a reference, of the namespace of `object`.
pub(super) fn backend(
    view: &mut View<'_>,
    object: &ObjectKey,
    reference: &BackendRef,
) -> Result<BackendId, Refused> {
    let key = object.beside(reference.kind.object(), reference.name.as_str());
    let found = match (reference.kind, reference.port) {
        (BackendKind::Service, Some(port)) => {
            let port = u16::try_from(port.get()).unwrap_or_default();
            view.service_port(&key, &PortName::Number(port))
        }
        (BackendKind::Upstream, None) => view.backend(BackendId { object: key, port: None }),
        (BackendKind::Service, None) => {
            return Err(misfit(format!("{key} is named without a port"), "write its port"));
        }
        (BackendKind::Upstream, Some(_)) => {
            return Err(misfit(format!("{key} is named with a port"), "remove the port"));
        }
    };
    found.map_err(|refused| Refused::clone(&refused))
}

/// Puts Filters on a Route, in the place of those of its own that are of their kind.
///
/// Edits of headers are the exception: those of the Route come first.
pub(super) fn put(route: &mut Route, filters: Vec<Filter>, merged: &Merged) {
    route.filters.retain(|filter| {
        let pointer = guard::pointer(filter);
        let is_replaced = filters.iter().any(|new| guard::pointer(new) == pointer);
        !merged.resets(pointer) && (is_edit(pointer) || !is_replaced)
    });
    route.filters.extend(filters);
    route.filters.sort_by_key(guard::order);
}

/// Whether `pointer` is that of edits of headers, of which a Route may have several.
pub(super) fn is_edit(pointer: &str) -> bool {
    pointer.starts_with("/headers/")
}
