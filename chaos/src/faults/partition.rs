//! Partitions: sets of blocked directed links between nodes. Clients reach every node.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::whom::{Whom, members};
use super::{Begun, Inject, Scene};
use crate::bed::{Bed, Host};

/// Who does not hear whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// A minority and the others do not hear each other.
    Split,
    /// The leader and the others do not hear each other.
    IsolateLeader,
    /// The leader hears nobody, but is heard: its heartbeats go on.
    DeafLeader,
    /// Nobody hears the leader, but it hears them.
    MuteLeader,
    /// Nobody hears some node, which hears all.
    OneWay,
    /// Two halves that only one node in the middle connects.
    Bridge,
    /// In a ring, each hears a majority, and no two hear the same one.
    MajorityRing,
    /// The leader and one follower do not hear each other; the leader's heartbeats still reach the
    /// others, so they have no reason to let that follower lead.
    Partial,
}

/// Cuts the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Partition {
    pub cut: Cut,
}

type Pairs = BTreeSet<(u64, u64)>;

impl Inject for Partition {
    fn name(&self) -> String {
        let cut = serde_json::to_value(self.cut).unwrap_or_default();
        format!("partition({})", cut.as_str().unwrap_or_default())
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let mut nodes = members(scene);
        scene.rng.shuffle(&mut nodes);
        let (targets, pairs) = match self.cut {
            Cut::Split => {
                let side = Whom::Minority.choose(scene).await?;
                let pairs = both_ways(&across(&side, &nodes));
                (side, pairs)
            }
            Cut::OneWay => {
                let side = Whom::One.choose(scene).await?;
                let pairs = across(&side, &nodes);
                (side, pairs)
            }
            Cut::Bridge => (nodes.clone(), bridge(&nodes)),
            Cut::MajorityRing => (nodes.clone(), majority_ring(&nodes)),
            Cut::IsolateLeader | Cut::DeafLeader | Cut::MuteLeader | Cut::Partial => {
                let leader = vec![scene.bed.leader().await?];
                let pairs = around_leader(self.cut, &leader, &nodes);
                (leader, pairs)
            }
        };
        if pairs.is_empty() {
            bail!("there is no link to cut between {} nodes", nodes.len());
        }
        let detail: Vec<_> = pairs.iter().map(|(from, to)| format!("{from}→{to}")).collect();
        let mut begun = scene.announce(self.name(), &targets, detail.join(" "));
        for (from, to) in pairs {
            let link = (host(scene.bed, from)?, host(scene.bed, to)?);
            scene.bed.network().block(link.0, link.1);
            begun.links.push(link);
        }
        Ok(begun)
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        let links = scene.bed.network().links();
        let lost = begun.links.iter().map(|(from, to)| links.count(*from, *to).lost).sum::<u64>();
        for (from, to) in begun.links.drain(..) {
            links.unblock(from, to);
        }
        Ok(format!("{lost} packets did not pass"))
    }
}

/// Where a node is in the network.
pub(super) fn host(bed: &Bed, id: u64) -> Result<Host> {
    Ok(bed.node(id).context("find a node in the network")?.host)
}

/// From each of `side` to each of the others.
fn across(side: &[u64], nodes: &[u64]) -> Pairs {
    let others = || nodes.iter().filter(|id| !side.contains(id));
    side.iter().flat_map(|from| others().map(|to| (*from, *to))).collect()
}

fn both_ways(pairs: &Pairs) -> Pairs {
    pairs.iter().flat_map(|(from, to)| [(*from, *to), (*to, *from)]).collect()
}

fn around_leader(cut: Cut, leader: &[u64], nodes: &[u64]) -> Pairs {
    let out = across(leader, nodes);
    match cut {
        Cut::MuteLeader => out,
        Cut::DeafLeader => out.into_iter().map(|(from, to)| (to, from)).collect(),
        Cut::Partial => both_ways(&out.into_iter().take(1).collect()),
        _ => both_ways(&out),
    }
}

/// The first node is the bridge.
fn bridge(nodes: &[u64]) -> Pairs {
    let Some((_, rest)) = nodes.split_first() else { return Pairs::new() };
    let (left, right) = rest.split_at(rest.len() / 2);
    both_ways(&across(left, &[left, right].concat()))
}

/// Each node hears itself and its nearest neighbours in the ring, as many as make a majority.
fn majority_ring(nodes: &[u64]) -> Pairs {
    let (count, majority) = (nodes.len(), nodes.len() / 2 + 1);
    let mut pairs = Pairs::new();
    for (place, to) in nodes.iter().enumerate() {
        let heard = |other: usize| (other + count - place) % count < majority;
        let unheard = (0..count).filter(|other| !heard(*other));
        pairs.extend(unheard.map(|other| (nodes[other], *to)));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(pairs: &Pairs, to: u64, nodes: &[u64]) -> BTreeSet<u64> {
        nodes.iter().copied().filter(|from| !pairs.contains(&(*from, to))).collect()
    }

    #[test]
    fn in_a_ring_all_hear_different_majorities() {
        for nodes in [&[1, 2, 3][..], &[5, 4, 3, 2, 1]] {
            let pairs = majority_ring(nodes);
            let all: BTreeSet<_> = nodes.iter().map(|id| heard(&pairs, *id, nodes)).collect();
            assert_eq!(all.len(), nodes.len());
            assert!(all.iter().all(|heard| heard.len() == nodes.len() / 2 + 1));
        }
    }

    #[test]
    fn a_bridge_hears_all_and_the_halves_only_themselves_and_it() {
        let nodes = [1, 2, 3, 4, 5];
        let pairs = bridge(&nodes);
        assert_eq!(heard(&pairs, 1, &nodes).len(), 5);
        for (half, id) in [([1, 2, 3], 2), ([1, 2, 3], 3), ([1, 4, 5], 4), ([1, 4, 5], 5)] {
            assert_eq!(heard(&pairs, id, &nodes), half.into());
        }
        assert_eq!(bridge(&[1, 2, 3]), [(2, 3), (3, 2)].into());
    }

    #[test]
    fn a_deaf_leader_is_heard() {
        let nodes = [1, 2, 3];
        assert_eq!(around_leader(Cut::DeafLeader, &[2], &nodes), [(1, 2), (3, 2)].into());
        assert_eq!(around_leader(Cut::MuteLeader, &[2], &nodes), [(2, 1), (2, 3)].into());
        assert_eq!(around_leader(Cut::Partial, &[2], &nodes), [(2, 1), (1, 2)].into());
        assert_eq!(around_leader(Cut::IsolateLeader, &[2], &nodes).len(), 4);
    }
}
