//! What needs nothing but itself.

use kubeng_config::bounded::{AtMost, Between};
use kubeng_config::filter::Filter;
use kubeng_config::filter::body_limit::BodyLimit;
use kubeng_config::filter::buffering::Buffering;
use kubeng_config::filter::client_address::ClientAddress;
use kubeng_config::filter::compression::Compression;
use kubeng_config::filter::concurrency_limit::ConcurrencyLimit;
use kubeng_config::filter::cors::{Cors, Names};
use kubeng_config::filter::error_pages::{ErrorPage, ErrorPages, PageSource};
use kubeng_config::filter::headers::HeaderEdits;
use kubeng_config::filter::maintenance::{Maintenance, MaintenancePage};
use kubeng_config::filter::mirror::Mirror;
use kubeng_config::filter::rate_limit::RateLimit;
use kubeng_config::filter::redirect::{Redirect, RedirectStatus, SentOn};
use kubeng_config::filter::request_id::RequestIds;
use kubeng_config::filter::rewrite::Rewrite;
use kubeng_config::name::{BackendId, ObjectKey};
use kubeng_config::patch::access::Access;
use kubeng_config::patch::answer::{
    CorsPatch, ErrorPagePatch, MaintenancePatch, NameList, PageFrom, RequestIdPatch,
};
use kubeng_config::patch::body::{BufferingPatch, CompressionPatch, MirrorPatch};
use kubeng_config::patch::headers::{Edits, Headers};
use kubeng_config::patch::limits::{ConcurrencyPatch, Limits, RatePatch};
use kubeng_config::patch::scalar::{Bytes, Percent, Span};
use kubeng_config::patch::url::{PathEdit, RedirectPatch, RewritePatch};

use super::{Made, backend, misfit};
use crate::world::view::View;

pub(super) fn access(access: &Access) -> Made {
    let Access { allow, deny } = access;
    if allow.is_none() && deny.is_none() {
        return Ok(None);
    }
    // For the proxy it would stand for all; whoever writes it may mean nobody.
    if allow.as_ref().is_some_and(|allow| allow.is_empty()) {
        let remedy = "name networks, or write null to let all in";
        return Err(misfit("access.allow is empty, so it does not say who is let in", remedy));
    }
    Ok(Some(Filter::ClientAddress(ClientAddress {
        allow: allow.clone().unwrap_or_default(),
        deny: deny.clone().unwrap_or_default(),
    })))
}

pub(super) fn body_limit(limits: &Limits) -> Option<Filter> {
    let bytes = |written: Option<Bytes>| written.map(|bytes| Between::clamped(bytes.get()));
    let limit = BodyLimit {
        request_bytes_max: bytes(limits.request_body),
        response_bytes_max: bytes(limits.response_body),
    };
    (limit != BodyLimit::default()).then_some(Filter::BodyLimit(limit))
}

pub(super) fn rate(rate: &RatePatch) -> Made {
    let RatePatch { requests, per, burst, by, replicas, scope, exempt, status } = rate;
    let needed = || misfit("a rate says no requests", "write limits.rate.requests");
    let requests = requests.ok_or_else(needed)?;
    Ok(Some(Filter::RateLimit(RateLimit {
        key: by.clone().unwrap_or_default().0,
        requests,
        per_seconds: Between::clamped(per.map_or(1, Span::seconds)),
        burst: burst.unwrap_or(requests),
        replicas: replicas.unwrap_or(Between::SMALLEST),
        scope: scope.unwrap_or_default(),
        keys_max: KEYS_MAX,
        exempt: exempt.clone().unwrap_or_default(),
        status: status.unwrap_or_default(),
    })))
}

pub(super) fn concurrency(limit: &ConcurrencyPatch) -> Made {
    let ConcurrencyPatch { requests, by, exempt, status } = limit;
    let needed = || misfit("a concurrency says no requests", "write limits.concurrency.requests");
    Ok(Some(Filter::ConcurrencyLimit(ConcurrencyLimit {
        key: by.clone().unwrap_or_default().0,
        requests: requests.ok_or_else(needed)?,
        keys_max: KEYS_MAX,
        exempt: exempt.clone().unwrap_or_default(),
        status: status.unwrap_or_default(),
    })))
}

pub(super) fn cors(cors: &CorsPatch) -> Made {
    let CorsPatch { origins, methods, headers, expose_headers, credentials, max_age } = cors;
    let needed = || misfit("no origin is named", "write cors.origins");
    Ok(Some(Filter::Cors(Cors {
        allow_origins: origins.clone().ok_or_else(needed)?,
        allow_methods: names(methods.as_ref()),
        allow_headers: names(headers.as_ref()),
        expose_headers: names(expose_headers.as_ref()),
        allow_credentials: credentials.unwrap_or_default(),
        max_age_seconds: Between::clamped(max_age.map_or(5, Span::seconds)),
    })))
}

fn names<T: Clone, const MAX: usize>(list: Option<&NameList<T, MAX>>) -> Names<T, MAX> {
    list.map(|list| list.0.clone()).unwrap_or_default()
}

pub(super) fn request_headers(headers: &Headers) -> Option<Filter> {
    edits(headers.request.as_ref()).map(Filter::RequestHeaders)
}

pub(super) fn response_headers(headers: &Headers) -> Option<Filter> {
    edits(headers.response.as_ref()).map(Filter::ResponseHeaders)
}

fn edits(edits: Option<&Edits>) -> Option<HeaderEdits> {
    edits.map(Edits::filter).filter(|edits| *edits != HeaderEdits::default())
}

