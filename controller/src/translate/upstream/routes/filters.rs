//! The filters of a route: `HTTPRouteFilter` of Gateway API, in the order in which they are written.

use kubeng_config::bounded::{AtMost, Between};
use kubeng_config::editable::EditableName;
use kubeng_config::filter::Filter;
use kubeng_config::filter::cors::{Cors, Names};
use kubeng_config::filter::headers::{Field, HeaderEdits};
use kubeng_config::filter::mirror::Mirror;
use kubeng_config::filter::redirect::{Redirect, RedirectStatus, SentOn};
use kubeng_config::filter::rewrite::{PathRewrite, Rewrite};
use kubeng_config::matching::{Match, PathPrefix};
use kubeng_config::name::{BackendId, Hostname, ObjectKind};
use kubeng_config::path::CanonicalPath;
use kubeng_config::problem::{BAD_VALUE, KIND_NOT_SERVED, NOT_PERMITTED};
use kubeng_config::request::Scheme;

use super::Draft;
use crate::kind::ingress::PortName;
use crate::kind::upstream::route::{
    RouteBackend, RouteCors, RouteField, RouteFilter, RouteHeaders, RouteMirror, RoutePathEdit,
    RouteRedirect, RouteRewrite, UpstreamRoute,
};
use crate::translate::overrides::prefix::has_prefix;
use crate::translate::refusal::Refused;
use crate::world::view::View;

/// The Filters; None when one cannot be honoured, and so the route neither.
pub(super) fn of(
    view: &mut View<'_>,
    draft: &mut Draft<'_>,
    place: &str,
    route: &UpstreamRoute,
    matches: &[Match],
) -> Option<Vec<Filter>> {
    let mut filters = Vec::new();
    let mut is_broken = false;
    for (at, written) in route.filters.iter().enumerate() {
        let field = format!("{place}/filters/{at}");
        match one(view, draft, &field, written) {
            Ok(filter) => filters.extend(filter),
            Err(Fault { below, refused }) => {
                is_broken = true;
                draft.problems.push(refused.problem(draft.object, format!("{field}{below}")));
            }
        }
        let before = route.filters.iter().take(at);
        let is_again = written.kind != "RequestMirror"
            && before.clone().any(|other| other.kind == written.kind);
        let excludes = |one: &str, other: &str| {
            written.kind == one && before.clone().any(|before| before.kind == other)
        };
        let is_either =
            excludes("RequestRedirect", "URLRewrite") || excludes("URLRewrite", "RequestRedirect");
        if is_again || is_either {
            is_broken = true;
            let message = format!("{} cannot stand beside a filter before it", written.kind);
            draft.bad(
                &field,
                message,
                "write each filter once, and either a redirect or a rewrite",
            );
        }
    }
    if filters.iter().any(replaces_prefix) && !matches.iter().all(has_prefix) {
        is_broken = true;
        let message = "ReplacePrefixMatch needs matches of type PathPrefix only".to_owned();
        let remedy = "use ReplaceFullPath, or match by PathPrefix";
        draft.bad(&format!("{place}/filters"), message, remedy);
    }
    (!is_broken).then_some(filters)
}

/// Why a filter cannot be honoured, and where in it.
struct Fault {
    below: String,
    refused: Refused,
}

fn fault(below: impl Into<String>, message: String, remedy: &str) -> Fault {
    Fault { below: below.into(), refused: Refused::new(BAD_VALUE, message, remedy) }
}

