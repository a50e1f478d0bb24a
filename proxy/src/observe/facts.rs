//! What can be asked about requests, as data for whoever shows it.

use std::time::SystemTime;

use kubeng_config::name::RouteId;
use kubeng_config::observed::{KeyQuery, RecordQuery};
use serde_json::{Map, Value as Json, json};

use crate::proxy::ProxyFacts;
use crate::record::json::time;
use crate::sketch::selected::{Name, Value};
use crate::sketch::{Count, Key, Reading};

impl ProxyFacts {
    /// The recent requests that `query` wants, the newest first, in the shape of the access log.
    #[must_use]
    pub fn requests(&self, query: &RecordQuery) -> Vec<Json> {
        let records = self.0.observe.recent(query);
        // Numbers and texts only, so it does not fail.
        records.iter().filter_map(|record| serde_json::to_value(&**record).ok()).collect()
    }

    /// The distinct keys of the requests of the last 15 to 18 minutes with their counts, for
    /// planning; null when none are counted. How good the counts are is told with them.
    #[must_use]
    pub fn request_keys(&self, query: &KeyQuery) -> Json {
        let KeyQuery { host, listener, limit } = query;
        let wanted = |key: &Key| {
            listener.as_ref().is_none_or(|listener| key.listener.as_str() == listener)
                && host.as_ref().is_none_or(|host| {
                    key.host.as_ref().is_some_and(|other| other.as_str() == host)
                })
        };
        let Some((reading, unkeyed, missed)) = self.0.observe.keys(*limit, wanted) else {
            return Json::Null;
        };
        let Reading { since, keys, floors, floor_of_others } = reading;
        let keys: Vec<Json> = keys.iter().map(|(key, count)| of_key(key, *count)).collect();
        let floors: Vec<Json> = floors
            .iter()
            .map(|(host, floor)| json!({ "host": host, "unlistedMax": floor }))
            .collect();
        json!({
            "since": since.map(time),
            "until": time(SystemTime::now()),
            "keys": keys,
            "hosts": floors,
            "otherHostsUnlistedMax": floor_of_others,
            "withoutKey": unkeyed,
            "missed": missed,
        })
    }

    /// What stands for the value of a header or parameter in the keys of this process, so that an
    /// exact match can be replayed; None when no keys are counted.
    #[must_use]
    pub fn value_hash(&self, value: &str) -> Option<String> {
        self.0.observe.value_hash(value).map(|hash| format!("{hash:016x}"))
    }

    /// When a request last came to a Route, to the second; None for never, or when it is not served.
    #[must_use]
    pub fn last_hit(&self, id: &RouteId) -> Option<SystemTime> {
        self.0.metrics.last_hit(id)
    }

    /// Has the file of the access log opened again, behind the lines that wait.
    pub fn reopen_access_log(&self) {
        self.0.observe.reopen_log();
    }
}

fn of_key(key: &Key, Count { count, error }: Count) -> Json {
    let Key { listener, host, method, path, sni, selected } = key;
    let (mut headers, mut parameters) = (Map::new(), Map::new());
    for selected in selected {
        let value = match selected.value {
            Value::Hash(hash) => json!({ "hash": format!("{hash:016x}") }),
            Value::Present => json!("present"),
        };
        match &selected.name {
            Name::Header(name) => headers.insert(name.to_string(), value),
            Name::Parameter(name) => parameters.insert(name.to_string(), value),
        };
    }
    json!({
        "listener": listener,
        "host": host,
        "method": method.as_str(),
        "path": path,
        "sni": sni,
        "headers": headers,
        "parameters": parameters,
        "count": count,
        "error": error,
    })
}
