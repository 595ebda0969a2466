//! Latencies in a histogram of growing steps: eight per doubling, so within 9 %.

/// Steps: from a microsecond to over an hour.
const STEPS: usize = 8 * 32;

/// How often which latency was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Latencies {
    /// By step; as long as needed.
    counts: Vec<u32>,
    total: u64,
}

fn step(micros: u64) -> usize {
    (((micros.max(1) as f64).log2() * 8.0).floor() as usize).min(STEPS - 1)
}

impl Latencies {
    pub fn add(&mut self, micros: u64) {
        let step = step(micros);
        if self.counts.len() <= step {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] = self.counts[step].saturating_add(1);
        self.total += 1;
    }

    pub fn join(&mut self, other: &Latencies) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.total += other.total;
    }

    /// The latency that so large a part does not exceed, in microseconds; `None` without any.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let rank = (self.total as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        });
        at.filter(|_| self.total > 0).map(|step| 2f64.powf((step as f64 + 0.5) / 8.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_step() {
        let (mut low, mut high) = (Latencies::default(), Latencies::default());
        assert_eq!(low.quantile(0.5), None);
        (1..=500).for_each(|micros| low.add(micros * 10));
        (501..=1000).for_each(|micros| high.add(micros * 10));
        low.join(&high);
        for (part, exact) in [(0.5, 5_000.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
            let found = low.quantile(part).unwrap();
            assert!((found / exact - 1.0).abs() < 0.09, "{part}: {found}");
        }
        high.add(u64::MAX);
        assert!(high.quantile(1.0).unwrap() > 3e9);
    }
}