fn one(
    view: &mut View<'_>,
    draft: &mut Draft<'_>,
    field: &str,
    written: &RouteFilter,
) -> Result<Option<Filter>, Fault> {
    let RouteFilter {
        kind,
        request_header_modifier,
        response_header_modifier,
        request_redirect,
        url_rewrite,
        request_mirror,
        cors,
    } = written;
    let members = [
        ("RequestHeaderModifier", "requestHeaderModifier", request_header_modifier.is_some()),
        ("ResponseHeaderModifier", "responseHeaderModifier", response_header_modifier.is_some()),
        ("RequestRedirect", "requestRedirect", request_redirect.is_some()),
        ("URLRewrite", "urlRewrite", url_rewrite.is_some()),
        ("RequestMirror", "requestMirror", request_mirror.is_some()),
        ("CORS", "cors", cors.is_some()),
    ];
    let Some((_, own, _)) = members.iter().find(|(known, ..)| known == kind) else {
        let known: Vec<&str> = members.iter().map(|(known, ..)| *known).collect();
        let remedy = format!("write one of {}", known.join(", "));
        return Err(fault("/type", format!("filter type {kind:.80?} is unknown"), &remedy));
    };
    if let Some((_, other, _)) = members.iter().find(|(_, name, is)| *is && name != own) {
        let message = format!("{other} does not belong to a filter of type {kind}");
        return Err(fault(format!("/{other}"), message, "move it to a filter of its own type"));
    }
    let below = |found: Fault| Fault { below: format!("/{own}{}", found.below), ..found };
    let filter = if let Some(written) = request_header_modifier {
        headers(written).map(Filter::RequestHeaders).map(Some)
    } else if let Some(written) = response_header_modifier {
        headers(written).map(Filter::ResponseHeaders).map(Some)
    } else if let Some(written) = request_redirect {
        redirect(written).map(Filter::Redirect).map(Some)
    } else if let Some(written) = url_rewrite {
        rewrite(written).map(Filter::Rewrite).map(Some)
    } else if let Some(written) = request_mirror {
        mirror(view, draft, &format!("{field}/{own}"), written).map(|it| it.map(Filter::Mirror))
    } else if let Some(written) = cors {
        self::cors(written).map(Filter::Cors).map(Some)
    } else {
        return Err(fault("", format!("a filter of type {kind} has no {own}"), "write it"));
    };
    filter.map_err(below)
}

fn headers(written: &RouteHeaders) -> Result<HeaderEdits, Fault> {
    let RouteHeaders { set, add, remove } = written;
    let fields = |member: &str, fields: &[RouteField]| {
        let read = |(at, field): (usize, &RouteField)| {
            let place = format!("/{member}/{at}");
            let value = field.value.parse().map_err(|error| {
                fault(format!("{place}/value"), format!("{error}"), "write visible ASCII")
            })?;
            Ok(Field { name: field_name(&place, &field.name)?, value })
        };
        fields.iter().enumerate().map(read).collect::<Result<Vec<_>, Fault>>()
    };
    let (set, add) = (fields("set", set)?, fields("add", add)?);
    let remove = remove.iter().enumerate();
    let remove = remove.map(|(at, name)| field_name(&format!("/remove/{at}"), name));
    Ok(HeaderEdits { remove: remove.collect::<Result<_, _>>()?, set, add })
}

fn field_name(place: &str, written: &str) -> Result<EditableName, Fault> {
    written.parse().map_err(|error| {
        let message = format!("header {written:.80?} cannot be edited: {error}");
        fault(place, message, "name another header")
    })
}

fn redirect(written: &RouteRedirect) -> Result<Redirect, Fault> {
    let RouteRedirect { scheme, hostname, path, port, status_code } = written;
    let scheme = match scheme.as_deref() {
        None => None,
        Some("http") => Some(Scheme::Http),
        Some("https") => Some(Scheme::Https),
        Some(other) => {
            let message = format!("scheme {other:.80?} is unknown");
            return Err(fault("/scheme", message, "write http or https"));
        }
    };
    let port = port.map(|port| {
        let usable = u16::try_from(port).ok().filter(|port| *port != 0);
        usable.ok_or_else(|| fault("/port", format!("{port} is not a port"), "write 1 to 65535"))
    });
    let status = status_code.unwrap_or(302);
    let status = u16::try_from(status).ok().and_then(|it| RedirectStatus::try_from(it).ok());
    let status = status.ok_or_else(|| {
        fault("/statusCode", "it is no redirect".to_owned(), "write 301, 302, 303, 307 or 308")
    })?;
    let redirect = Redirect {
        scheme,
        host: host(hostname.as_deref())?,
        port: port.transpose()?,
        path: path.as_ref().map(path_edit).transpose()?,
        status,
        sent_on: SentOn::Everybody,
    };
    Ok(redirect.without_circle())
}

