//! A record as JSON: one shape for the access log and the admin listener.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::Record;

/// A moment in the form of RFC 3339, in UTC, to the microsecond.
pub(crate) fn time(at: SystemTime) -> String {
    Timestamp::try_from(at).map(|at| format!("{at:.6}")).unwrap_or_default()
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            began,
            took,
            first_byte,
            connect,
            client,
            version,
            scheme,
            tls,
            method,
            host,
            status,
            reason,
            body_bytes: (request_bytes, response_bytes),
            listener,
            route_use: _,
            backend,
            endpoint,
            tries,
            trace,
            texts,
            // For planning; the values are not kept.
            selected: _,
        } = self;
        let mut map = Present(serializer.serialize_map(None)?);
        map.put("time", Some(time(*began)))?;
        map.put("durationMicros", Some(micros(*took)))?;
        map.put("firstByteMicros", first_byte.map(micros))?;
        map.put("connectMicros", connect.map(micros))?;
        map.put("client", Some(client.ip()))?;
        map.put("clientPort", Some(client.port()))?;
        map.put("protocol", method.as_ref().map(|_| format!("{version:?}")))?;
        map.put("scheme", method.as_ref().map(|_| scheme.name()))?;
        if let Some(tls) = tls {
            map.put("tlsVersion", tls.version_name())?;
            map.put("tlsCipher", tls.cipher_name())?;
            map.put("tlsServerName", tls.server_name.as_deref())?;
        }
        map.put("method", method.as_ref().map(http::Method::as_str))?;
        map.put("host", host.as_ref())?;
        map.put("path", method.as_ref().map(|_| texts.path()))?;
        map.put("query", texts.query())?;
        map.put("status", status.map(|status| status.as_u16()))?;
        map.put("reason", reason.map(|reason| reason.to_string()))?;
        map.put("requestBytes", Some(request_bytes))?;
        map.put("responseBytes", Some(response_bytes))?;
        map.put("listener", listener.as_ref())?;
        map.put("namespace", self.namespace())?;
        map.put("route", self.route())?;
        map.put("backend", backend.as_ref())?;
        map.put("endpoint", endpoint.as_ref())?;
        map.put("tries", Some(tries))?;
        map.put("requestId", texts.request_id())?;
        map.put("traceId", trace.map(|trace| trace.trace_id()))?;
        map.put("spanId", trace.map(|trace| trace.span_id()))?;
        map.put("userAgent", texts.user_agent())?;
        map.put("referer", texts.referer())?;
        map.0.end()
    }
}

/// A map into which only what is there is put.
struct Present<M>(M);

impl<M: SerializeMap> Present<M> {
    fn put(&mut self, name: &'static str, value: Option<impl Serialize>) -> Result<(), M::Error> {
        match value {
            Some(value) => self.0.serialize_entry(name, &value),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut record = record("a.example", "/x\u{7f}\"", 200, SystemTime::UNIX_EPOCH);
        record.backend = None;
        let text = serde_json::to_string(&record).unwrap();
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["time"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(read["durationMicros"], 2000);
        assert_eq!(read["namespace"], "shop");
        assert_eq!(read["path"], "/x\u{7f}\"");
        assert_eq!(read["client"], "192.0.2.7");
        assert!(read.get("backend").is_none() && read.get("traceId").is_none(), "{text}");
        assert!(!text.contains('\n'));
    }
}
