//! What a benchmark found: a table for people and rows for machines, from the same figures.

use std::fmt;

use serde::Serialize;

/// Which direction of a metric is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// For example requests per second.
    Higher,
    /// For example a latency.
    Lower,
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its stable name, in snake case.
    pub name: &'static str,
    /// Its unit, for example "µs".
    pub unit: &'static str,
    /// Its direction.
    pub better: Better,
    /// How many decimals a person sees.
    pub decimals: usize,
}

/// One contestant's figures in one case, as many as the table has metrics; `None` where it has no such figure.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Who.
    pub contestant: &'static str,
    /// The medians, in the order of the table's metrics.
    pub values: Vec<Option<f64>>,
}

/// The figures of one benchmark. In each case the first entry is ours, the others are peers.
#[derive(Debug, Clone)]
pub struct Table {
    /// The benchmark's name.
    pub bench: &'static str,
    /// What was done, in a line.
    pub title: String,
    /// The columns.
    pub metrics: Vec<Metric>,
    /// The cases by name, each with ours first.
    pub cases: Vec<(String, Vec<Entry>)>,
}

/// One figure beside the best peer's.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The benchmark's name.
    pub bench: &'static str,
    /// What varies inside the benchmark, for example the response's size.
    pub case: String,
    /// The metric's name.
    pub metric: &'static str,
    /// The metric's unit.
    pub unit: &'static str,
    /// Our figure.
    pub value: f64,
    /// The peer that was best at this metric, if any has the figure.
    pub peer: Option<&'static str>,
    /// Its figure.
    pub peer_value: Option<f64>,
    /// Above 1: we are better.
    pub ratio: Option<f64>,
}

impl Table {
    /// The figures beside the best peer's, for the JSON file.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (case, entries) in &self.cases {
            for (column, metric) in self.metrics.iter().enumerate() {
                let Some(value) = entries[0].values[column] else { continue };
                let best = best_peer(&entries[1..], column, metric.better);
                rows.push(Row {
                    bench: self.bench,
                    case: case.clone(),
                    metric: metric.name,
                    unit: metric.unit,
                    value,
                    peer: best.map(|(peer, _)| peer),
                    peer_value: best.map(|(_, value)| value),
                    ratio: best.and_then(|(_, peer)| ratio(value, peer, metric.better)),
                });
            }
        }
        rows
    }
}

fn best_peer(peers: &[Entry], column: usize, better: Better) -> Option<(&'static str, f64)> {
    let figures = peers.iter().filter_map(|peer| Some((peer.contestant, peer.values[column]?)));
    figures.max_by(|(_, a), (_, b)| match better {
        Better::Higher => a.total_cmp(b),
        Better::Lower => b.total_cmp(a),
    })
}

/// None where it would be divided by nothing.
fn ratio(ours: f64, peer: f64, better: Better) -> Option<f64> {
    let ratio = match better {
        Better::Higher => ours / peer,
        Better::Lower => peer / ours,
    };
    Some(ratio).filter(|ratio| ratio.is_finite())
}

/// The middle value; of an even number of values, the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "a median needs a value");
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} · {}", self.bench, self.title)?;
        let names = self.cases.iter().map(|(case, _)| case.chars().count());
        let width = names.max().unwrap_or(0).max(12) + 2;
        write!(f, "  {:<width$}{:<22}", "case", "")?;
        for metric in &self.metrics {
            write!(f, "{:>14}", heading(metric))?;
        }
        writeln!(f)?;
        let rows = self.rows();
        for (case, entries) in &self.cases {
            for (index, entry) in entries.iter().enumerate() {
                write!(f, "  {:<width$}{:<22}", if index == 0 { case } else { "" }, entry.contestant)?;
                for (metric, value) in self.metrics.iter().zip(&entry.values) {
                    match value {
                        Some(value) => write!(f, "{:>14.*}", metric.decimals, value)?,
                        None => write!(f, "{:>14}", "–")?,
                    }
                }
                writeln!(f)?;
            }
            write!(f, "  {:<width$}{:<22}", "", "ratio to best peer")?;
            for metric in &self.metrics {
                let row = rows.iter().find(|row| row.case == *case && row.metric == metric.name);
                match row.and_then(|row| row.ratio) {
                    Some(ratio) => write!(f, "{ratio:>14.2}")?,
                    None => write!(f, "{:>14}", "–")?,
                }
            }
            writeln!(f)?;
        }
        write!(f, "  (a ratio above 1: we are better)")
    }
}

fn heading(metric: &Metric) -> String {
    let name = metric.name.split("_per_").next().unwrap_or(metric.name);
    format!("{} {}", name.replace('_', " "), metric.unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let metric = |name, unit, better| Metric { name, unit, better, decimals: 1 };
        let entry = |contestant, rate, cpu| Entry { contestant, values: vec![Some(rate), cpu] };
        Table {
            bench: "proxy",
            title: "a test".into(),
            metrics: vec![
                metric("requests_per_second", "1/s", Better::Higher),
                metric("cpu_per_request", "µs", Better::Lower),
            ],
            cases: vec![(
                "200 B".into(),
                vec![
                    entry("gateway", 50.0, Some(20.0)),
                    entry("nginx", 40.0, Some(10.0)),
                    entry("haproxy", 100.0, None),
                ],
            )],
        }
    }

    #[test]
    fn the_ratio_is_above_one_where_we_are_better() {
        let rows = table().rows();
        assert_eq!((rows[0].peer, rows[0].ratio), (Some("haproxy"), Some(0.5)));
        assert_eq!((rows[1].peer, rows[1].ratio), (Some("nginx"), Some(0.5)));
    }

    #[test]
    fn two_zeros_have_no_ratio() {
        assert_eq!(ratio(0.0, 0.0, Better::Lower), None);
        assert_eq!(ratio(0.0, 2.0, Better::Lower), None);
        assert_eq!(ratio(0.0, 2.0, Better::Higher), Some(0.0));
    }

    #[test]
    fn a_figure_without_a_peer_has_no_ratio() {
        let mut table = table();
        table.cases[0].1.truncate(1);
        assert!(table.rows().iter().all(|row| row.ratio.is_none() && row.peer.is_none()));
        assert!(table.to_string().contains('–'));
    }

    #[test]
    fn medians_hold_for_odd_and_even_counts() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
