//! The rules of all directed links.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A place in the network: the clients, or a node.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Host(pub u8);

impl Host {
    /// Where all clients and observers are.
    pub const CLIENTS: Host = Host(0);
}

/// How a link is spoilt. The default is a perfect link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shape {
    /// The part of packets that is lost, 0 to 1.
    pub loss: f64,
    /// The part of packets that arrives twice, 0 to 1.
    pub duplicate: f64,
    /// Milliseconds on the way.
    pub delay_ms: u32,
    /// Up to so many milliseconds more, at random: packets overtake each other.
    pub jitter_ms: u32,
    /// Bytes per second; 0: unlimited. What would wait longer than `QUEUE_MAX` is lost.
    pub rate: u64,
}

/// The longest queue before a slow link.
pub const QUEUE_MAX: Duration = Duration::from_millis(400);

/// What a link has carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets, or pieces of streams.
    pub carried: u64,
    /// Lost to a block, a loss or a full queue; in streams, what a block has held up.
    pub lost: u64,
    /// Came late, or twice.
    pub spoilt: u64,
}

#[derive(Default)]
struct Link {
    blocked: bool,
    shape: Option<Shape>,
    /// When a slow link will have sent what it has.
    free_at: Option<Instant>,
    count: Count,
}

/// What is to be done with a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Now,
    /// Arrives at these times.
    At(Instant, Option<Instant>),
}

/// All links. Clones are handles to the same.
#[derive(Clone)]
pub struct Links {
    table: Arc<Mutex<BTreeMap<(Host, Host), Link>>>,
    changed: watch::Sender<u64>,
}

