//! One screen of plain text, for `curl` when everything else is broken.

use std::fmt::Write as _;
use std::time::SystemTime;

use kubeng_config::fleet::Pulse;
use kubeng_config::heartbeat::{FileState, Heartbeat, LastKnownGood, Origin};
use kubeng_controller::distribution::subscriber::{Link, LinkState};

use super::follow::Seen;
use crate::settings::replica::ReplicaSettings;

/// The screen.
pub(super) fn screen(
    replica: &ReplicaSettings,
    seen: &Seen,
    link: &LinkState,
    connections: usize,
    is_leaving: bool,
) -> String {
    let mut text = format!("kubeng {}\n\n", env!("CARGO_PKG_VERSION"));
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    line("fleet", &replica.fleet.to_string());
    line("replica", &replica.name.to_string());
    line("ready", if seen.is_ready { "yes" } else { "no" });
    match &link.link {
        Link::Following { controller, since, unread } => {
            line("controller", &format!("{controller}, for {}", ago(*since)));
            if let Some(unread) = unread {
                line("unread", unread);
            }
        }
        Link::Apart { since, reasons } => {
            line("controller", &format!("none for {}", ago(*since)));
            for reason in reasons {
                line("", &format!("{}: {}", reason.controller, reason.why));
            }
        }
    }
    if let Some(why) = &link.renewal {
        line("certificate", &format!("not renewed: {why}"));
    }
    serving(&mut line, seen);
    if let Some(heartbeat) = &seen.heartbeat {
        running(&mut line, heartbeat);
    }
    let Pulse { heartbeat_every, table_check_every } = seen.pulse;
    let (beat, check) = (heartbeat_every.as_secs_f32(), table_check_every.as_secs_f32());
    line("heartbeat", &format!("every {beat} s; looks at what it runs every {check} s"));
    line("connections", &connections.to_string());
    if is_leaving {
        line("stopping", "yes: requests in flight are finished");
    }
    line("problems", &seen.problems.len().to_string());
    for problem in &seen.problems {
        line(" ", problem);
    }
    text
}

fn serving(line: &mut impl FnMut(&str, &str), seen: &Seen) {
    let Some(signed) = &seen.serves else { return line("serving", "nothing yet") };
    let from = match seen.origin {
        Origin::Nothing => "nothing",
        Origin::Controller => "from a controller",
        Origin::Disk => "from disk, no controller heard",
    };
    let since = seen.since.map_or_else(String::new, |since| format!(", for {}", ago(since)));
    let statement = &signed.statement;
    line("serving", &format!("{} ({from}{since})", statement.target.short()));
    line("epoch", &statement.epoch.to_string());
    line("position", &statement.position.to_string());
}

fn running(line: &mut impl FnMut(&str, &str), heartbeat: &Heartbeat) {
    let running = &heartbeat.running;
    let is_same = running.digest == heartbeat.acknowledged;
    let how = if is_same { "as it should be" } else { "NOT what was acknowledged" };
    line("running", &format!("{} ({how})", running.digest.short()));
    if let Some(LastKnownGood { kept, file }) = &heartbeat.last_known_good {
        let how = match file {
            FileState::Intact => "intact".to_owned(),
            FileState::Altered(what) => format!("ALTERED: {what}"),
            FileState::Unwritable(why) => format!("UNWRITABLE: {why}"),
        };
        line("kept", &format!("{} ({how})", kept.short()));
    }
    if let Some(emergency) = &heartbeat.emergency {
        line("emergency", &format!("{}, by {}", emergency.reason, emergency.by));
    }
}

fn ago(since: SystemTime) -> String {
    let seconds = since.elapsed().unwrap_or_default().as_secs();
    format!("{seconds} s")
}
