//! Fleets that a process does not serve, because it serves what its settings say.

use std::collections::BTreeSet;

use kubeng_config::problem::{FLEET_NOT_SERVED, Problem};

use super::ingress_class::{Standing, standing};
use super::refusal::Refused;
use crate::kind::Body;
use crate::settings::TranslateSettings;
use crate::world::objects::Group;
use crate::world::view::View;

/// Tells of every Fleet that has no effect here, although somebody may believe that it has.
///
/// A process whose settings name classes says by that what is for it, so Fleets of other classes are
/// no news to it.
pub(super) fn tell(view: &mut View<'_>, problems: &mut Vec<Problem>) {
    let settings = view.settings();
    if settings.home.as_ref() != Some(&settings.fleet) {
        return;
    }
    for key in view.members(Group::Fleets) {
        // The one of our own name is told of otherwise.
        if key == TranslateSettings::fleet_key(settings.fleet.as_str()) {
            continue;
        }
        let Some(object) = view.object(&key) else { continue };
        let Body::Fleet(fleet) = &object.body else { continue };
        let mut classes: BTreeSet<String> = fleet.ingress_classes.iter().cloned().collect();
        let named = view.members(Group::ClassesOf((*key.name).into()));
        classes.extend(named.map(|class| class.name.to_string()));
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for class in classes {
            match standing(view, &class, &key.name) {
                Standing::Settings => here.push(class),
                Standing::Fleet => there.push(class),
                Standing::Other => {}
            }
        }
        if !settings.classes.is_empty() && here.is_empty() && there.is_empty() {
            continue;
        }
        let remedy = format!(
            "start it with --fleet {0}, or leave the Fleet to kubeng controller and say with \
             --ingress-class what is for this process",
            key.name
        );
        let refused = Refused::new(FLEET_NOT_SERVED, message(&here, &there), remedy);
        problems.push(refused.problem(&object, String::new()));
    }
}

fn message(here: &[String], there: &[String]) -> String {
    let mut text =
        "this process serves what its settings say, so listeners and defaults of the Fleet have no \
         effect here"
            .to_owned();
    if !here.is_empty() {
        text += &format!("; Ingresses of class {} are served by the settings", here.join(", "));
    }
    if !there.is_empty() {
        text += &format!("; Ingresses of class {} are not served here", there.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kubeng_config::provenance::Provenance;
    use serde_json::{Value, json};

    use crate::decode::{Decoded, decode};
    use crate::object::{Author, Object};
    use crate::settings::TranslateSettings;
    use crate::translate::verdict::Verdict;
    use crate::world::World;

    fn object(value: Value) -> Arc<Object> {
        let decoded = decode(value, Provenance::Product, Author::Operator);
        let Decoded::Object(object) = decoded else { panic!("{decoded:?}") };
        Arc::new(*object)
    }

    fn ingress(class: &str) -> Arc<Object> {
        object(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"namespace": "shop", "name": class},
            "spec": {"ingressClassName": class, "rules": [{
                "host": format!("{class}.example"),
                "http": {"paths": [{
                    "path": "/", "pathType": "Prefix",
                    "backend": {"service": {"name": "web", "port": {"number": 80}}},
                }]},
            }]},
        }))
    }

    fn class(name: &str, fleet: Option<&str>) -> Arc<Object> {
        let fleet =
            fleet.map(|name| json!({"apiGroup": "kubeng.io", "kind": "Fleet", "name": name}));
        object(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": name},
            "spec": {"controller": "kubeng.io/ingress-controller", "parameters": fleet},
        }))
    }

    fn fleet(name: &str, classes: &[&str]) -> Arc<Object> {
        object(json!({
            "apiVersion": "kubeng.io/v1alpha1", "kind": "Fleet", "metadata": {"name": name},
            "spec": {"serves": {"ingressClasses": classes}},
        }))
    }

    /// The Ingresses that are served, and what is told of the Fleets.
    fn served(classes: &[&str], objects: &[Arc<Object>]) -> (Vec<String>, Vec<String>) {
        let mut settings = TranslateSettings::new("default".parse().unwrap(), Vec::new());
        settings.classes = classes.iter().map(|&class| class.to_owned()).collect();
        let world = World::rebuild(settings, objects.iter().cloned());
        let ours = world.verdicts().filter(|(_, verdict)| matches!(verdict, Verdict::Ours { .. }));
        let ours = ours.map(|(key, _)| key.name.to_string()).collect();
        let told = world.problems().filter(|problem| problem.code == super::FLEET_NOT_SERVED);
        (ours, told.map(ToString::to_string).collect())
    }

    #[test]
    fn a_fleet_that_lists_a_class_takes_nothing_from_a_process_that_serves_its_settings() {
        let before = [ingress("kubeng"), ingress("public"), class("public", None)];
        let (ours, told) = served(&[], &before);
        assert_eq!(ours, ["kubeng", "public"]);
        assert!(told.is_empty(), "{told:?}");
        let mut after = before.to_vec();
        after.push(fleet("shared", &["kubeng", "public"]));
        let (ours, told) = served(&[], &after);
        assert_eq!(ours, ["kubeng", "public"]);
        assert_eq!(told.len(), 1, "{told:?}");
        for word in ["Fleet/shared", "class kubeng, public are served", "--fleet shared"] {
            assert!(told[0].contains(word), "{word}: {told:?}");
        }
    }

    #[test]
    fn a_class_that_names_its_fleet_is_served_there_alone_and_that_is_told() {
        let objects = [ingress("fin"), class("fin", Some("fin")), fleet("fin", &[])];
        let (ours, told) = served(&[], &objects);
        assert!(ours.is_empty(), "{ours:?}");
        assert!(told[0].contains("class fin are not served here"), "{told:?}");
    }

    #[test]
    fn a_process_that_names_its_classes_hears_of_fleets_that_have_one_of_them_only() {
        let objects = [ingress("public"), class("public", None), fleet("shared", &["public"])];
        let (ours, told) = served(&["kubeng"], &objects);
        assert!(ours.is_empty() && told.is_empty(), "{ours:?} {told:?}");
        let (ours, told) = served(&["public"], &objects);
        assert_eq!((ours.len(), told.len()), (1, 1), "{told:?}");
    }
}
