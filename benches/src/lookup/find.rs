//! The look-up alone, without a proxy around it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use http::{HeaderMap, Method};
use kubeng_config::index::Index;
use kubeng_config::matching::{HostMatch, Match, PathMatch};
use kubeng_config::name::{ListenerId, ObjectKey, ObjectKind, RouteId};
use kubeng_config::request::RequestHead;
use kubeng_config::route::{Action, Attachment, Rank, Route};

use super::{ASKED_MAX, LARGE, SMALL, Shape};
use crate::program::Setting;
use crate::report::Report;
use crate::samples::median;

/// Which routes are asked for.
#[derive(Clone, Copy)]
enum Asked {
    /// As many as there are in the small table: all of them stay in the caches of the core.
    Few,
    /// Many, so that memory is paid for, too.
    Many,
}

pub(super) fn run(setting: &Setting) -> Result<Report> {
    let title = "lookup: Index::find alone, nanoseconds";
    let size = setting.pick(LARGE, 1_000);
    let [few, many] = [SMALL, size].map(|routes| format!("{routes} routes"));
    let head = ["routes", "asked for", few.as_str(), many.as_str(), "ratio", "ms to build"];
    let mut report = Report::new(title, head);
    let finds = setting.pick(1_000_000, 20_000);
    for shape in Shape::ALL {
        let before = Instant::now();
        let small = index(shape, SMALL)?;
        let large = index(shape, size)?;
        let built = before.elapsed();
        for (of, name) in [(Asked::Few, "10"), (Asked::Many, "2,000")] {
            let mut rounds = [Vec::new(), Vec::new()];
            for _ in 0..setting.pick(9, 2) {
                rounds[0].push(nanoseconds(&small, shape, SMALL, of, finds)?);
                rounds[1].push(nanoseconds(&large, shape, size, of, finds)?);
            }
            let [small, large] = rounds.map(|rounds| median(&rounds));
            report.row([
                shape.name().to_owned(),
                name.to_owned(),
                format!("{small:.0}"),
                format!("{large:.0}"),
                format!("{:.2}", large / small),
                built.as_millis().to_string(),
            ]);
        }
    }
    report.note("no goal: a request costs thousands of nanoseconds; what differs is memory that is not in a cache");
    Ok(report)
}

fn index(shape: Shape, routes: usize) -> Result<Index<u32>> {
    let mut index = Index::default();
    for number in 0..routes {
        let (host, path) = shape.route(number);
        let object = ObjectKey::new(ObjectKind::Ingress, "bench", &format!("site-{number}"));
        let route = Route {
            rank: Rank { created: 0, rule: 0 },
            attached: vec![Attachment {
                listener: LISTENER.parse()?,
                hosts: vec![HostMatch::Exact(host.parse()?)],
            }],
            matches: vec![Match {
                path: PathMatch::Prefix(path.parse()?),
                method: None,
                headers: Vec::new(),
                cookies: Vec::new(),
                query: Vec::new(),
            }],
            filters: Vec::new(),
            policy: "default".parse()?,
            action: Action::Answer,
        };
        let id = RouteId::new(object, &format!("{host}{path}"));
        index.insert(&id, &Arc::new(route), &u32::try_from(number)?);
    }
    Ok(index)
}

fn nanoseconds(
    index: &Index<u32>,
    shape: Shape,
    routes: usize,
    of: Asked,
    finds: usize,
) -> Result<f64> {
    let listener: ListenerId = LISTENER.parse()?;
    let few_or_many = match of {
        Asked::Few => SMALL,
        Asked::Many => ASKED_MAX,
    };
    let asked: Vec<_> = super::Asked::Many
        .numbers(routes)
        .into_iter()
        .take(few_or_many)
        .map(|n| shape.route(n))
        .collect();
    let asked: Vec<_> = asked.iter().map(|(host, path)| (host, format!("{path}/page"))).collect();
    let (method, headers) = (Method::GET, HeaderMap::new());
    let before = Instant::now();
    for (host, path) in asked.iter().cycle().take(finds) {
        let request =
            RequestHead { method: &method, host: Some(host), path, query: None, headers: &headers };
        let found = index.find(&listener, black_box(&request));
        anyhow::ensure!(found.is_some(), "{host}{path} is not found");
    }
    Ok(before.elapsed().as_nanos() as f64 / finds as f64)
}

const LISTENER: &str = "http";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_that_is_asked_for_is_there() {
        let setting = Setting { kubeng: "none".into(), is_quick: true, count: None, cores: None };
        run(&setting).unwrap();
    }
}
