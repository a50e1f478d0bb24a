//! Puts the sample manifests into a folder, with the ports of the running services.

use std::path::Path;

use anyhow::Context as _;
use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::services::Services;

/// The sample manifests; `${NAME}` is replaced by a port, key or certificate.
const FILES: [(&str, &str); 4] = [
    ("class.yaml", include_str!("../../../deploy/demo/class.yaml")),
    ("shop.yaml", include_str!("../../../deploy/demo/shop.yaml")),
    ("billing.yaml", include_str!("../../../deploy/demo/billing.yaml")),
    ("chat.yaml", include_str!("../../../deploy/demo/chat.yaml")),
];

/// Writes all files; those that are there already are replaced.
pub(super) fn write(folder: &Path, services: &Services) -> anyhow::Result<()> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["shop.localhost".to_owned()])
            .context("cannot make a certificate")?;
    let indented = |pem: &str| pem.trim_end().replace('\n', "\n    ");
    let values = [
        ("${SHOP_1}", services.shop[0].port().to_string()),
        ("${SHOP_2}", services.shop[1].port().to_string()),
        ("${BILLING_1}", services.billing[0].port().to_string()),
        ("${BILLING_2}", services.billing[1].port().to_string()),
        ("${CHAT_1}", services.chat[0].port().to_string()),
        ("${CHAT_2}", services.chat[1].port().to_string()),
        ("${CERTIFICATE}", indented(&cert.pem())),
        ("${KEY}", indented(&signing_key.serialize_pem())),
    ];
    for (name, template) in FILES {
        let mut text = template.to_owned();
        for (variable, value) in &values {
            text = text.replace(variable, value);
        }
        put(&folder.join(name), &text)?;
    }
    put(&folder.join("shop.crt"), &cert.pem())
}

fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
