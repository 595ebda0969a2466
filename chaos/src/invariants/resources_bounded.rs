//! Memory, disk and descriptors are bounded, and descriptors do not leak: at the end no node has
//! many more open than any had at the beginning.

use std::collections::BTreeMap;

use super::{Invariant, Rules};
use crate::history::{Phase, Record, What};

/// How long after its start, in microseconds, a run still shows how it begins.
const BEGINNING: u64 = 10_000_000;

pub(super) struct ResourcesBounded {
    rules: Rules,
    /// When the clients were set up.
    began: Option<u64>,
    /// Most descriptors of any node in the beginning.
    beginning: u64,
    /// Descriptors of each node that runs, by its latest sample.
    latest: BTreeMap<u64, u64>,
    rss_most: u64,
    disk_most: u64,
}

impl ResourcesBounded {
    pub fn new(rules: &Rules) -> ResourcesBounded {
        ResourcesBounded {
            rules: rules.clone(),
            began: None,
            beginning: 0,
            latest: BTreeMap::new(),
            rss_most: 0,
            disk_most: 0,
        }
    }

    fn used(&mut self, at: u64, node: u64, rss: u64, open: u64, disk: u64) -> Result<(), String> {
        if self.began.is_none_or(|began| at <= began + BEGINNING) {
            self.beginning = self.beginning.max(open);
        }
        self.latest.insert(node, open);
        self.rss_most = self.rss_most.max(rss);
        self.disk_most = self.disk_most.max(disk);
        let rules = &self.rules;
        let bounds = [
            ("bytes of memory", rss, rules.rss_bytes_max),
            ("descriptors", open, rules.descriptors_max),
            ("bytes of disk", disk, rules.disk_bytes_max),
        ];
        match bounds.iter().find(|(_, used, most)| used > most) {
            Some((what, used, most)) => {
                Err(format!("node {node} uses {used} {what}, of at most {most}"))
            }
            None => Ok(()),
        }
    }
}

impl Invariant for ResourcesBounded {
    fn name(&self) -> &'static str {
        "resources-bounded"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Usage { .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        match record.what {
            What::Phase { phase } if phase >= Phase::Faults => {
                self.began.get_or_insert(record.at);
            }
            What::NodeDown { node } => drop(self.latest.remove(&node)),
            What::Usage { node, rss_bytes, descriptors, disk_bytes } => {
                return self.used(record.at, node, rss_bytes, descriptors, disk_bytes);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, _drained: bool) -> Vec<String> {
        let most = self.beginning + self.rules.descriptors_growth;
        let leaks = self.latest.iter().filter(|(_, open)| **open > most);
        let said = leaks.map(|(node, open)| {
            let beginning = self.beginning;
            format!("node {node} ends with {open} descriptors, of {beginning} in the beginning")
        });
        said.collect()
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        vec![("rss_bytes_most", self.rss_most), ("disk_bytes_most", self.disk_most)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::*;

    fn one() -> ResourcesBounded {
        ResourcesBounded::new(&Rules::default())
    }

    fn uses(story: Story, rss_bytes: u64, descriptors: u64, disk_bytes: u64) -> Story {
        story.then(What::Usage { node: 1, rss_bytes, descriptors, disk_bytes })
    }

    #[test]
    fn holds_within_the_bounds() {
        let story = uses(story().phase(Phase::Faults), 1 << 20, 100, 1 << 20).wait(60_000);
        holds(one(), uses(story.clone(), 1 << 30, 356, 1 << 33));
        let gone = uses(story, 1 << 20, 400, 1).then(What::NodeDown { node: 1 });
        holds(one(), gone);
    }

    #[test]
    fn catches_each_bound() {
        let start = || story().phase(Phase::Faults);
        catches(one(), uses(start(), (1 << 30) + 1, 1, 1), "bytes of memory");
        catches(one(), uses(start(), 1, 8193, 1), "8193 descriptors");
        catches(one(), uses(start(), 1, 1, (8 << 30) + 1), "bytes of disk");
    }

    #[test]
    fn catches_descriptors_that_leak() {
        let story = uses(story().phase(Phase::Faults), 1, 100, 1).wait(60_000);
        catches(one(), uses(story, 1, 357, 1), "ends with 357 descriptors, of 100");
    }
}
