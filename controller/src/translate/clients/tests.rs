use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use kubeng_config::delta::PartKey;
use kubeng_config::explain::explain;
use kubeng_config::listener::Listener;
use kubeng_config::problem::{Problem, SHADOWED};
use kubeng_config::provenance::Provenance;
use kubeng_config::request::RequestKey;
use serde_json::{Value, json};

use super::*;
use crate::decode::{Decoded, decode};
use crate::object::{Author, Change};
use crate::settings::{ListenerClients, TranslateSettings};
use crate::world::World;

fn upsert(value: Value) -> Change {
    let decoded = decode(value, Provenance::Product, Author::Tenant);
    let Decoded::Object(object) = decoded else { panic!("{decoded:?}") };
    Change::Upsert(Arc::new(*object))
}

fn settings() -> TranslateSettings {
    let listener = |port: u16, protocol| Listener::new(([127, 0, 0, 1], port).into(), protocol);
    let listeners = vec![
        ("http".parse().unwrap(), listener(80, Protocol::Http)),
        ("https".parse().unwrap(), listener(443, Protocol::Https)),
    ];
    TranslateSettings::new("main".parse().unwrap(), listeners)
}

/// Certificates with their keys in PEM; each is also taken for an authority.
fn pairs() -> &'static [(String, String); 2] {
    static PAIRS: OnceLock<[(String, String); 2]> = OnceLock::new();
    PAIRS.get_or_init(|| {
        [["*.example", "elsewhere.test"], ["b.example", "c.example"]].map(|names| {
            let pair = rcgen::generate_simple_self_signed(names.map(ToOwned::to_owned)).unwrap();
            (pair.cert.pem(), pair.signing_key.serialize_pem())
        })
    })
}

fn certificate(namespace: &str, name: &str) -> Change {
    let (chain, key) = &pairs()[0];
    upsert(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"namespace": namespace, "name": name},
        "stringData": {"tls.crt": chain, "tls.key": key},
    }))
}

fn authorities(namespace: &str, name: &str, which: usize) -> Change {
    upsert(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name}, "data": {"ca.crt": pairs()[which].0},
    }))
}

fn service(namespace: &str) -> Change {
    upsert(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": "web"},
        "spec": {"ports": [{"port": 80}]},
    }))
}

/// An Ingress whose name is `namespace/name`, of this age and host, with its certificate.
struct Written {
    value: Value,
}

impl Written {
    fn new(name: &str, year: u16, host: &str) -> Self {
        let (namespace, name) = name.split_once('/').unwrap();
        let tls = if host.is_empty() {
            vec![]
        } else {
            vec![json!({"hosts": [host], "secretName": "cert"})]
        };
        Self {
            value: json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {
                    "namespace": namespace, "name": name,
                    "creationTimestamp": format!("{year}-01-01T00:00:00Z"),
                },
                "spec": {"ingressClassName": "kubeng", "tls": tls, "rules": [rule(host, &format!("/{name}"))]},
            }),
        }
    }

    fn asks(mut self, mode: &str, authorities: &str) -> Self {
        let annotations = json!({
            "kubeng.io/client-certificates": mode, "kubeng.io/client-authorities": authorities,
        });
        self.value["metadata"]["annotations"] = annotations;
        self
    }

    fn with(mut self, field: &str, value: Value) -> Self {
        self.value["spec"][field] = value;
        self
    }

    fn put(self) -> Change {
        upsert(self.value)
    }
}

fn rule(host: &str, path: &str) -> Value {
    let mut rule = json!({"http": {"paths": [{
        "path": path, "pathType": "Prefix",
        "backend": {"service": {"name": "web", "port": {"number": 80}}},
    }]}});
    if !host.is_empty() {
        rule["host"] = json!(host);
    }
    rule
}

/// A World with what all tests need, and these Objects.
struct Case {
    world: World,
}

impl Case {
    fn of(changes: impl IntoIterator<Item = Change>) -> Self {
        Self::with(settings(), changes)
    }

