//! What stands for an Upstream that cannot be taken and of which nothing is known: its routes,
//! closed, so that nothing wider takes their requests.

use serde::Deserialize;
use serde_json::Value;

use super::route::{RouteMatch, RoutePath, UpstreamRoute};
use super::{Standing, Upstream};

/// The routes of `value`, as far as they can be read, and nothing else; none where it has none.
pub(crate) fn of(value: &Value) -> Option<Upstream> {
    let routes = value.pointer("/spec/routes").and_then(Value::as_array)?;
    let routes: Box<[UpstreamRoute]> = routes.iter().map(route).collect();
    let fleets = value.pointer("/spec/fleets").and_then(Value::as_array);
    let is_served = routes.iter().any(|route| !route.hostnames.is_empty());
    is_served.then(|| Upstream {
        display_name: None,
        protocol: "http".to_owned(),
        endpoints: Vec::new(),
        tls: super::UpstreamTls::default(),
        balance: Box::default(),
        health: None,
        proxy_protocol: None,
        resolve: None,
        care: Box::default(),
        routes,
        fleets: fleets.map(|fleets| texts(fleets).into()).unwrap_or_default(),
        standing: Standing::Closed,
    })
}

fn route(written: &Value) -> UpstreamRoute {
    let array = |name: &str| written.get(name).and_then(Value::as_array);
    UpstreamRoute {
        name: written.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
        hostnames: array("hostnames").map(|hosts| texts(hosts)).unwrap_or_default(),
        matches: match (written.get("matches"), array("matches")) {
            (_, Some(matches)) => matches.iter().map(a_match).collect(),
            (None | Some(Value::Null), None) => Vec::new(),
            (Some(_), None) => vec![unreadable(None)],
        },
        ..UpstreamRoute::default()
    }
}

fn a_match(written: &Value) -> RouteMatch {
    RouteMatch::deserialize(written).unwrap_or_else(|_| {
        unreadable(written.pointer("/path/value").and_then(Value::as_str).map(str::to_owned))
    })
}

/// A match of no known type, so that all below `path` is refused behind all other Routes.
fn unreadable(path: Option<String>) -> RouteMatch {
    let path = RoutePath { kind: Some("unreadable".to_owned()), value: path };
    RouteMatch { path: Some(path), ..RouteMatch::default() }
}

fn texts(written: &[Value]) -> Vec<String> {
    written.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use kubeng_config::problem::{BAD_VALUE, UNKNOWN_FIELD, UNSUPPORTED_VERSION};

    #[test]
    fn an_upstream_that_was_never_taken_closes_its_routes() {
        let folder = tempfile::TempDir::new().unwrap();
        let upstream = |name: &str, spec: &str| {
            format!(
                "apiVersion: kubeng.io/v1alpha1\nkind: Upstream\nmetadata: {{ name: {name} }}\n\
                 spec: {{ endpoints: [{{ address: 10.0.0.1, port: 80 }}], {spec} }}\n---\n"
            )
        };
        let routes = "routes: [{ name: a, hostnames: [a.example] }]";
        let text = upstream("typed", &format!("protocol: 7, {routes}"))
            + &upstream("unknown", &format!("protocl: http, {routes}"))
            + &upstream("without", "protocol: 7")
            + &upstream("right", routes)
            + &upstream("version", routes).replace("v1alpha1", "v7");
        std::fs::write(folder.path().join("a.yaml"), text).unwrap();
        let (mut objects, problems) = crate::source::manifests::load(folder.path());
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        let told: Vec<_> =
            objects.iter().map(|object| (&*object.key.name, object.is_stand_in())).collect();
        assert_eq!(told, [("right", false), ("typed", true), ("unknown", true), ("version", true)]);
        let mut codes: Vec<_> = problems.iter().map(|problem| problem.code).collect();
        codes.sort();
        assert_eq!(codes, [UNKNOWN_FIELD, BAD_VALUE, BAD_VALUE, UNSUPPORTED_VERSION]);
    }
}
