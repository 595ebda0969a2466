//! Values over time in a bounded number of buckets, however long a run is.

/// The first width of a bucket, in microseconds.
const WIDTH: u64 = 100_000;
/// Buckets kept; beyond it pairs are joined.
const BUCKETS: usize = 1200;

/// A bucket's content that two neighbours can be joined to.
pub trait Join: Default {
    /// Takes the content of the bucket after.
    fn join(&mut self, later: Self);
}

impl Join for u64 {
    fn join(&mut self, later: u64) {
        *self += later;
    }
}

/// The largest of what was seen in a bucket, if anything was.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Most(pub Option<u64>);

impl Join for Most {
    fn join(&mut self, later: Most) {
        self.0 = self.0.max(later.0);
    }
}

impl Join for super::latency::Latencies {
    fn join(&mut self, later: Self) {
        super::latency::Latencies::join(self, &later);
    }
}

/// Buckets of equal width from the beginning of a run.
#[derive(Debug, Clone)]
pub struct Series<T> {
    pub width: u64,
    pub buckets: Vec<T>,
}

impl<T> Default for Series<T> {
    fn default() -> Series<T> {
        Series { width: WIDTH, buckets: Vec::new() }
    }
}

impl<T: Join + Clone> Series<T> {
    /// The bucket of a time.
    pub fn at(&mut self, micros: u64) -> &mut T {
        while micros / self.width >= BUCKETS as u64 {
            self.coarsen();
        }
        let bucket = (micros / self.width) as usize;
        if self.buckets.len() <= bucket {
            self.buckets.resize_with(bucket + 1, T::default);
        }
        &mut self.buckets[bucket]
    }

    fn coarsen(&mut self) {
        self.width *= 2;
        let mut pairs = std::mem::take(&mut self.buckets).into_iter();
        while let Some(mut first) = pairs.next() {
            if let Some(second) = pairs.next() {
                first.join(second);
            }
            self.buckets.push(first);
        }
    }

    /// The same in buckets at least this wide.
    pub fn coarsened(&self, width: u64) -> Series<T> {
        let mut wider = self.clone();
        while wider.width < width {
            wider.coarsen();
        }
        wider
    }

    /// The middle of each bucket, in microseconds, with its content.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let middle = move |at: usize| at as u64 * self.width + self.width / 2;
        self.buckets.iter().enumerate().map(move |(at, content)| (middle(at), content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_wider_buckets_and_the_same_sum() {
        let mut series = Series::<u64>::default();
        for second in 0..1000 {
            *series.at(second * 1_000_000) += 1;
        }
        assert!(series.buckets.len() <= BUCKETS);
        assert_eq!((series.width, series.buckets.iter().sum::<u64>()), (1_600_000, 1000));
        assert_eq!(series.iter().next(), Some((series.width / 2, &series.buckets[0])));
        let series = series.coarsened(5_000_000);
        assert_eq!((series.width, series.buckets.iter().sum::<u64>()), (6_400_000, 1000));
    }

    #[test]
    fn the_most_of_nothing_is_nothing() {
        let mut most = Most(None);
        most.join(Most(Some(3)));
        most.join(Most(None));
        assert_eq!(most, Most(Some(3)));
    }
}