pub(super) fn rewrite(rewrite: &RewritePatch) -> Option<Filter> {
    let RewritePatch { host, path } = rewrite;
    if host.is_none() && path.is_none() {
        return None;
    }
    let path = path.clone().map(|PathEdit(path)| path);
    Some(Filter::Rewrite(Rewrite { host: host.clone(), path }))
}

pub(super) fn redirect(redirect: &RedirectPatch) -> Option<Filter> {
    let RedirectPatch { scheme, host, port, path, status } = redirect;
    if leads_nowhere(redirect) {
        return None;
    }
    let redirect = Redirect {
        scheme: *scheme,
        host: host.clone(),
        port: port.and_then(|port| u16::try_from(port.get()).ok()),
        path: path.clone().map(|PathEdit(path)| path),
        status: status.unwrap_or(RedirectStatus::Found),
        sent_on: SentOn::Everybody,
    };
    Some(Filter::Redirect(redirect.without_circle()))
}

/// Whether it names no other address, so that a client would be sent in a circle.
pub(in super::super) fn leads_nowhere(redirect: &RedirectPatch) -> bool {
    let RedirectPatch { scheme, host, port, path, status: _ } = redirect;
    scheme.is_none() && host.is_none() && port.is_none() && path.is_none()
}

pub(super) fn request_id(ids: &RequestIdPatch) -> Option<Filter> {
    let header = ids.header.clone();
    let ids = header.map_or_else(RequestIds::default, |header| RequestIds { header });
    Some(Filter::RequestId(ids))
}

pub(super) fn buffering(wanted: &BufferingPatch) -> Made {
    let BufferingPatch { requests, answers } = wanted;
    let too_much =
        |member| misfit(format!("buffering.{member} is more than 16Mi"), "write at most 16Mi");
    let requests =
        requests.map(|bytes| Between::new(bytes.get()).map_err(|_| too_much("requests")));
    let answers = answers.filter(|bytes| bytes.get() > 0);
    let answers = answers.map(|bytes| Between::new(bytes.get()).map_err(|_| too_much("answers")));
    let buffering = Buffering {
        request_bytes_max: requests.transpose()?,
        answer_bytes_max: answers.transpose()?,
    };
    Ok((buffering != Buffering::default()).then_some(Filter::Buffering(buffering)))
}

pub(super) fn compression(wanted: &CompressionPatch) -> Made {
    let CompressionPatch { codings, types, min_size, level } = wanted;
    let default = Compression::default();
    let bytes_min = match min_size {
        None => default.bytes_min,
        Some(size) => Between::new(size.get())
            .map_err(|_| misfit("compression.minSize is more than 1Mi", "write at most 1Mi"))?,
    };
    Ok(Some(Filter::Compression(Compression {
        codings: codings.clone().unwrap_or(default.codings),
        types: types.clone().unwrap_or(default.types),
        bytes_min,
        level: level.unwrap_or(default.level),
    })))
}

pub(super) fn maintenance(wanted: &MaintenancePatch) -> Option<Filter> {
    let MaintenancePatch { status, body, content_type, retry_after } = wanted;
    let page = body.clone().map(|body| MaintenancePage {
        content_type: content_type.clone().unwrap_or_else(html),
        body,
    });
    Some(Filter::Maintenance(Maintenance {
        status: status.unwrap_or(Between::clamped(503)),
        page,
        retry_after_seconds: retry_after.map(|after| Between::clamped(after.seconds())),
    }))
}

fn html() -> kubeng_config::filter::headers::FieldValue {
    let html = http::HeaderValue::from_static("text/html; charset=utf-8");
    kubeng_config::filter::headers::FieldValue(html)
}

pub(super) fn mirror(mirror: &MirrorPatch, backend: BackendId) -> Made {
    let MirrorPatch { backend: _, percent, body_max, timeout } = mirror;
    let share = percent.map_or(10_000, Percent::of_ten_thousand);
    if share == 0 {
        return Ok(None);
    }
    let body_bytes_max = body_max.map_or(64 * 1024, Bytes::get);
    let body_bytes_max = Between::new(body_bytes_max)
        .map_err(|_| misfit("mirror.bodyMax is more than 1Mi", "write at most 1Mi"))?;
    Ok(Some(Filter::Mirror(Mirror {
        backend,
        of: Between::clamped(10_000),
        copied: Between::clamped(share.into()),
        body_bytes_max,
        timeout_millis: Between::clamped(timeout.map_or(10_000, Span::millis)),
    })))
}

pub(super) fn error_pages(
    view: &mut View<'_>,
    object: &ObjectKey,
    pages: &AtMost<ErrorPagePatch, 32>,
) -> Made {
    let page = |written: &ErrorPagePatch| {
        let from = match &written.from {
            PageFrom::Inline { content_type, body } => {
                PageSource::Inline { content_type: content_type.clone(), body: body.clone() }
            }
            PageFrom::Backend(to) => PageSource::Backend(backend(view, object, to)?),
        };
        Ok(ErrorPage { statuses: written.statuses.clone(), from })
    };
    let pages = pages.iter().map(page).collect::<Result<Vec<_>, _>>()?;
    let pages = AtMost::new(pages).unwrap_or_default();
    Ok((!pages.is_empty()).then_some(Filter::ErrorPages(ErrorPages { pages })))
}

/// Keys of limits that are remembered, as by default.
const KEYS_MAX: Between<8, 1_048_576> = Between::clamped(16_384);
