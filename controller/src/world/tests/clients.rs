//! What is asked of clients: by hosts, and by the Listener.

use std::collections::BTreeMap;

use kubeng_config::certificate::ClientCertificateMode;
use kubeng_config::name::ListenerId;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::settings::ListenerClients;

/// What Ingresses ask of clients, also what nobody understands.
pub(super) fn asked_by_hosts() -> impl Strategy<Value = BTreeMap<String, String>> {
    let asked = (
        select(&["require", "require", "request", "junk"][..]),
        select(
            &["ConfigMap/m1", "ConfigMap/m1", "ConfigMap/m2", "Secret/t1", "Secret/t2", "m1"][..],
        ),
    );
    option::weighted(0.3, asked).prop_map(|asked| {
        let pairs = asked.map(|(mode, place)| {
            [("kubeng.io/client-certificates", mode), ("kubeng.io/client-authorities", place)]
        });
        let pairs = pairs.into_iter().flatten();
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    })
}

/// What the Listener for HTTPS asks of all clients.
pub(super) fn asked_by_listener() -> impl Strategy<Value = Vec<(ListenerId, ListenerClients)>> {
    let asked = select(&["ConfigMap/a/m1", "Secret/a/t1"][..]).prop_map(|place| {
        let authorities = place.parse().unwrap();
        (
            "https".parse().unwrap(),
            ListenerClients { mode: ClientCertificateMode::Request, authorities },
        )
    });
    option::weighted(0.2, asked).prop_map(|asked| asked.into_iter().collect())
}
