//! Golden pairs: `tests/golden/NAME.in.yaml` gives `NAME.out.yaml`.
//!
//! `UPDATE_GOLDEN=1` writes the second of each pair. A document of the first
//! that begins with `settings:` or `requests:` is for the test itself; all
//! others are Objects.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{HeaderMap, Method};
use kubeng_config::backend::EndpointSource;
use kubeng_config::index::Index;
use kubeng_config::listener::{Listener, Protocol};
use kubeng_config::matching::Match;
use kubeng_config::name::{ListenerId, RouteId};
use kubeng_config::provenance::Provenance;
use kubeng_config::request::RequestHead;
use kubeng_config::route::{Action, Target, TargetAction};
use kubeng_config::snapshot::Snapshot;
use serde::Deserialize;
use serde_json::Value;

use crate::decode::{Decoded, decode};
use crate::endpoints::EndpointBook;
use crate::kind::ingress::PortName;
use crate::object::{Author, Change, Object};
use crate::settings::{DefaultBackend, ExternalNames, TranslateSettings, WithoutClass};
use crate::translate::verdict::{Verdict, outcome};
use crate::world::World;

#[test]
fn every_golden_pair_is_what_is_translated() {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".in.yaml"))
        .collect();
    names.sort();
    assert!(names.len() >= 25, "{} golden pairs are not all", names.len());
    let different: Vec<PathBuf> = names.into_iter().filter(|path| !is_as_written(path)).collect();
    assert!(different.is_empty(), "UPDATE_GOLDEN=1 would write anew what differs: {different:?}");
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn is_as_written(path: &Path) -> bool {
    let case = Case::read(path);
    let got = case.dump();
    let expected = path.with_file_name(
        path.file_name().unwrap().to_string_lossy().replace(".in.yaml", ".out.yaml"),
    );
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&expected, &got).unwrap();
        return true;
    }
    let written = std::fs::read_to_string(&expected).unwrap_or_default();
    for (number, (got, written)) in got.lines().zip(written.lines()).enumerate() {
        if got != written {
            eprintln!("{}:{}\n  has {written}\n  got {got}", expected.display(), number + 1);
            return false;
        }
    }
    got == written
}

/// What the settings of a case may say.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Told {
    without_https: bool,
    default_backend: Option<String>,
    default_certificate: Option<String>,
    serve_without_class: bool,
    allow_external_name: bool,
    classes: Vec<String>,
    namespaces: Vec<String>,
    /// Whether a tenant wrote the Objects, and not the operator.
    tenant: bool,
}

struct Case {
    settings: TranslateSettings,
    requests: Vec<String>,
    objects: Vec<Arc<Object>>,
}

impl Case {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let mut told = Told::default();
        let mut requests = Vec::new();
        let mut documents = Vec::new();
        let mut line = 1;
        for document in text.split("\n---\n") {
            let value: Value = serde_saphyr::from_str(document).unwrap();
            if let Some(settings) = value.get("settings") {
                told = serde_json::from_value(settings.clone()).unwrap();
            } else if let Some(list) = value.get("requests") {
                requests = serde_json::from_value(list.clone()).unwrap();
            } else {
                documents.push((line, value));
            }
            line += u32::try_from(document.lines().count()).unwrap() + 1;
        }
        let author = if told.tenant { Author::Tenant } else { Author::Operator };
        let name = path.file_name().unwrap().to_string_lossy();
        let objects = documents.into_iter().map(|(line, value)| {
            let provenance = Provenance::File { path: (*name).into(), line };
            match decode(value, provenance, author) {
                Decoded::Object(object) | Decoded::Closed(object, _) => Arc::from(object),
                Decoded::Ignored => panic!("{name}:{line}: of a kind that is not read"),
                Decoded::Undecodable(_, problem) => panic!("{name}:{line}: {problem}"),
            }
        });
        Self { objects: objects.collect(), settings: settings(told), requests }
    }

    fn dump(&self) -> String {
        let world = World::rebuild(self.settings.clone(), self.objects.iter().cloned());
        let mut book = EndpointBook::default();
        for object in &self.objects {
            book.take(&Change::Upsert(Arc::clone(object)));
        }
        let snapshot = world.snapshot(&self.settings.fleet).unwrap();
        let mut out = String::new();
        dump_routes(&mut out, snapshot);
        dump_backends(&mut out, snapshot, &book);
        dump_names(&mut out, snapshot);
        dump_judgement(&mut out, &world, &book);
        dump_requests(&mut out, snapshot, &self.requests);
        out
    }
}

fn settings(told: Told) -> TranslateSettings {
    let listener = |port: u16, protocol| Listener::new(([0, 0, 0, 0], port).into(), protocol);
    let mut listeners = vec![("http".parse().unwrap(), listener(80, Protocol::Http))];
    if !told.without_https {
        listeners.push(("https".parse().unwrap(), listener(443, Protocol::Https)));
    }
    let mut settings = TranslateSettings::new("main".parse().unwrap(), listeners);
    settings.default_backend = told.default_backend.map(|text| {
        let (service, port) = text.split_once(':').unwrap();
        let (namespace, service) = service.split_once('/').unwrap();
        let port = port.parse().map_or_else(|_| PortName::Name(port.into()), PortName::Number);
        DefaultBackend { namespace: namespace.into(), service: service.into(), port }
    });
    settings.default_certificate =
        told.default_certificate.map(|text| format!("Secret/{text}").parse().unwrap());
    if told.serve_without_class {
        settings.without_class = WithoutClass::Serve;
    }
    if told.allow_external_name {
        settings.external_names = ExternalNames::Allow;
    }
    settings.classes = told.classes;
    settings.namespaces = told.namespaces;
    settings
}

