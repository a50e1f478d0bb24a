//! `networking.k8s.io/v1` IngressClass.

use k8s_openapi::api::networking::v1 as foreign;

/// What an IngressClass says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IngressClass {
    /// `spec.controller`.
    pub controller: String,
    /// Whether the annotation `ingressclass.kubernetes.io/is-default-class` says `true`.
    pub is_default: bool,
}

impl IngressClass {
    pub(crate) fn decode(object: &foreign::IngressClass) -> Self {
        let annotations = object.metadata.annotations.as_ref();
        let is_default = annotations
            .and_then(|all| all.get("ingressclass.kubernetes.io/is-default-class"))
            .is_some_and(|text| text == "true");
        let controller = object.spec.as_ref().and_then(|spec| spec.controller.clone());
        Self { controller: controller.unwrap_or_default(), is_default }
    }
}
