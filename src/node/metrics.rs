//! Metrics: plain values gathered when asked for, written as OpenMetrics text. Nothing below this
//! module knows of metrics; components keep plain counters.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder,
    text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Labels of one series, name and value.
type Labels = Vec<(&'static str, String)>;

/// One metric with all its series.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    series: Vec<(Labels, f64)>,
}

/// Values gathered for one scrape.
#[derive(Debug, Default)]
pub struct Sample(Vec<Family>);

impl Sample {
    /// A value that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.series(name, help, MetricType::Gauge, Labels::new(), value);
    }

    /// A value that only grows while the process lives.
    pub fn counter(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.series(name, help, MetricType::Counter, Labels::new(), value);
    }

    /// One labelled series of a gauge; calls with one name must follow each other.
    pub fn gauge_of(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: f64,
    ) {
        self.series(name, help, MetricType::Gauge, owned(labels), value);
    }

    /// One labelled series of a counter; calls with one name may be interleaved with others.
    pub fn counter_of(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: f64,
    ) {
        self.series(name, help, MetricType::Counter, owned(labels), value);
    }

    fn series(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        labels: Labels,
        value: f64,
    ) {
        match self.0.iter_mut().find(|family| family.name == name) {
            Some(family) => family.series.push((labels, value)),
            None => self.0.push(Family { name, help, kind, series: vec![(labels, value)] }),
        }
    }

    /// The sample as OpenMetrics text, every name prefixed with `aqueduct_`.
    pub fn into_text(self) -> String {
        let mut registry = Registry::with_prefix("aqueduct");
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        // Writing to a string fails only where a collector does, and ours does not.
        match text::encode(&mut out, &registry) {
            Ok(()) => out,
            Err(fmt::Error) => "# EOF\n".into(),
        }
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Labels {
    labels.iter().map(|(name, value)| (*name, value.to_string())).collect()
}

impl Collector for Sample {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for family in &self.0 {
            let mut metric =
                encoder.encode_descriptor(family.name, family.help, None, family.kind)?;
            for (labels, value) in &family.series {
                if !labels.is_empty() {
                    encode_value(metric.encode_family(&LabelSet(labels))?, family.kind, *value)?;
                    continue;
                }
                // An unlabelled metric has one series, which consumes the encoder.
                encode_value(metric, family.kind, *value)?;
                break;
            }
        }
        Ok(())
    }
}

fn encode_value(encoder: MetricEncoder, kind: MetricType, value: f64) -> Result<(), fmt::Error> {
    match kind {
        MetricType::Counter => ConstCounter::new(value).encode(encoder),
        _ => ConstGauge::new(value).encode(encoder),
    }
}

/// Labels as the encoder wants them.
struct LabelSet<'a>(&'a Labels);

impl EncodeLabelSet for LabelSet<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> Result<(), fmt::Error> {
        for (name, value) in self.0 {
            (*name, value.as_str()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_becomes_openmetrics_text() {
        let mut sample = Sample::default();
        sample.gauge("term", "Raft term.", 7.0);
        sample.counter_of("accepted", "Events accepted.", &[("channel", "a")], 3.0);
        sample.gauge_of("pending", "Events pending.", &[("channel", "a")], 1.0);
        sample.counter_of("accepted", "Events accepted.", &[("channel", "b\"\n")], 4.0);
        let text = sample.into_text();
        for line in [
            "# TYPE aqueduct_term gauge",
            "aqueduct_term 7.0",
            "# TYPE aqueduct_accepted counter",
            "aqueduct_accepted_total{channel=\"a\"} 3.0",
            "aqueduct_accepted_total{channel=\"b\\\"\\n\"} 4.0",
            "aqueduct_pending{channel=\"a\"} 1.0",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
    }
}