fn dump_routes(out: &mut String, snapshot: &Snapshot) {
    out.push_str("routes:\n");
    for (id, part) in snapshot.routes().sorted() {
        let route = part.value();
        let hosts: Vec<String> = route.attached[0].hosts.iter().map(ToString::to_string).collect();
        for attachment in &route.attached {
            assert_eq!(attachment.hosts, route.attached[0].hosts, "every Listener has all hosts");
        }
        writeln!(out, "- id: {id}").unwrap();
        writeln!(out, "  hosts: {hosts:?}").unwrap();
        if route.attached.len() != snapshot.listeners().len() {
            let listeners = route.attached.iter().map(|at| at.listener.to_string());
            writeln!(out, "  listeners: {:?}", listeners.collect::<Vec<_>>()).unwrap();
        }
        match route.matches.as_slice() {
            [one] if *one == Match::of_path(one.path.clone()) => {
                writeln!(out, "  path: {}", one.path).unwrap();
            }
            all => writeln!(out, "  matches: {}", serde_json::to_string(all).unwrap()).unwrap(),
        }
        writeln!(out, "  rank: [{}, {}]", route.rank.created, route.rank.rule).unwrap();
        for filter in &route.filters {
            writeln!(out, "  filter: {}", serde_json::to_string(filter).unwrap()).unwrap();
        }
        if route.policy.as_str() != "fleet/main" {
            let policy = snapshot.policies().get(&route.policy).unwrap();
            let text = String::from_utf8(policy.bytes()).unwrap();
            writeln!(out, "  policy {}: {text}", route.policy).unwrap();
        }
        writeln!(out, "  action: {}", describe(&route.action)).unwrap();
    }
}

fn describe(action: &Action) -> String {
    match action {
        Action::Forward(targets) => match targets.as_slice() {
            [Target { to: TargetAction::Backend(id), weight: 1 }] => format!("forward to {id}"),
            other => format!("{other:?}"),
        },
        Action::Answer => "answer".to_owned(),
        Action::Refuse { status, because } => {
            format!("refuse with {} because of {because}", u16::from(*status))
        }
    }
}

fn dump_backends(out: &mut String, snapshot: &Snapshot, book: &EndpointBook) {
    out.push_str("backends:\n");
    for (id, part) in snapshot.backends().sorted() {
        writeln!(out, "- id: {id}").unwrap();
        writeln!(out, "  part: {}", String::from_utf8_lossy(&part.bytes())).unwrap();
        if let EndpointSource::Discovered = part.value().endpoints {
            let set = book.get(id);
            let all = set.as_slice().iter().map(|endpoint| endpoint.address.to_string());
            writeln!(out, "  endpoints: {:?}", all.collect::<Vec<_>>()).unwrap();
        }
    }
}

fn dump_names(out: &mut String, snapshot: &Snapshot) {
    out.push_str("serverNames:\n");
    for (id, part) in snapshot.server_names().sorted() {
        writeln!(out, "- {id}: {}", part.value().certificate).unwrap();
    }
    out.push_str("certificates:\n");
    for (id, part) in snapshot.certificates().sorted() {
        let value = part.value();
        writeln!(out, "- {id}: {{ names: {:?}, key: {} }}", value.names, value.key).unwrap();
    }
    for (id, part) in snapshot.listeners().sorted() {
        if let Some(certificate) = &part.value().default_certificate {
            writeln!(out, "- default of {id}: {certificate}").unwrap();
        }
    }
}

fn dump_judgement(out: &mut String, world: &World, book: &EndpointBook) {
    out.push_str("problems:\n");
    let all = world.problems().chain(book.problems());
    let mut problems: Vec<String> =
        all.map(|problem| format!("- {:?}\n", problem.to_string())).collect();
    problems.sort();
    out.extend(problems);
    out.push_str("verdicts:\n");
    for (key, verdict) in world.verdicts() {
        let text = match verdict {
            Verdict::Foreign => "foreign".to_owned(),
            Verdict::Ours { problems: [] } => "accepted".to_owned(),
            Verdict::Ours { problems } => {
                let mut all: Vec<_> = problems.iter().map(|p| outcome(p.code)).collect();
                all.sort();
                all.dedup();
                format!("{all:?}")
            }
        };
        writeln!(out, "- {key}: {text}").unwrap();
    }
}

/// Which Route serves `GET host/path`, written so; a host that is empty is none.
fn dump_requests(out: &mut String, snapshot: &Snapshot, requests: &[String]) {
    out.push_str("requests:\n");
    let mut index: Index<RouteId> = Index::default();
    for (id, part) in snapshot.routes().iter() {
        index.insert(id, part.value(), id);
    }
    let listener: ListenerId = "http".parse().unwrap();
    let headers = HeaderMap::new();
    for request in requests {
        let (host, path) = request.split_at(request.find('/').unwrap());
        let head = RequestHead {
            method: &Method::GET,
            host: (!host.is_empty()).then_some(host),
            path,
            query: None,
            headers: &headers,
        };
        let found = index.find(&listener, &head);
        let answer = match found {
            Some(found) => {
                let route = snapshot.routes().get(found.value).unwrap().value();
                format!("{} by {}", describe(&route.action), found.value)
            }
            None => "404".to_owned(),
        };
        writeln!(out, "- {request}: {answer}").unwrap();
    }
}
