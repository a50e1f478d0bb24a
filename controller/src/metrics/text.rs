//! Metrics in the text format of Prometheus (version 0.0.4).
//!
//! The library writes OpenMetrics, which differs in two things: it names a counter without the
//! `_total` of its samples in what stands above them, and it has a mark at the end.

use std::fmt::Write as _;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// All metrics of `registry`.
pub(crate) fn render(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    if encode(&mut text, registry).is_err() {
        text.clear();
    }
    classic(&text)
}

fn classic(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == END {
            break;
        }
        let help = line.strip_prefix(HELP).and_then(|rest| rest.split_once(' '));
        let counter = match (help, lines.peek()) {
            (Some((name, _)), Some(next)) => is_counter(next, name),
            (None, _) | (_, None) => false,
        };
        match help {
            // The line of the type is the next one.
            Some((name, help)) if counter => {
                lines.next();
                let _ = writeln!(told, "{HELP}{name}_total {help}\n{TYPE}{name}_total counter");
            }
            Some(_) | None => {
                let _ = writeln!(told, "{line}");
            }
        }
    }
    told
}

/// Whether `line` says that `name` is a counter.
fn is_counter(line: &str, name: &str) -> bool {
    line.strip_prefix(TYPE).and_then(|rest| rest.split_once(' ')) == Some((name, "counter"))
}

const HELP: &str = "# HELP ";
const TYPE: &str = "# TYPE ";
const END: &str = "# EOF";

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    #[test]
    fn counters_have_one_name_in_all_of_their_lines() {
        let mut registry = Registry::default();
        let (shows, depth) = (Counter::<u64>::default(), Gauge::<i64>::default());
        registry.register("shows", "Shows # TYPE x counter", shows);
        registry.register("depth", "Depth", depth);
        let by_kind = Family::<Vec<(String, String)>, Counter>::default();
        by_kind.get_or_create(&vec![("kind".to_owned(), "a".to_owned())]).inc();
        registry.register("acts", "Acts", by_kind);
        let expected = "# HELP shows_total Shows # TYPE x counter.\n# TYPE shows_total counter\n\
            shows_total 0\n# HELP depth Depth.\n# TYPE depth gauge\ndepth 0\n\
            # HELP acts_total Acts.\n# TYPE acts_total counter\nacts_total{kind=\"a\"} 1\n";
        assert_eq!(render(&registry), expected);
    }
}