    fn with(settings: TranslateSettings, changes: impl IntoIterator<Item = Change>) -> Self {
        let mut all = vec![];
        for namespace in ["shop", "other"] {
            all.extend([certificate(namespace, "cert"), service(namespace)]);
            all.extend([authorities(namespace, "ca", 0), authorities(namespace, "ca2", 1)]);
        }
        all.extend(changes);
        Self { world: World::new(settings).step(&all).world }
    }

    /// The next round; it must lead where everything from nothing leads.
    fn then(&mut self, change: Change) {
        self.world = self.world.step(&[change]).world;
        let settings = self.world.settings().clone();
        let oracle = World::rebuild(settings, self.world.objects().cloned());
        assert_eq!(self.world.own_snapshot().digest(), oracle.own_snapshot().digest());
    }

    /// What becomes of a request: the first line and that about clients.
    #[track_caller]
    fn check(&self, request: &str, expected: &str, clients: Option<ClientCertificateMode>) {
        let key = RequestKey::parse(request, HeaderMap::new()).unwrap();
        let said = explain(self.world.own_snapshot(), &key);
        assert!(said.to_string().lines().next().unwrap().contains(expected), "{request}: {said}");
        assert_eq!(said.client_certificates, clients, "{request}: {said}");
    }

    /// The Problems about `object`, which must be exactly these: code, and a word of the rest.
    #[track_caller]
    fn problems(&self, object: &str, expected: &[(&str, &str)]) {
        // That another certificate than its own is presented is no matter here.
        let about =
            |problem: &&Problem| problem.subject.to_string() == object && problem.code != SHADOWED;
        let told: Vec<String> =
            self.world.problems().filter(about).map(ToString::to_string).collect();
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for (code, word) in expected {
            assert!(
                told.iter().any(|text| text.contains(code) && text.contains(word)),
                "{told:#?}"
            );
        }
    }
}

const REQUIRE: Option<ClientCertificateMode> = Some(ClientCertificateMode::Require);
const REQUEST: Option<ClientCertificateMode> = Some(ClientCertificateMode::Request);
const SERVED: &str = "forward   to Service/shop/web:80";
const IN_CLEAR: &str = "403: refused because of KNG-1313";

#[test]
fn one_host_requires_certificates_and_others_do_not() {
    let case = Case::of([
        Written::new("shop/a", 2020, "a.example").asks("require", "ConfigMap/ca").put(),
        Written::new("shop/b", 2020, "b.example").put(),
        Written::new("shop/c", 2020, "c.example").asks("request", "ConfigMap/ca").put(),
    ]);
    case.check("GET https://a.example/a", SERVED, REQUIRE);
    case.check("GET http://a.example/a", IN_CLEAR, None);
    case.check("GET https://b.example/b", SERVED, None);
    case.check("GET http://b.example/b", SERVED, None);
    case.check("GET https://c.example/c", SERVED, REQUEST);
    case.check("GET http://c.example/c", SERVED, None);
    for name in ["a", "b", "c"] {
        case.problems(&format!("Ingress/shop/{name}"), &[]);
    }
    let listener = "https".parse().unwrap();
    let listener = case.world.own_snapshot().listeners().get(&listener).unwrap();
    assert_eq!(listener.value().client_certificates, None);
}

#[test]
fn what_cannot_be_carried_out_closes_the_host_until_it_is_mended() {
    let ingress = || Written::new("shop/a", 2020, "a.example");
    let mut case = Case::of([
        ingress().asks("require", "ConfigMap/late").put(),
        // Whoever else has a path there is closed with it.
        Written::new("other/more", 2021, "a.example").put(),
    ]);
    for (request, code) in [("https", "KNG-1120"), ("http", "KNG-1120")] {
        for path in ["a", "more"] {
            let request = format!("GET {request}://a.example/{path}");
            case.check(&request, &format!("503: refused because of {code}"), None);
        }
    }
    case.problems("Ingress/shop/a", &[("KNG-1120", "\"late\" does not exist")]);
    case.problems("Ingress/other/more", &[("KNG-1311", "mend what Ingress/shop/a asks")]);

    case.then(authorities("shop", "late", 0));
    case.check("GET https://a.example/a", SERVED, REQUIRE);
    case.check("GET https://a.example/more", "to Service/other/web", REQUIRE);
    case.check("GET http://a.example/more", IN_CLEAR, None);
    case.problems("Ingress/shop/a", &[]);
    case.problems("Ingress/other/more", &[]);

    case.then(upsert(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "shop", "name": "late"}, "data": {"ca.crt": "junk"},
    })));
    case.check("GET https://a.example/a", "503: refused because of KNG-1310", None);
    case.then(ingress().put());
    case.check("GET https://a.example/a", SERVED, None);
    case.check("GET http://a.example/more", "to Service/other/web", None);
}

