//! Bad links: loss, delay, jitter, duplicates, little bandwidth.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::partition::host;
use super::whom::{Whom, members};
use super::{Begun, Inject, Scene};
use crate::bed::{Bed, Host, Shape};

/// Spoils all that goes between its targets and everybody else, both ways.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    pub whom: Whom,
    pub shape: Shape,
    /// Whether clients suffer, too.
    #[serde(default)]
    pub clients: bool,
}

impl Inject for Link {
    fn name(&self) -> String {
        let Shape { loss, duplicate, delay_ms, jitter_ms, rate } = self.shape;
        let mut parts = vec![self.whom.to_string()];
        let mut say = |value: f64, what: &str, unit: &str| {
            if value > 0.0 {
                parts.push(format!("{what} {value}{unit}"));
            }
        };
        say(loss * 100.0, "loss", "%");
        say(duplicate * 100.0, "duplicate", "%");
        say(delay_ms.into(), "delay", "ms");
        say(jitter_ms.into(), "jitter", "ms");
        say(rate as f64 / 1000.0, "rate", "kB/s");
        format!("link({})", parts.join(", "))
    }

    fn lacks(&self, bed: &Bed) -> Option<String> {
        let needs_packets = self.shape.loss > 0.0 || self.shape.duplicate > 0.0;
        (needs_packets && !bed.network().has_packets())
            .then(|| "packets to lose: network namespaces, as root".into())
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let targets = self.whom.choose(scene).await?;
        let mut others = Vec::from_iter(self.clients.then_some(Host::CLIENTS));
        for id in members(scene) {
            others.push(host(scene.bed, id)?);
        }
        let mut begun = scene.announce(self.name(), &targets, "");
        for id in targets {
            let target = host(scene.bed, id)?;
            for other in others.iter().filter(|other| **other != target) {
                for (from, to) in [(target, *other), (*other, target)] {
                    scene.bed.network().shape(from, to, self.shape);
                    begun.links.push((from, to));
                }
            }
        }
        Ok(begun)
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        let network = scene.bed.network();
        let count = network.links().total();
        for (from, to) in begun.links.drain(..) {
            network.shape(from, to, Shape::default());
        }
        Ok(format!("{} packets spoilt and {} lost since the start", count.spoilt, count.lost))
    }
}
