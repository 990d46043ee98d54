//! Reads Prometheus metrics.

use anyhow::{Context, Result};

/// What a `/metrics` page says.
#[derive(Debug, Clone)]
pub struct Metrics(String);

impl Metrics {
    /// Fetches `http://{address}/metrics`.
    pub async fn fetch(client: &reqwest::Client, address: &str) -> Result<Self> {
        let response =
            client.get(format!("http://{address}/metrics")).send().await.context("fetch metrics")?;
        Ok(Self(response.error_for_status()?.text().await?))
    }

    /// The sum of all series of `name` whose labels hold every one of `labels` (as `key="value"`).
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let series = self.0.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (own, rest) = series.split_once('{').unwrap_or((series, ""));
            let fits = own == name && labels.iter().all(|label| rest.contains(label));
            fits.then(|| value.parse::<f64>().ok()).flatten()
        });
        series.sum()
    }

    /// Whether there is any series of `name`.
    pub fn has(&self, name: &str) -> bool {
        self.0.lines().any(|line| line.split(['{', ' ']).next() == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_labels() {
        let page = "# HELP a_total b\na_total{stage=\"queued\",x=\"1\"} 2.0\na_total{stage=\"running\"} 3\na_totals 9\n";
        let metrics = Metrics(page.into());
        assert_eq!(metrics.sum("a_total", &[]), 5.0);
        assert_eq!(metrics.sum("a_total", &["stage=\"queued\""]), 2.0);
        assert!(metrics.has("a_totals") && !metrics.has("a"));
    }
}
