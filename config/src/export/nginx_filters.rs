//! Filters that guard, limit or change, in the manner of nginx.

use std::fmt::Write as _;

use crate::filter::Filter;
use crate::filter::error_pages::{ErrorPages, PageSource};
use crate::filter::rate_limit::RateKey;

/// One line or a few for `filter`. Those that `nginx.rs` writes itself write nothing here.
pub(super) fn filter(out: &mut String, filter: &Filter) {
    let mut line = |text: &str| {
        let _ = writeln!(out, "        {text}");
    };
    match filter {
        Filter::RequestHeaders(_)
        | Filter::ResponseHeaders(_)
        | Filter::Redirect(_)
        | Filter::Rewrite(_) => {}
        Filter::Cors(cors) => {
            for origin in cors.allow_origins.iter() {
                line(&format!("add_header Access-Control-Allow-Origin {origin};"));
            }
        }
        Filter::ClientAddress(access) => {
            access.deny.iter().for_each(|net| line(&format!("deny {net};")));
            access.allow.iter().for_each(|net| line(&format!("allow {net};")));
            if !access.allow.is_empty() {
                line("deny all;");
            }
        }
        Filter::RateLimit(limit) => {
            let (count, per, burst) = (limit.requests, limit.per_seconds, limit.burst);
            let key = key(&limit.key);
            line(&format!("limit_req {key}; # {count} in {per} s, burst {burst}"));
        }
        Filter::ConcurrencyLimit(limit) => {
            line(&format!("limit_conn {} {};", key(&limit.key), limit.requests));
        }
        Filter::BasicAuth(auth) => {
            line(&format!("auth_basic \"{}\";", auth.realm.as_str()));
            line(&format!("auth_basic_user_file \"{}\";", auth.users));
        }
        Filter::Jwt(jwt) => line(&format!("auth_jwt {:?};", jwt.issuer)),
        Filter::ExternalAuth(auth) => {
            line(&format!("auth_request \"{}{}\";", auth.backend, auth.path));
        }
        Filter::Buffering(buffering) => {
            if let Some(max) = buffering.request_bytes_max {
                line(&format!("client_max_body_size {max};"));
                line("proxy_request_buffering on;");
            }
            if let Some(max) = buffering.answer_bytes_max {
                line("proxy_buffering on;");
                line(&format!("# at most {max} bytes of an answer are read ahead"));
            }
        }
        Filter::BodyLimit(limit) => {
            if let Some(max) = limit.request_bytes_max {
                line(&format!("client_max_body_size {max};"));
            }
            if let Some(max) = limit.response_bytes_max {
                line(&format!("# answers of at most {max} bytes"));
            }
        }
        Filter::RequestId(ids) => line(&format!("proxy_set_header {} $request_id;", ids.header)),
        Filter::Mirror(mirror) => {
            let (of, copied) = (mirror.of, mirror.copied);
            line(&format!("mirror \"{}\"; # {copied} of {of}", mirror.backend));
        }
        Filter::Compression(compression) => {
            for coding in compression.codings.iter() {
                line(&format!("{} on;", coding.as_str()));
            }
        }
        Filter::Maintenance(maintenance) => line(&format!("return {};", maintenance.status)),
        Filter::ErrorPages(errors) => error_pages(errors, line),
    }
}

fn error_pages(errors: &ErrorPages, mut line: impl FnMut(&str)) {
    for page in errors.pages.iter() {
        let statuses: Vec<String> = page.statuses.iter().map(ToString::to_string).collect();
        let from = match &page.from {
            PageSource::Inline { .. } => "inline".to_owned(),
            PageSource::Backend(id) => id.to_string(),
        };
        line(&format!("error_page {} \"{from}\";", statuses.join(" ")));
    }
}

fn key(key: &RateKey) -> String {
    match key {
        RateKey::Route => "$route".to_owned(),
        RateKey::ClientAddress => "$binary_remote_addr".to_owned(),
        RateKey::Header(name) => format!("$http_{}", name.0.as_str().replace('-', "_")),
    }
}