#[test]
fn what_nobody_understands_closes_too() {
    let ingress = |name: &str, value: &str| {
        let mut ingress = Written::new("shop/a", 2020, "a.example");
        ingress.value["metadata"]["annotations"] = json!({ name: value });
        ingress.put()
    };
    for (change, code, word) in [
        (ingress("kubeng.io/client-certificates", "require"), "KNG-1002", "no authority"),
        (ingress("kubeng.io/client-certificates", "on"), "KNG-1002", "require or request"),
        (ingress("kubeng.io/client-certificate", "require"), "KNG-1001", "did you mean"),
    ] {
        let case = Case::of([change]);
        case.check("GET https://a.example/a", &format!("503: refused because of {code}"), None);
        case.check("GET http://a.example/a", &format!("503: refused because of {code}"), None);
        case.problems("Ingress/shop/a", &[(code, word)]);
    }
}

#[test]
fn a_secret_may_hold_the_authorities() {
    let mut case =
        Case::of([Written::new("shop/a", 2020, "a.example").asks("require", "Secret/ca").put()]);
    case.check("GET https://a.example/a", "503: refused because of KNG-1108", None);
    case.then(upsert(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "shop", "name": "ca"},
        "stringData": {"ca.crt": pairs()[0].0},
    })));
    case.check("GET https://a.example/a", SERVED, REQUIRE);
    assert!(case.world.referenced().contains(&"Secret/shop/ca".parse().unwrap()));
}

#[test]
fn the_namespace_of_the_oldest_ingress_decides_and_there_the_oldest_that_asks() {
    let conflict = "503: refused because of KNG-1312";
    let mut case = Case::of([
        Written::new("shop/first", 2020, "a.example").put(),
        Written::new("other/alien", 2021, "a.example").asks("require", "ConfigMap/ca").put(),
    ]);
    case.check("GET https://a.example/first", SERVED, None);
    case.check("GET https://a.example/alien", conflict, None);
    case.check("GET http://a.example/alien", conflict, None);
    case.problems("Ingress/shop/first", &[]);
    case.problems("Ingress/other/alien", &[("KNG-1312", "belongs to namespace \"shop\"")]);

    case.then(
        Written::new("shop/second", 2022, "a.example").asks("require", "ConfigMap/ca2").put(),
    );
    case.check("GET https://a.example/first", SERVED, REQUIRE);
    case.check("GET https://a.example/alien", conflict, REQUIRE);
    case.problems("Ingress/other/alien", &[("KNG-1312", "Ingress/shop/second decides")]);

    // One that asks for the same, and one that only wants to know.
    case.then(Written::new("shop/same", 2023, "a.example").asks("require", "ConfigMap/ca2").put());
    case.then(Written::new("shop/mild", 2023, "a.example").asks("request", "ConfigMap/ca2").put());
    case.check("GET https://a.example/same", SERVED, REQUIRE);
    case.check("GET https://a.example/mild", SERVED, REQUIRE);
    case.problems("Ingress/shop/same", &[]);
    case.problems("Ingress/shop/mild", &[("KNG-1312", "Ingress/shop/second decides")]);

    case.then(Written::new("shop/first", 2020, "a.example").asks("request", "ConfigMap/ca").put());
    case.check("GET https://a.example/first", SERVED, REQUEST);
    case.check("GET https://a.example/second", conflict, REQUEST);
    case.problems("Ingress/shop/second", &[("KNG-1312", "Ingress/shop/first decides")]);
}

