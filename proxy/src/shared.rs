//! What all workers of a replica share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use kubeng_config::address::Reserved;
use kubeng_config::name::ListenerId;
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::backend::choice::Setting;
use crate::backend::health::Counts;
use crate::backend::sticky::StickyKey;
use crate::filter::basic_auth::Passwords;
use crate::filter::jwt::key_set::KeySets;
use crate::limits::Limits;
use crate::listener::admission::Addresses;
use crate::listener::handover::Handover;
use crate::metrics::{Gauges, Metrics};
use crate::observe::Observe;
use crate::table::Table;

/// The one Table, and what does not depend on it.
pub(crate) struct Shared {
    pub(crate) table: ArcSwap<Table>,
    pub(crate) limits: Limits,
    /// Proxies whose word about clients counts.
    pub(crate) trusted_proxies: Arc<[IpNet]>,
    pub(crate) metrics: Metrics,
    pub(crate) observe: Observe,
    /// Presented where no other certificate fits.
    pub(crate) fallback_certificate: Arc<CertifiedKey>,
    /// Open connections.
    pub(crate) connections: AtomicUsize,
    /// Open connections by client.
    pub(crate) addresses: Addresses,
    /// True once answers must say that the connection ends.
    pub(crate) leaving: watch::Sender<bool>,
    /// The same for whoever asks at each answer: it has no lock.
    pub(crate) is_leaving: AtomicBool,
    /// Sockets to lend to the next process, and those of the one before.
    pub(crate) handover: Arc<Handover>,
    /// True once no connection is taken any more, whatever the Table says.
    pub(crate) closing: watch::Sender<bool>,
    /// True once connections that wait for a request must end.
    pub(crate) stopping: watch::Sender<bool>,
    /// What tenants may not name on this replica.
    pub(crate) reserved: Arc<Reserved>,
    /// Where Listeners are opened that are not opened at their own address.
    pub(crate) listen: BTreeMap<ListenerId, SocketAddr>,
    /// The zone that this replica runs in.
    pub(crate) zone: Option<Arc<str>>,
    /// The key of the cookies that keep clients at their Endpoints.
    pub(crate) sticky_key: StickyKey,
    /// Where passwords are checked.
    pub(crate) passwords: Passwords,
    /// Public keys that are fetched.
    pub(crate) key_sets: Arc<KeySets>,
    /// What times of ejection are counted from.
    pub(crate) started: Instant,
}

impl Shared {
    /// What is known of the replica and of the moment when an Endpoint is chosen.
    pub(crate) fn setting(&self) -> Setting<'_> {
        Setting {
            since_start: self.started.elapsed(),
            zone: self.zone.as_deref(),
            sticky_key: &self.sticky_key,
        }
    }

    /// From here on answers say that the connection ends.
    pub(crate) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
        self.leaving.send_replace(true);
    }

    /// All metrics in the text format of Prometheus.
    pub(crate) fn render_metrics(&self) -> String {
        let table = self.table.load();
        let spans = &self.observe.spans;
        self.metrics.render(&Gauges {
            connections: self.connections.load(Ordering::Relaxed),
            table_age_seconds: table.made.elapsed().as_secs(),
            table_digest: table.digest().to_string(),
            access_records_dropped: self.observe.log_lines_dropped(),
            spans: (spans.exported.load(Ordering::Relaxed), spans.dropped.load(Ordering::Relaxed)),
            endpoints: Counts::of(self),
        })
    }
}