fn rewrite(written: &RouteRewrite) -> Result<Rewrite, Fault> {
    let RouteRewrite { hostname, path } = written;
    let host = host(hostname.as_deref())?;
    Ok(Rewrite { host, path: path.as_ref().map(path_edit).transpose()? })
}

fn host(written: Option<&str>) -> Result<Option<Hostname>, Fault> {
    written.map(Hostname::parse).transpose().map_err(|error| {
        fault("/hostname", format!("the host cannot be used: {error}"), "write a DNS name")
    })
}

fn path_edit(written: &RoutePathEdit) -> Result<PathRewrite, Fault> {
    let RoutePathEdit { kind, replace_full_path, replace_prefix_match } = written;
    let (member, value, other) = match kind.as_str() {
        "ReplaceFullPath" => ("replaceFullPath", replace_full_path, replace_prefix_match),
        "ReplacePrefixMatch" => ("replacePrefixMatch", replace_prefix_match, replace_full_path),
        unknown => {
            let message = format!("type {unknown:.80?} is unknown");
            let remedy = "write ReplaceFullPath or ReplacePrefixMatch";
            return Err(fault("/path/type", message, remedy));
        }
    };
    let (Some(value), None) = (value, other) else {
        let message = format!("type {kind} needs {member}, and nothing else");
        return Err(fault("/path", message, "write the member that the type names"));
    };
    let path = if value.is_empty() { "/" } else { value.as_str() };
    let path = CanonicalPath::of_rule(path).map_err(|error| {
        let message = format!("{value:.80?} is not a path: {error}");
        fault(format!("/path/{member}"), message, "write an absolute path")
    })?;
    Ok(match member {
        "replaceFullPath" => PathRewrite::Full(path),
        _ => PathRewrite::Prefix(PathPrefix::new(&path)),
    })
}

/// Whether a path is made of what is behind the prefix that was matched.
pub(crate) fn replaces_prefix(filter: &Filter) -> bool {
    let path = match filter {
        Filter::Redirect(redirect) => redirect.path.as_ref(),
        Filter::Rewrite(rewrite) => rewrite.path.as_ref(),
        Filter::RequestHeaders(_)
        | Filter::ResponseHeaders(_)
        | Filter::Cors(_)
        | Filter::ClientAddress(_)
        | Filter::RateLimit(_)
        | Filter::ConcurrencyLimit(_)
        | Filter::BasicAuth(_)
        | Filter::Jwt(_)
        | Filter::ExternalAuth(_)
        | Filter::BodyLimit(_)
        | Filter::RequestId(_)
        | Filter::Mirror(_)
        | Filter::Compression(_)
        | Filter::Buffering(_)
        | Filter::Maintenance(_)
        | Filter::ErrorPages(_) => None,
    };
    matches!(path, Some(PathRewrite::Prefix(_)))
}

/// A mirror that leads nowhere is left out and told: nobody waits for its answers.
fn mirror(
    view: &mut View<'_>,
    draft: &mut Draft<'_>,
    field: &str,
    written: &RouteMirror,
) -> Result<Option<Mirror>, Fault> {
    let RouteMirror { backend_ref, percent, fraction } = written;
    let (copied, of) = match (percent, fraction) {
        (None, None) => (1, 1),
        (Some(percent), None) => (*percent, 100),
        (None, Some(fraction)) => (fraction.numerator, fraction.denominator.unwrap_or(100)),
        (Some(_), Some(_)) => {
            let message = "percent and fraction exclude each other".to_owned();
            return Err(fault("", message, "remove one of the two"));
        }
    };
    let usable = (0..=of).contains(&copied) && (1..=1_000_000).contains(&of);
    let share = u64::try_from(copied).ok().zip(u64::try_from(of).ok()).filter(|_| usable);
    let Some((copied, of)) = share else {
        let message = format!("{copied} of {of} requests cannot be copied");
        return Err(fault("", message, "write 0 to 100 percent, or a fraction of at most 1"));
    };
    let backend = match lead(view, draft, backend_ref) {
        Ok(backend) => backend,
        Err(refused) => {
            let field = format!("{field}/backendRef");
            draft.problems.push(refused.problem(draft.object, field));
            return Ok(None);
        }
    };
    Ok((copied > 0).then(|| Mirror {
        backend,
        of: Between::clamped(of),
        copied: Between::clamped(copied),
        body_bytes_max: Between::clamped(64 * 1024),
        timeout_millis: Between::clamped(10_000),
    }))
}