#[test]
fn names_below_a_wildcard_are_asked_unless_rules_name_them() {
    let mut case = Case::of([
        Written::new("shop/wild", 2020, "*.example").asks("require", "ConfigMap/ca").put(),
        // A certificate for a name whose requests the wildcard gets.
        Written::new("other/cert", 2021, "elsewhere.test")
            .with(
                "tls",
                json!([{"hosts": ["named.example", "elsewhere.test"], "secretName": "cert"}]),
            )
            .put(),
        Written::new("other/own", 2021, "own.example").with("tls", json!([])).put(),
    ]);
    case.check("GET https://x.example/wild", SERVED, REQUIRE);
    case.check("GET https://named.example/wild", SERVED, REQUIRE);
    case.check("GET http://named.example/wild", IN_CLEAR, None);
    case.check("GET https://own.example/own", "to Service/other/web", None);
    case.check("GET http://own.example/own", "to Service/other/web", None);
    case.problems("Ingress/other/own", &[]);

    // A rule takes the name out of the wildcard, and gives it back.
    case.then(Written::new("other/named", 2022, "named.example").put());
    case.check("GET https://named.example/named", "to Service/other/web", None);
    case.then(Change::Remove("Ingress/other/named".parse().unwrap()));
    case.check("GET https://named.example/wild", SERVED, REQUIRE);
    case.then(Written::new("shop/wild", 2020, "*.example").put());
    case.check("GET https://named.example/wild", SERVED, None);
    let own = PartKey::ServerName("https/own.example".parse().unwrap());
    assert!(!case.world.own_snapshot().contains(&own), "it has no certificate of its own");
}

#[test]
fn a_host_without_a_certificate_is_closed_or_presents_that_of_the_listener() {
    let ingress = || {
        Written::new("shop/a", 2020, "a.example")
            .asks("require", "ConfigMap/ca")
            .with("tls", json!([]))
            .put()
    };
    let case = Case::of([ingress()]);
    case.check("GET https://a.example/a", "503: refused because of KNG-1311", None);
    case.check("GET http://a.example/a", IN_CLEAR, None);
    case.problems("Ingress/shop/a", &[("KNG-1311", "none of its own to present")]);

    let mut settings = settings();
    settings.default_certificate = Some("Secret/shop/cert".parse().unwrap());
    let case = Case::with(settings, [ingress()]);
    case.check("GET https://a.example/a", SERVED, REQUIRE);
    case.problems("Ingress/shop/a", &[]);
}

#[test]
fn every_host_cannot_be_asked_and_only_those_who_want_it_are_closed() {
    let case = Case::of([
        Written::new("shop/a", 2020, "").asks("require", "ConfigMap/ca").put(),
        Written::new("other/b", 2021, "").put(),
    ]);
    case.check("GET https://any.example/a", "503: refused because of KNG-1311", None);
    case.check("GET http://any.example/a", "503: refused because of KNG-1311", None);
    case.check("GET https://any.example/b", "to Service/other/web", None);
    case.problems("Ingress/shop/a", &[("KNG-1311", "name hosts")]);
    case.problems("Ingress/other/b", &[]);
}

#[test]
fn over_plain_http_only_redirects_and_challenges_are_answered() {
    let challenge = json!([rule("a.example", "/.well-known/acme-challenge/token")]);
    let redirect = json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "RouteOverride",
        "metadata": {"namespace": "shop", "name": "o"},
        "spec": {
            "targetRef": {"kind": "Ingress", "name": "a"},
            "patch": {"redirect": {"scheme": "https", "status": 308}},
        },
    });
    let case = Case::of([
        Written::new("shop/a", 2020, "a.example").asks("require", "ConfigMap/ca").put(),
        Written::new("shop/solver", 2021, "a.example").with("rules", challenge).put(),
        Written::new("shop/plain", 2021, "a.example").put(),
        upsert(redirect),
    ]);
    case.check("GET http://a.example/a", "by a filter", None);
    case.check("GET https://a.example/a", SERVED, REQUIRE);
    case.check("GET http://a.example/.well-known/acme-challenge/token", SERVED, None);
    case.check("GET http://a.example/plain", IN_CLEAR, None);
}