impl Default for Links {
    fn default() -> Links {
        Links { table: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl Links {
    /// Nothing from `from` reaches `to` any more.
    pub fn block(&self, from: Host, to: Host) {
        self.change(from, to, |link| link.blocked = true);
    }

    /// What `from` sends reaches `to` again.
    pub fn unblock(&self, from: Host, to: Host) {
        self.change(from, to, |link| link.blocked = false);
    }

    /// Spoils what goes from `from` to `to`.
    pub fn shape(&self, from: Host, to: Host, shape: Shape) {
        self.change(from, to, |link| {
            link.shape = Some(shape).filter(|shape| *shape != Shape::default());
            link.free_at = None;
        });
    }

    /// Every link is whole again.
    pub fn heal_all(&self) {
        for link in self.lock().values_mut() {
            *link = Link { count: link.count, ..Link::default() };
        }
        self.changed.send_modify(|version| *version += 1);
    }

    /// Whether a link is blocked.
    pub fn is_blocked(&self, from: Host, to: Host) -> bool {
        self.lock().get(&(from, to)).is_some_and(|link| link.blocked)
    }

    /// What a link has carried so far.
    pub fn count(&self, from: Host, to: Host) -> Count {
        self.lock().get(&(from, to)).map(|link| link.count).unwrap_or_default()
    }

    /// What all links together have carried.
    pub fn total(&self) -> Count {
        self.lock().values().fold(Count::default(), |sum, link| Count {
            carried: sum.carried + link.count.carried,
            lost: sum.lost + link.count.lost,
            spoilt: sum.spoilt + link.count.spoilt,
        })
    }

    /// Decides about a packet of `bytes` bytes.
    pub(super) fn fate(
        &self,
        (from, to): (Host, Host),
        bytes: usize,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Fate {
        let mut table = self.lock();
        let link = table.entry((from, to)).or_default();
        let fate = link.fate(bytes, now, rng);
        match fate {
            Fate::Lost => link.count.lost += 1,
            Fate::Now => link.count.carried += 1,
            Fate::At(..) => {
                link.count.carried += 1;
                link.count.spoilt += 1;
            }
        }
        fate
    }

    /// When a piece of a stream arrives; streams lose and reorder nothing.
    pub(super) fn arrival(
        &self,
        (from, to): (Host, Host),
        bytes: usize,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Instant {
        let mut table = self.lock();
        let link = table.entry((from, to)).or_default();
        link.count.carried += 1;
        let Some(shape) = link.shape else { return now };
        link.count.spoilt += 1;
        link.queued(&shape, bytes, now) + shape.travel(rng)
    }

    /// Completes when the link is not blocked; a block that holds somebody up is counted.
    pub(super) async fn open(&self, from: Host, to: Host) {
        if let Some(link) = self.lock().get_mut(&(from, to)).filter(|link| link.blocked) {
            link.count.lost += 1;
        }
        let mut changes = self.changed.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = changes.wait_for(|_| !self.is_blocked(from, to)).await;
    }

    fn change(&self, from: Host, to: Host, change: impl FnOnce(&mut Link)) {
        change(self.lock().entry((from, to)).or_default());
        self.changed.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Host, Host), Link>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shape {
    fn travel(&self, rng: &mut fastrand::Rng) -> Duration {
        let jitter = Duration::from_millis(u64::from(self.jitter_ms)).mul_f64(rng.f64());
        Duration::from_millis(u64::from(self.delay_ms)) + jitter
    }
}

impl Link {
    /// When the last of `bytes` bytes has left, behind all that was sent before.
    fn queued(&mut self, shape: &Shape, bytes: usize, now: Instant) -> Instant {
        if shape.rate == 0 {
            return now;
        }
        let start = self.free_at.map_or(now, |free_at| free_at.max(now));
        let end = start + Duration::from_secs_f64(bytes as f64 / shape.rate as f64);
        self.free_at = Some(end);
        end
    }

    fn fate(&mut self, bytes: usize, now: Instant, rng: &mut fastrand::Rng) -> Fate {
        if self.blocked {
            return Fate::Lost;
        }
        let Some(shape) = self.shape else { return Fate::Now };
        let is_full = self.free_at.is_some_and(|free_at| free_at > now + QUEUE_MAX);
        if is_full || rng.f64() < shape.loss {
            return Fate::Lost;
        }
        let sent = self.queued(&shape, bytes, now);
        let second = (rng.f64() < shape.duplicate).then(|| sent + shape.travel(rng));
        let first = sent + shape.travel(rng);
        if first == now && second.is_none() { Fate::Now } else { Fate::At(first, second) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: (Host, Host) = (Host(1), Host(2));

    #[test]
    fn a_block_has_one_direction() {
        let (links, now, rng) = (Links::default(), Instant::now(), &mut fastrand::Rng::new());
        links.block(LINK.0, LINK.1);
        assert_eq!(links.fate(LINK, 9, now, rng), Fate::Lost);
        assert_eq!(links.fate((LINK.1, LINK.0), 9, now, rng), Fate::Now);
        links.heal_all();
        assert_eq!(links.fate(LINK, 9, now, rng), Fate::Now);
        assert_eq!(links.count(LINK.0, LINK.1), Count { carried: 1, lost: 1, spoilt: 0 });
    }

    #[test]
    fn a_slow_link_queues_and_then_loses() {
        let (links, now, rng) = (Links::default(), Instant::now(), &mut fastrand::Rng::new());
        links.shape(LINK.0, LINK.1, Shape { rate: 10_000, ..Shape::default() });
        for ms in [100, 200, 300, 400, 500] {
            let at = now + Duration::from_millis(ms);
            assert_eq!(links.fate(LINK, 1000, now, rng), Fate::At(at, None));
        }
        assert_eq!(links.fate(LINK, 1000, now, rng), Fate::Lost);
        let later = now + Duration::from_secs(9);
        let at = later + Duration::from_millis(100);
        assert_eq!(links.fate(LINK, 1000, later, rng), Fate::At(at, None));
    }

    #[test]
    fn loss_and_duplication_are_as_frequent_as_asked() {
        let (links, now, rng) = (Links::default(), Instant::now(), &mut fastrand::Rng::new());
        let shape = Shape { loss: 0.25, duplicate: 0.5, delay_ms: 1, ..Shape::default() };
        links.shape(LINK.0, LINK.1, shape);
        let (mut lost, mut twice) = (0, 0);
        for _ in 0..10_000 {
            match links.fate(LINK, 1, now, rng) {
                Fate::Lost => lost += 1,
                Fate::At(_, Some(_)) => twice += 1,
                _ => {}
            }
        }
        assert!((2_200..2_800).contains(&lost), "{lost}");
        assert!((3_400..4_100).contains(&twice), "{twice}");
    }
}
