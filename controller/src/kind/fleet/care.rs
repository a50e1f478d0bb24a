//! `spec.drift` and `spec.rollout`: how replicas are watched and mended.

use std::ops::RangeInclusive;
use std::time::Duration;

use kubeng_config::fleet::{FleetCare, OnDrift, Pulse};
use kubeng_config::patch::scalar::Deadline;
use kubeng_config::problem::Problem;
use serde::Deserialize;

use super::Wrong;

/// `spec.drift` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DriftOnWire {
    on_drift: Option<String>,
    heartbeat_every: Option<String>,
    table_check_every: Option<String>,
    probe_every: Option<String>,
    #[serde(default)]
    builds: Vec<String>,
}

/// `spec.rollout` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RolloutOnWire {
    apply_timeout: Option<String>,
}

/// # Errors
/// When a value is out of its range.
pub(super) fn read(
    drift: DriftOnWire,
    rollout: RolloutOnWire,
    wrong: &Wrong<'_>,
) -> Result<FleetCare, Box<Problem>> {
    let mut care = FleetCare::default();
    let DriftOnWire { on_drift, heartbeat_every, table_check_every, probe_every, builds } = drift;
    care.on_drift = match on_drift.as_deref() {
        None | Some("report") => OnDrift::Report,
        Some("heal") => OnDrift::Heal,
        Some(other) => {
            let message = format!("onDrift {other:?} is unknown");
            return Err(wrong.at("/spec/drift/onDrift", message, "write report or heal"));
        }
    };
    let second = Duration::from_secs(1);
    let hour = second * 3600;
    let read = |field: &str, written: Option<String>, default, range| match written {
        None => Ok(default),
        Some(text) => duration(&text, &range)
            .ok_or_else(|| out_of_range(&format!("/spec/{field}"), &text, &range, wrong)),
    };
    care.heartbeat_every =
        read("drift/heartbeatEvery", heartbeat_every, care.heartbeat_every, Pulse::HEARTBEAT)?;
    care.table_check_every = read(
        "drift/tableCheckEvery",
        table_check_every,
        care.table_check_every,
        Pulse::TABLE_CHECK,
    )?;
    care.probe_every = match probe_every.as_deref() {
        None => care.probe_every,
        Some(text) if text.parse::<Deadline>().is_ok_and(|none| none.get().is_none()) => None,
        Some(_) => Some(read("drift/probeEvery", probe_every, Duration::ZERO, second * 10..=hour)?),
    };
    care.apply_timeout = read(
        "rollout/applyTimeout",
        rollout.apply_timeout,
        care.apply_timeout,
        second..=second * 600,
    )?;
    for (at, build) in builds.iter().enumerate() {
        care.builds.push(build.parse().map_err(|_| {
            let message = format!("{build:.80?} is no SHA-256");
            let remedy = "write 64 hexadecimal digits, as sha256sum does";
            wrong.at(&format!("/spec/drift/builds/{at}"), message, remedy)
        })?);
    }
    Ok(care)
}

fn duration(text: &str, range: &RangeInclusive<Duration>) -> Option<Duration> {
    text.parse::<Deadline>().ok()?.get().filter(|found| range.contains(found))
}

fn out_of_range(
    field: &str,
    text: &str,
    range: &RangeInclusive<Duration>,
    wrong: &Wrong<'_>,
) -> Box<Problem> {
    let (from, to) = (range.start().as_secs(), range.end().as_secs());
    let zero = if field.ends_with("probeEvery") { "0s for never, or " } else { "" };
    let remedy = format!("write {zero}{from}s to {to}s, such as 15s or 1m30s");
    wrong.at(field, format!("{text:.80?} is no duration in range"), &remedy)
}