fn lead(
    view: &mut View<'_>,
    draft: &Draft<'_>,
    written: &RouteBackend,
) -> Result<BackendId, Refused> {
    let RouteBackend { group, kind, name, namespace, port } = written;
    let own = &draft.object.key;
    if namespace.as_deref().is_some_and(|namespace| *namespace != *own.namespace) {
        let message = "a backend of another namespace may not be named".to_owned();
        return Err(Refused::new(NOT_PERMITTED, message, "name one of this namespace"));
    }
    let group = group.as_deref().unwrap_or_default();
    match (group, kind.as_deref().unwrap_or("Service")) {
        ("" | "core", "Service") => {
            let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
            let Some(port) = port else {
                let message = "a Service needs the number of a port".to_owned();
                return Err(Refused::new(BAD_VALUE, message, "write port, 1 to 65535"));
            };
            let service = own.beside(ObjectKind::Service, name);
            view.service_port(&service, &PortName::Number(port))
        }
        ("kubeng.io", "Upstream") => {
            let object = own.beside(ObjectKind::Upstream, name);
            view.backend(BackendId { object, port: None })
        }
        (_, kind) => {
            let message = format!("{kind:.80} {name:.80?} cannot be served");
            let remedy = "name a Service, or an Upstream of group kubeng.io";
            return Err(Refused::new(KIND_NOT_SERVED, message, remedy));
        }
    }
    .map_err(|refused| (*refused).clone())
}

fn cors(written: &RouteCors) -> Result<Cors, Fault> {
    let RouteCors {
        allow_origins,
        allow_credentials,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
    } = written;
    let max_age = u64::try_from(max_age.unwrap_or(5)).ok().and_then(|age| Between::new(age).ok());
    let max_age_seconds = max_age.ok_or_else(|| {
        fault("/maxAge", "it is out of range".to_owned(), "write 0 to 86400 seconds")
    })?;
    Ok(Cors {
        allow_origins: all("allowOrigins", allow_origins)?,
        allow_methods: names("allowMethods", allow_methods)?,
        allow_headers: names("allowHeaders", allow_headers)?,
        expose_headers: names("exposeHeaders", expose_headers)?,
        allow_credentials: allow_credentials.unwrap_or(false),
        max_age_seconds,
    })
}

/// `*` stands for all names, and by itself.
fn names<T: std::str::FromStr, const MAX: usize>(
    member: &str,
    written: &[String],
) -> Result<Names<T, MAX>, Fault> {
    match written {
        [one] if one == "*" => Ok(Names::All),
        all if all.iter().any(|one| one == "*") => {
            let message = "* stands for all names, so it stands alone".to_owned();
            Err(fault(format!("/{member}"), message, "write * alone, or names only"))
        }
        all => self::all(member, all).map(Names::These),
    }
}

fn all<T: std::str::FromStr, const MAX: usize>(
    member: &str,
    written: &[String],
) -> Result<AtMost<T, MAX>, Fault> {
    let read = |(at, text): (usize, &String)| {
        let place = format!("/{member}/{at}");
        text.parse().map_err(|_| fault(place, format!("{text:.80?} cannot be used"), CORS_REMEDY))
    };
    let read: Vec<T> = written.iter().enumerate().map(read).collect::<Result<_, _>>()?;
    AtMost::new(read)
        .map_err(|error| fault(format!("/{member}"), error.to_string(), "write fewer of them"))
}

const CORS_REMEDY: &str = "write origins such as https://a.example, methods and header names";
