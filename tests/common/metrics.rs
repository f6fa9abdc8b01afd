//! Prometheus' text format, read strictly.

// Each test file uses its part of this.
#![allow(dead_code, unreachable_pub)]

/// What was scraped, in its order.
#[derive(Debug)]
pub(crate) struct Metrics {
    values: Vec<(String, f64)>,
    gauges: Vec<String>,
}

impl Metrics {
    /// Reads a page. Every line must be what the format and its conventions
    /// want: help, type and values of one metric after the other.
    #[track_caller]
    pub(crate) fn read(page: &str) -> Self {
        let mut metrics = Self {
            values: Vec::new(),
            gauges: Vec::new(),
        };
        assert!(page.ends_with('\n'));
        let mut family = ("", "");
        let mut helped = "";
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, sentence) = help.split_once(' ').expect(line);
                assert!(is_name(name) && sentence.ends_with('.'), "{line}");
                helped = name;
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect(line);
                assert_eq!(name, helped, "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                if kind == "gauge" {
                    metrics.gauges.push(name.into());
                }
                family = (name, kind);
            } else {
                metrics.value(line, family);
            }
        }
        metrics.check_histogram("rendezvousd_request_duration_seconds");
        metrics
    }

    #[track_caller]
    fn value(&mut self, line: &str, (family, kind): (&str, &str)) {
        let (series, value) = line.rsplit_once(' ').expect(line);
        let (name, labels) = match series.split_once('{') {
            None => (series, ""),
            Some((name, labels)) => (name, labels.strip_suffix('}').expect(line)),
        };
        let suffix = name.strip_prefix(family).expect(line);
        let suffixes: &[&str] = match kind {
            "histogram" => &["_bucket", "_sum", "_count"],
            "counter" | "gauge" => &[""],
            _ => panic!("{line}"),
        };
        assert!(suffixes.contains(&suffix), "{line}");
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (name, text) = label.split_once("=\"").expect(line);
            let text = text.strip_suffix('"').expect(line);
            assert!(is_name(name) && !text.contains(['"', '\\']), "{line}");
        }
        let value: f64 = value.parse().expect(line);
        assert!(value >= 0.0 && value.is_finite(), "{line}");
        assert!(
            !self.values.iter().any(|(other, _)| other == series),
            "{line}"
        );
        self.values.push((series.into(), value));
    }

    /// Checks that buckets are cumulative, and the last has them all.
    #[track_caller]
    fn check_histogram(&self, name: &str) {
        let buckets = self.family(&format!("{name}_bucket"));
        assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{buckets:?}");
        let bounds: Vec<f64> = buckets
            .iter()
            .map(|(series, _)| series.split('"').nth(1).unwrap().parse().unwrap())
            .collect();
        assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        assert_eq!(bounds.last(), Some(&f64::INFINITY));
        assert_eq!(
            buckets.last().unwrap().1,
            self.get(&format!("{name}_count"))
        );
    }

    /// The value of a series, by its name with its labels.
    #[track_caller]
    pub(crate) fn get(&self, series: &str) -> f64 {
        let mut values = self.values.iter();
        let found = values.find(|(other, _)| other == series);
        found.unwrap_or_else(|| panic!("no {series}: {self:?}")).1
    }

    /// All series of one name.
    pub(crate) fn family(&self, name: &str) -> Vec<(String, f64)> {
        let is_one = |series: &str| series.split('{').next() == Some(name);
        let values = self.values.iter().filter(|(series, _)| is_one(series));
        values.cloned().collect()
    }

    /// The sum over all series of one name.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.family(name).iter().map(|(_, value)| value).sum()
    }

    /// Checks that what may only grow has not shrunk.
    #[track_caller]
    pub(crate) fn assert_grown(&self, before: &Self) {
        for (series, value) in &before.values {
            let name = series.split('{').next().unwrap();
            if !self.gauges.iter().any(|gauge| gauge == name) {
                assert!(self.get(series) >= *value, "{series}");
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}
