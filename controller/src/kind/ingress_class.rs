//! `networking.k8s.io/v1` IngressClass.

use k8s_openapi::api::networking::v1 as foreign;

/// What an IngressClass says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IngressClass {
    /// `spec.controller`.
    pub controller: String,
    /// Whether the annotation `ingressclass.kubernetes.io/is-default-class` says `true`.
    pub is_default: bool,
    /// `spec.parameters`: the fleet that it belongs to.
    pub parameters: ClassParameters,
}

/// What the parameters of an IngressClass name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ClassParameters {
    /// Nothing.
    #[default]
    Absent,
    /// A Fleet, by its name.
    Fleet(Box<str>),
    /// Something else, in words.
    Unknown(Box<str>),
}

impl ClassParameters {
    fn decode(written: Option<&foreign::IngressClassParametersReference>) -> Self {
        let Some(written) = written else { return Self::Absent };
        let group = written.api_group.as_deref().unwrap_or_default();
        let is_namespaced = written.scope.as_deref() == Some("Namespace");
        if group == "kubeng.io" && written.kind == "Fleet" && !is_namespaced {
            return Self::Fleet(written.name.as_str().into());
        }
        let place = if is_namespaced { " of a namespace" } else { "" };
        Self::Unknown(
            format!("{} {:?} of group {group:?}{place}", written.kind, written.name).into(),
        )
    }
}

impl IngressClass {
    pub(crate) fn decode(object: &foreign::IngressClass) -> Self {
        let annotations = object.metadata.annotations.as_ref();
        let is_default = annotations
            .and_then(|all| all.get("ingressclass.kubernetes.io/is-default-class"))
            .is_some_and(|text| text == "true");
        let controller = object.spec.as_ref().and_then(|spec| spec.controller.clone());
        let spec = object.spec.as_ref();
        let parameters = ClassParameters::decode(spec.and_then(|spec| spec.parameters.as_ref()));
        Self { controller: controller.unwrap_or_default(), is_default, parameters }
    }
}
