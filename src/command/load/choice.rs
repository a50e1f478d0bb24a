//! Which fleets of manifests are looked at: those that Fleet Objects describe, or that of settings.

use std::sync::Arc;

use anyhow::bail;
use kubeng_config::name::{ObjectKey, ObjectKind};
use kubeng_controller::object::Object;

use super::Reading;
use crate::wiring;

/// Which fleets a command looks at.
#[derive(Clone, Copy, Debug)]
pub(in crate::command) enum Wanted<'a> {
    /// All of them.
    Every,
    /// The only one there is.
    Only,
    /// That of this name.
    Named(&'a str),
}

/// Which fleets those are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Chosen {
    /// That of the settings, as `kubeng run` serves it without `--fleet`.
    Settings,
    /// Those of all Fleet Objects.
    All,
    /// That of this Fleet Object.
    One(String),
}

/// Chooses among the Fleets of `objects`. Without any there is that of the settings; its name is
/// `default` unless a Fleet has it.
///
/// # Errors
/// When there is no such Fleet, or not only one.
pub(super) fn choose(wanted: Wanted<'_>, objects: &[Arc<Object>]) -> anyhow::Result<Chosen> {
    let keys = objects.iter().map(|object| &object.key);
    let is_fleet = |key: &&ObjectKey| key.kind == ObjectKind::Fleet;
    let mut names: Vec<&str> = keys.filter(is_fleet).map(|key| &*key.name).collect();
    names.sort_unstable();
    match (wanted, names.as_slice()) {
        (Wanted::Named(name), names) if names.contains(&name) => Ok(Chosen::One(name.to_owned())),
        (Wanted::Named(wiring::FLEET), _) => Ok(Chosen::Settings),
        (Wanted::Named(name), names) => {
            let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            bail!("the manifests describe no Fleet {name:?}; there is {there}")
        }
        (Wanted::Every | Wanted::Only, []) => Ok(Chosen::Settings),
        (Wanted::Every, _) => Ok(Chosen::All),
        (Wanted::Only, [name]) => Ok(Chosen::One((*name).to_owned())),
        (Wanted::Only, names) => {
            bail!("the manifests describe several Fleets, say --fleet NAME: {}", names.join(", "))
        }
    }
}

impl Reading {
    /// What a Fleet says has no effect here, and somebody may believe that it has.
    pub(super) fn refuse_what_fleets_say(&self) -> anyhow::Result<()> {
        let faults = [
            ("--ingress-class", !self.ingress_classes.is_empty()),
            ("--without-class", self.without_class),
            ("--default-backend", self.default_backend.is_some()),
            ("--default-certificate", self.default_certificate.is_some()),
        ];
        match faults.iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => bail!(
                "{name} has no effect on a Fleet of the manifests: leave it out, or say --fleet {} for \
                 what kubeng run serves without --fleet",
                wiring::FLEET
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use kubeng_controller::decode::{Decoded, decode};
    use kubeng_controller::object::Author;
    use serde_json::json;

    use super::*;

    fn fleets(names: &[&str]) -> Vec<Arc<Object>> {
        let fleet = |name: &&str| {
            let value = json!({
                "apiVersion": "kubeng.io/v1alpha1", "kind": "Fleet", "metadata": {"name": name},
            });
            let product = kubeng_config::provenance::Provenance::Product;
            match decode(value, product, Author::Operator) {
                Decoded::Object(object) => Arc::new(*object),
                other @ (Decoded::Ignored | Decoded::Undecodable(..) | Decoded::Closed(..)) => {
                    panic!("{other:?}")
                }
            }
        };
        names.iter().map(fleet).collect()
    }

    #[test]
    fn one_fleet_is_the_default_and_of_several_one_has_to_be_named() {
        let one = |name: &str| Chosen::One(name.to_owned());
        for (wanted, names, expected) in [
            (Wanted::Only, &[][..], Ok(Chosen::Settings)),
            (Wanted::Every, &[], Ok(Chosen::Settings)),
            (Wanted::Only, &["a"], Ok(one("a"))),
            (Wanted::Every, &["a"], Ok(Chosen::All)),
            (Wanted::Every, &["b", "a"], Ok(Chosen::All)),
            (Wanted::Only, &["b", "a"], Err("--fleet NAME: a, b")),
            (Wanted::Named("b"), &["b", "a"], Ok(one("b"))),
            (Wanted::Named("c"), &["b", "a"], Err("no Fleet \"c\"; there is a, b")),
            (Wanted::Named("c"), &[], Err("there is none")),
            (Wanted::Named("default"), &["a"], Ok(Chosen::Settings)),
            (Wanted::Named("default"), &["default"], Ok(one("default"))),
        ] {
            match (choose(wanted, &fleets(names)), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{wanted:?} {names:?}"),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (found, _) => panic!("{wanted:?} {names:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_flag_without_effect_is_refused() {
        assert!(Reading::default().refuse_what_fleets_say().is_ok());
        let reading = Reading { without_class: true, ..Reading::default() };
        let error = reading.refuse_what_fleets_say().unwrap_err().to_string();
        assert!(error.contains("--without-class") && error.contains("--fleet default"), "{error}");
    }
}