fn of_listener(mode: ClientCertificateMode, authorities: &str) -> TranslateSettings {
    let mut settings = settings();
    let asked = ListenerClients { mode, authorities: authorities.parse().unwrap() };
    settings.clients = vec![("https".parse().unwrap(), asked)];
    settings
}

#[test]
fn a_host_asks_for_more_than_its_listener_and_never_for_less() {
    let conflict = "503: refused because of KNG-1312";
    for (listener, host, expected, asked) in [
        ("request ca", "", SERVED, REQUEST),
        ("request ca", "require ConfigMap/ca", SERVED, REQUIRE),
        ("require ca", "request ConfigMap/ca", SERVED, REQUIRE),
        ("require ca", "require ConfigMap/ca", SERVED, REQUIRE),
        ("require ca", "request ConfigMap/ca2", conflict, REQUIRE),
        ("request ca", "require ConfigMap/ca2", conflict, REQUEST),
    ] {
        let (mode, name) = listener.split_once(' ').unwrap();
        let mode = if mode == "require" { REQUIRE } else { REQUEST }.unwrap();
        let mut ingress = Written::new("shop/a", 2020, "a.example");
        if let Some((mode, name)) = host.split_once(' ') {
            ingress = ingress.asks(mode, name);
        }
        let settings = of_listener(mode, &format!("ConfigMap/shop/{name}"));
        let case = Case::with(settings, [ingress.put()]);
        case.check("GET https://a.example/a", expected, asked);
        let told: &[_] = if expected == SERVED { &[] } else { &[("KNG-1312", "the listener")] };
        case.problems("Ingress/shop/a", told);
    }
}

#[test]
fn a_listener_that_cannot_ask_serves_nothing_until_it_can() {
    let mode = ClientCertificateMode::Request;
    let mut settings = of_listener(mode, "ConfigMap/infra/clients");
    settings.default_backend = Some(crate::settings::DefaultBackend {
        namespace: "shop".to_owned(),
        service: "web".to_owned(),
        port: crate::kind::ingress::PortName::Number(80),
    });
    let erp = upsert(json!({
        "apiVersion": "kubeng.io/v1alpha1", "kind": "Upstream",
        "metadata": {"namespace": "shop", "name": "erp"},
        "spec": {
            "endpoints": [{"address": "10.0.0.1", "port": 80}],
            "routes": [{"name": "all", "hostnames": ["erp.example", "*.deep.example"]}],
        },
    }));
    let mut case = Case::with(settings, [Written::new("shop/a", 2020, "a.example").put(), erp]);
    let places =
        ["a.example/a", "a.example/rest", "unknown.example/", "erp.example/", "x.y.deep.example/"];
    for place in places {
        let closed = "503: refused because of KNG-1120";
        case.check(&format!("GET https://{place}"), closed, None);
        case.check(&format!("GET http://{place}"), "forward", None);
    }
    case.problems("ConfigMap/infra/clients", &[("KNG-1120", "named by the settings")]);
    case.problems("Ingress/shop/a", &[("KNG-1311", "the listener")]);
    case.problems(
        "Upstream/shop/erp",
        &[("KNG-1311", "erp.example"), ("KNG-1311", "deep.example")],
    );
    case.then(authorities("infra", "clients", 0));
    for place in places {
        case.check(&format!("GET https://{place}"), "forward", REQUEST);
    }
    case.problems("Ingress/shop/a", &[]);
    case.problems("Upstream/shop/erp", &[]);
}

#[test]
fn without_https_nobody_could_present_a_certificate() {
    let mut settings = settings();
    settings.listeners.truncate(1);
    let ingress = Written::new("shop/a", 2020, "a.example").asks("require", "ConfigMap/ca");
    let case = Case::with(settings, [ingress.with("tls", json!([])).put()]);
    case.check("GET http://a.example/a", IN_CLEAR, None);
    case.problems("Ingress/shop/a", &[("KNG-1204", "no client can present")]);
}
