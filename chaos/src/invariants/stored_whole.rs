//! Every node can read every event that it retains, and reads what was published.

use std::collections::HashMap;

use super::Invariant;
use crate::history::{EventId, Outcome, Record, What};

#[derive(Default)]
pub(super) struct StoredWhole {
    digests: HashMap<EventId, u64>,
    /// Acknowledged events by channel and place.
    places: HashMap<(String, u64), EventId>,
    /// Channels of publishes under way.
    channels: HashMap<EventId, String>,
    read: u64,
}

impl Invariant for StoredWhole {
    fn name(&self) -> &'static str {
        "stored-whole"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Stored { .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        match &record.what {
            What::Publish { event, channel, digest, .. } => {
                self.digests.insert(*event, *digest);
                self.channels.insert(*event, channel.clone());
                Ok(())
            }
            What::Published { event, outcome: Outcome::Ok(place) } if place.seq > 0 => {
                if let Some(channel) = self.channels.remove(event) {
                    self.places.insert((channel, place.seq), *event);
                }
                Ok(())
            }
            What::Stored { node, channel, seq, event, digest, problem } => {
                self.read += 1;
                let at = format!("node {node}, {channel} {seq}");
                if let Some(problem) = problem {
                    return Err(format!("{at}: it cannot be read: {problem}"));
                }
                let acknowledged = self.places.get(&(channel.clone(), *seq));
                if acknowledged.is_some_and(|wanted| Some(*wanted) != *event) {
                    return Err(format!("{at}: {event:?} lies where {acknowledged:?} belongs"));
                }
                match event.and_then(|event| self.digests.get(&event)) {
                    Some(published) if published == digest => Ok(()),
                    Some(_) => Err(format!("{at}: the bytes of {event:?} have changed")),
                    None => Err(format!("{at}: {event:?} was never published")),
                }
            }
            _ => Ok(()),
        }
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        vec![("stored_events_read", self.read)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Asks;
    use crate::history::Place;

    fn history(event: Option<EventId>, digest: u64, problem: Option<&str>) -> Result<(), String> {
        let (channel, problem) = ("c".to_string(), problem.map(str::to_owned));
        let lane = "1".to_string();
        let outcome = Outcome::Ok(Place { seq: 5, duplicate: false });
        let publish = What::Publish {
            event: 7,
            channel: channel.clone(),
            lane,
            number: 1,
            digest: 70,
            bytes: 8,
            asks: Asks::default(),
        };
        let other = What::Publish {
            event: 8,
            channel: channel.clone(),
            lane: "2".into(),
            number: 1,
            digest: 80,
            bytes: 8,
            asks: Asks::default(),
        };
        let stored = What::Stored { node: 1, channel, seq: 5, event, digest, problem };
        let mut one = StoredWhole::default();
        let all = [publish, other, What::Published { event: 7, outcome }, stored];
        all.into_iter().try_for_each(|what| one.observe(&Record { at: 0, by: "x".into(), what }))
    }

    #[test]
    fn holds_for_what_was_published() {
        history(Some(7), 70, None).unwrap();
    }

    #[test]
    fn catches_what_is_not_whole() {
        assert!(history(None, 0, Some("gone")).unwrap_err().contains("gone"));
        assert!(history(Some(7), 71, None).unwrap_err().contains("changed"));
        assert!(history(Some(8), 80, None).unwrap_err().contains("belongs"));
        assert!(history(Some(9), 80, None).unwrap_err().contains("belongs"));
        assert!(history(None, 70, None).unwrap_err().contains("belongs"));
    }
}
