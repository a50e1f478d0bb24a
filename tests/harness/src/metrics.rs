//! Metrics in the text format of Prometheus, read back.

use std::time::Duration;

/// One line: name, labels and value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name with its suffix, for instance `_bucket`.
    pub name: String,
    /// The labels as they were written.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: f64,
}

/// Reads all samples of `text`; lines that are none are left out.
#[must_use]
pub fn samples(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

/// The sum of all samples called `name` that have these labels.
#[must_use]
pub fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |sample: &Sample| {
        labels.iter().all(|(key, value)| sample.labels.iter().any(|(k, v)| k == key && v == value))
    };
    samples(text).iter().filter(|s| s.name == name && has(s)).map(|s| s.value).sum()
}

/// What is wrong with the names in `text`, as readers of the classic format see it: every family has
/// one type, counters end in `_total`, and samples carry the name of the family above them, with a
/// suffix where their type has one.
#[must_use]
pub fn misnamed(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut family: Option<(&str, &str)> = None;
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# HELP ")) {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' ')) {
            if !seen.insert(name) {
                faults.push(format!("{line}: a second time"));
            }
            if (kind == "counter") != name.ends_with("_total") {
                faults.push(format!("{line}: a counter, and nothing else, ends in _total"));
            }
            family = Some((name, kind));
            continue;
        }
        let suffixes: &[&str] = match family {
            Some((_, "histogram")) => &["_bucket", "_sum", "_count"],
            Some((_, "summary")) => &["", "_sum", "_count"],
            Some((_, "counter" | "gauge")) => &[""],
            Some(_) | None => &[],
        };
        let suffix = sample(line)
            .zip(family)
            .and_then(|(sample, (name, _))| sample.name.strip_prefix(name).map(str::to_owned));
        if !suffix.is_some_and(|suffix| suffixes.contains(&suffix.as_str())) {
            faults.push(format!("{line}: stands below {family:?}"));
        }
    }
    faults
}

/// A histogram of seconds: counts up to each bound, over all labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Upper bound in seconds, and how many were at or below it; by bound.
    buckets: Vec<(f64, f64)>,
    sum: f64,
    /// How many values there are.
    pub count: f64,
}

impl Histogram {
    /// Reads the histogram `name`; `None` where there is none.
    #[must_use]
    pub fn read(text: &str, name: &str) -> Option<Self> {
        let mut histogram = Self::default();
        for sample in samples(text) {
            match sample.name.strip_prefix(name) {
                Some("_sum") => histogram.sum += sample.value,
                Some("_count") => histogram.count += sample.value,
                Some("_bucket") => {
                    let bound = sample.labels.iter().find(|(key, _)| key == "le")?;
                    histogram.add(bound.1.parse().ok()?, sample.value);
                }
                Some(_) | None => {}
            }
        }
        (!histogram.buckets.is_empty()).then_some(histogram)
    }

    fn add(&mut self, bound: f64, count: f64) {
        match self.buckets.iter_mut().find(|(other, _)| *other == bound) {
            Some((_, there)) => *there += count,
            None => self.buckets.push((bound, count)),
        }
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }

    /// What came after `earlier` was read.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |bound: f64| {
            earlier.buckets.iter().find(|(other, _)| *other == bound).map_or(0.0, |(_, n)| *n)
        };
        Self {
            buckets: self.buckets.iter().map(|(b, n)| (*b, n - before(*b))).collect(),
            sum: self.sum - earlier.sum,
            count: self.count - earlier.count,
        }
    }

    /// The mean; zero where there are no values.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::try_from_secs_f64(self.sum / self.count).unwrap_or_default()
    }

    /// The upper bound of the bucket that holds this share of the values, `None` above all bounds.
    #[must_use]
    pub fn at_most(&self, share: f64) -> Option<Duration> {
        let wanted = self.count * share;
        let (bound, _) = self.buckets.iter().find(|(_, count)| *count >= wanted)?;
        Duration::try_from_secs_f64(*bound).ok()
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (front, after) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, value) = rest.rsplit_once('}')?;
            ((name, labels_of(labels)), value)
        }
        None => {
            let (name, value) = line.split_once(' ')?;
            ((name, Vec::new()), value)
        }
    };
    let value = after.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: front.0.to_owned(), labels: front.1, value })
}

/// Splits `a="b",c="d"`; a quote within a value is not understood.
fn labels_of(text: &str) -> Vec<(String, String)> {
    let pairs = text.split("\",").filter_map(|pair| pair.split_once("=\""));
    pairs.map(|(key, value)| (key.to_owned(), value.trim_end_matches('"').to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP t Time.
# TYPE t histogram
t_bucket{le=\"0.001\"} 90
t_bucket{le=\"0.005\"} 99
t_bucket{le=\"+Inf\"} 100
t_sum 0.2
t_count 100
r_total{a=\"x,y\",b=\"z\"} 3
r_total{a=\"x\",b=\"z\"} 4
";

    #[test]
    fn histograms_tell_mean_and_bounds() {
        let all = Histogram::read(TEXT, "t").unwrap();
        assert_eq!(all.mean(), Duration::from_millis(2));
        assert_eq!(all.at_most(0.5), Some(Duration::from_millis(1)));
        assert_eq!(all.at_most(0.99), Some(Duration::from_millis(5)));
        assert_eq!(all.at_most(1.0), None);
        assert_eq!(all.since(&all).count, 0.0);
        assert_eq!(Histogram::read(TEXT, "none"), None);
    }

    #[test]
    fn names_that_do_not_belong_together_are_found() {
        assert_eq!(
            misnamed("# HELP a_total A.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n"),
            [""; 0]
        );
        assert_eq!(
            misnamed("# TYPE t histogram\nt_bucket{le=\"1\"} 1\nt_sum 1\nt_count 1\n"),
            [""; 0]
        );
        for (text, faults) in [
            ("# TYPE a counter\na_total 1\n", 2),
            ("# TYPE a counter\na 1\n", 1),
            ("# TYPE a_total gauge\na_total 1\n", 1),
            ("# TYPE a_total counter\na_total 1\na 2\n", 1),
            ("# TYPE a gauge\na 1\n# TYPE a gauge\na 1\n", 1),
            ("a 1\n", 1),
            ("# TYPE t histogram\nt 1\n", 1),
        ] {
            assert_eq!(misnamed(text).len(), faults, "{text}");
        }
    }

    #[test]
    fn sums_are_over_what_has_the_labels() {
        assert_eq!(sum(TEXT, "r_total", &[("b", "z")]), 7.0);
        assert_eq!(sum(TEXT, "r_total", &[("a", "x,y")]), 3.0);
    }
}
