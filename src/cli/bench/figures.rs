//! What a benchmark reports; its JSON is part of the contract.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::super::output;
use super::backlog::Backlog;
use super::catch_up::CatchUp;
use super::channels::Idle;
use super::meter::Used;

/// The result of one benchmark.
#[derive(Debug, Default, Serialize)]
pub struct Figures {
    pub kind: String,
    /// How many of what the benchmark counts: events, deliveries, channels.
    pub events: u64,
    pub seconds: f64,
    /// Of these per second.
    pub rate: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub max_ms: Option<f64>,
    /// Events refused or of unknown outcome.
    pub errors: u64,
    /// CPU seconds of all processes, client included, for 100,000 events (with --spawn).
    pub cpu_s_per_100k: Option<f64>,
    /// Peak memory by node (with --spawn).
    pub rss_peak_bytes: BTreeMap<u64, u64>,
    /// Bytes written to disk by a node for one event, on average over nodes (with --spawn).
    pub disk_bytes_per_event: Option<f64>,
    pub failover_ms: Vec<u64>,
    /// From the loss of a leader to the next delivery, where a consumer waited.
    pub delivery_ms: Vec<u64>,
    /// From the first attach until each waiting consumer had its first event.
    pub attach_ms: Option<u64>,
    #[serde(flatten)]
    pub backlog: Option<Backlog>,
    #[serde(flatten)]
    pub catch_up: Option<CatchUp>,
    #[serde(flatten)]
    pub idle: Option<Idle>,
}

/// A histogram of microseconds, up to a minute at three digits.
pub fn histogram() -> Histogram<u64> {
    // The bounds are constants within the crate's limits.
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("constant bounds are valid")
}

/// Notes a duration; one beyond the histogram's range counts as the longest.
pub fn note(histogram: &mut Histogram<u64>, duration: Duration, count: u64) {
    let micros = (duration.as_micros() as u64).max(1);
    histogram.saturating_record_n(micros, count);
}

impl Figures {
    /// Figures of `events` events in `elapsed`.
    pub fn of(kind: &str, events: u64, elapsed: Duration) -> Figures {
        let seconds = elapsed.as_secs_f64();
        let rate = events as f64 / seconds.max(f64::EPSILON);
        Figures { kind: kind.into(), events, seconds, rate, ..Figures::default() }
    }

    /// Adds percentiles of a histogram of microseconds.
    pub fn latencies(mut self, histogram: &Histogram<u64>) -> Figures {
        if !histogram.is_empty() {
            let ms = |micros: u64| Some(micros as f64 / 1000.0);
            self.p50_ms = ms(histogram.value_at_quantile(0.5));
            self.p99_ms = ms(histogram.value_at_quantile(0.99));
            self.max_ms = ms(histogram.max());
        }
        self
    }

    /// Adds what the cluster of this benchmark used, if it was ours.
    pub fn costs(mut self, used: Option<Used>) -> Figures {
        let Some(used) = used else { return self };
        let events = self.events.max(1) as f64;
        self.cpu_s_per_100k = Some(used.cpu.as_secs_f64() * 100_000.0 / events);
        self.disk_bytes_per_event = Some(used.written_bytes as f64 / events);
        self.rss_peak_bytes = used.rss_peak_bytes;
        self
    }

    fn counted(&self) -> &'static str {
        match self.kind.as_str() {
            "channels" => "channels",
            "fanout" => "deliveries",
            _ => "events",
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let what = self.counted();
        let mut lines = vec![format!(
            "{}  {} {what} in {:.2} s: {} {what}/s",
            self.kind,
            output::count(self.events),
            self.seconds,
            output::count(self.rate as u64)
        )];
        if let (Some(p50), Some(p99), Some(max)) = (self.p50_ms, self.p99_ms, self.max_ms) {
            lines.push(format!("latency   p50 {p50:.2} ms   p99 {p99:.2} ms   max {max:.2} ms"));
        }
        if !self.failover_ms.is_empty() {
            lines.push(format!("failover  {}", output::millis(&self.failover_ms)));
        }
        if let Some(attach) = self.attach_ms {
            lines.push(format!("attach    {attach} ms until every consumer had its first event"));
        }
        if !self.delivery_ms.is_empty() {
            lines.push(format!("delivery  {}", output::millis(&self.delivery_ms)));
        }
        lines.extend(self.backlog.iter().flat_map(Backlog::lines));
        lines.extend(self.catch_up.iter().flat_map(CatchUp::lines));
        lines.extend(self.idle.iter().flat_map(Idle::lines));
        if let (Some(cpu), Some(disk)) = (self.cpu_s_per_100k, self.disk_bytes_per_event) {
            let rss: Vec<_> = self.rss_peak_bytes.values().map(|b| output::bytes(*b)).collect();
            lines.push(format!("cpu       {cpu:.2} s per 100,000 {what}, all processes"));
            lines.push(format!("memory    {} (peak by node)", rss.join(", ")));
            lines.push(format!("disk      {disk:.0} bytes written by a node for each of them"));
        }
        if self.errors > 0 {
            lines.push(format!("errors    {}", output::count(self.errors)));
        }
        lines.join("\n")
    }
}
