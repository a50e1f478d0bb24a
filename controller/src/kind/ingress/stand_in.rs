//! What stands for an Ingress in a version that is not read, and of which nothing is known: what it
//! means, refused behind all other Rules, so that nothing wider takes its requests.

use kubeng_config::problem::Problem;
use serde_json::Value;

use super::{Doubt, Ingress, lenient};
use crate::decode::notes::Notes;

/// What `value` means, as far as it can be read, and nothing else; none where nothing can be told.
///
/// Hosts and paths stand in the same places in all versions. `problem` says why it cannot be taken;
/// what else is wrong can be told once it is written in the right version, and goes to `unheard`.
pub(crate) fn of(value: &Value, problem: &Problem, unheard: &mut Notes) -> Option<Ingress> {
    let mut value = value.clone();
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut)
        && let Some(backend) = spec.remove("backend")
    {
        // Where older versions have what takes the rest.
        spec.entry("defaultBackend").or_insert(backend);
    }
    let (_, mut read) = lenient::read(&value, Box::new(problem.clone()), unheard).ok()?;
    let Doubt { is_class_unread, is_stand_in: _, mut blocked } =
        read.doubt.take().map_or_else(Doubt::default, |doubt| *doubt);
    blocked.extend(lenient::give_up(&mut read));
    let doubt = Doubt { is_class_unread, is_stand_in: true, blocked };
    (!doubt.blocked.is_empty()).then(|| Ingress {
        class: read.class,
        class_annotation: read.class_annotation,
        doubt: Some(Box::new(doubt)),
        ..Ingress::default()
    })
}

#[cfg(test)]
mod tests {
    use kubeng_config::problem::UNSUPPORTED_VERSION;
    use kubeng_config::provenance::Provenance;

    use crate::source::manifests::load;

    fn ingress(version: &str, name: &str) -> String {
        format!(
            "apiVersion: {version}\nkind: Ingress\nmetadata: {{ name: {name} }}\nspec: {{ \
             ingressClassName: kubeng, rules: [{{ host: a.example, http: {{ paths: [{{ path: /, \
             backend: {{ serviceName: web, servicePort: 80 }} }}] }} }}] }}\n---\n"
        )
    }

    #[test]
    fn an_ingress_in_another_version_is_told_with_its_line_and_stands_for_itself() {
        let folder = tempfile::TempDir::new().unwrap();
        let versions = [
            "extensions/v1beta1",
            "networking.k8s.io/v1beta1",
            "networking.k8s.io/v2",
            "networking.k8s.io",
            "networking/v1",
            "networkng.k8s.io/v1",
            "v1",
        ];
        let named =
            versions.iter().enumerate().map(|(at, version)| ingress(version, &format!("i{at}")));
        let foreign = ingress("config.openshift.io/v1", "foreign");
        std::fs::write(folder.path().join("a.yaml"), named.chain([foreign]).collect::<String>())
            .unwrap();
        let (objects, problems) = load(folder.path());
        let told: Vec<_> =
            objects.iter().map(|object| (&*object.key.name, object.is_stand_in())).collect();
        let names: Vec<String> = (0..versions.len()).map(|at| format!("i{at}")).collect();
        assert_eq!(told, names.iter().map(|name| (name.as_str(), true)).collect::<Vec<_>>());
        assert_eq!(problems.len(), versions.len());
        for (at, (problem, version)) in problems.iter().zip(versions).enumerate() {
            assert_eq!(
                (problem.code, problem.field.as_str()),
                (UNSUPPORTED_VERSION, "/apiVersion")
            );
            assert!(problem.message.contains(version), "{problem}");
            assert!(problem.remedy.contains("networking.k8s.io/v1"), "{problem}");
            let Some(Provenance::File { line, .. }) = &problem.provenance else {
                panic!("{problem}")
            };
            assert_eq!(*line as usize, 1 + 5 * at, "{problem}");
        }
    }

    #[test]
    fn an_ingress_without_a_version_stands_for_itself_too() {
        let folder = tempfile::TempDir::new().unwrap();
        let text = ingress("x", "a").replace("apiVersion: x\n", "");
        std::fs::write(folder.path().join("a.yaml"), text).unwrap();
        let (objects, problems) = load(folder.path());
        assert!(matches!(&objects[..], [object] if object.is_stand_in()), "{objects:?}");
        assert!(problems[0].message.contains("apiVersion is missing"), "{}", problems[0]);
    }
}
