//! Room on the disks: how much a node must keep, and what follows from who has it.
//!
//! ```text
//! enough ─► short: no publishes, another leads, snapshots early ─► full: this life of the node ends
//!    ▲        │
//!    └────────┘ with a margin above the floor
//! ```
//!
//! What a short disk still has is the reserve of settlements, relocation and purge, which make room.
//! An acknowledgement takes the disks of a majority; so publishes are refused when it is known that
//! no majority has room. Nobody is held against the others for being silent alone.
//!
//! Pure. [`super::steward`] looks at the disk and asks the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Beyond this nobody needs to be above the floor to have room again.
const MARGIN_MAX: u64 = 64 << 20;
/// A leader that asked somebody to take over goes on taking publishes for so long …
const LEAVING_MAX: Duration = Duration::from_secs(2);
/// … and asks nobody again before this has passed.
const LEAVE_PAUSE: Duration = Duration::from_secs(10);

/// What there is to write on, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Free on the disk.
    pub free: u64,
    /// What should be.
    pub floor: u64,
    /// There is less, or was and it is not much more by now.
    pub short: bool,
}

/// What a node must be able to write so that it makes room again, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// What is to be free whatever is in the log.
    pub setting: u64,
    /// Events that are in the log only, and needed.
    pub unrelocated: u64,
    /// The machine's part of the newest snapshot.
    pub machine: u64,
    /// For the log itself.
    pub reserve: u64,
    /// What the ballast lacks.
    pub ballast: u64,
}

impl Needs {
    /// How much is to be free. The next snapshot may be larger than the one before.
    pub fn floor(&self) -> u64 {
        let snapshot = self.unrelocated.saturating_add(self.machine.saturating_mul(2));
        let computed = snapshot.saturating_add(self.reserve);
        self.setting.max(computed).saturating_add(self.ballast)
    }
}

/// How much more than the floor is to be free before a disk is no longer short.
pub(super) fn margin(floor: u64) -> u64 {
    (floor / 8).min(MARGIN_MAX)
}

impl Room {
    /// The room after another look at the disk.
    pub(super) fn seen(self, free: u64, floor: u64) -> Room {
        let enough = match self.short {
            true => floor.saturating_add(margin(floor)),
            false => floor,
        };
        Room { free, floor, short: free < enough }
    }

    /// Whether the ballast can be made of it, with room to spare.
    pub(super) fn is_plenty(&self) -> bool {
        !self.short && self.free >= self.floor.saturating_add(margin(self.floor))
    }
}

/// What a leader knows of the disk of a voter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// What it said.
    Said(Room),
    /// It speaks a version in which it cannot be asked.
    Mute,
    /// It has not answered lately.
    Silent,
}

impl Known {
    fn is_short(&self) -> bool {
        matches!(self, Known::Said(Room { short: true, .. }))
    }

    /// Whether it can be counted on where somebody is short.
    fn has_room(&self) -> bool {
        matches!(self, Known::Said(Room { short: false, .. }) | Known::Mute)
    }
}

/// What is known of all voters, this node included, by id.
pub(super) type Census = BTreeMap<u64, Known>;

/// Why publishes are refused, if they are: it is known that a set of voters has no majority with
/// room.
pub(super) fn lack(voters: &[BTreeSet<u64>], census: &Census) -> Option<String> {
    let known = |id: &u64| census.get(id).copied().unwrap_or(Known::Silent);
    let lacks = |set: &&BTreeSet<u64>| {
        let roomy = set.iter().filter(|id| known(id).has_room()).count();
        set.iter().any(|id| known(id).is_short()) && roomy <= set.len() / 2
    };
    let set = voters.iter().find(lacks)?;
    let without = set.iter().filter(|id| !known(id).has_room());
    let told: Vec<String> = without.map(|id| describe(*id, known(id))).collect();
    Some(told.join("; "))
}

/// A node without room, for people.
fn describe(id: u64, known: Known) -> String {
    match known {
        Known::Said(Room { free, floor, .. }) => {
            format!("node {id} has {} free, and publishes need {}", mib(free), mib(floor))
        }
        _ => format!("node {id} does not answer"),
    }
}

fn mib(bytes: u64) -> String {
    let tenths = bytes / ((1 << 20) / 10);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// Who of the voters should lead in the place of `me`, whose disk is short: has room, has said so,
/// and most of the log. `matched`: how many entries each lacks.
pub(super) fn successor(me: u64, census: &Census, lags: &BTreeMap<u64, u64>) -> Option<u64> {
    let said = |id: &u64| matches!(census.get(id), Some(Known::Said(Room { short: false, .. })));
    let others = lags.iter().filter(|(id, _)| **id != me && said(id));
    others.min_by_key(|(_, lag)| **lag).map(|(id, _)| *id)
}

/// A leader's attempts to leave.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Leaving(Option<Duration>);

impl Leaving {
    /// Whether somebody may be asked to take over now, and takes note that it is done.
    pub fn begins(&mut self, now: Duration) -> bool {
        let may = self.0.is_none_or(|at| now >= at + LEAVE_PAUSE);
        if may {
            self.0 = Some(now);
        }
        may
    }

    /// Whether an attempt is under way.
    pub fn goes_on(&self, now: Duration) -> bool {
        self.0.is_some_and(|at| now < at + LEAVING_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn said(short: bool) -> Known {
        Known::Said(Room { free: 3 * MIB / 2, floor: 2 * MIB, short })
    }

    #[test]
    fn the_floor_is_what_makes_room_again() {
        let none = Needs::default();
        for (needs, floor) in [
            (none, 0),
            (Needs { setting: 512, ..none }, 512),
            (Needs { setting: 512, unrelocated: 300, machine: 50, reserve: 100, ..none }, 512),
            (Needs { setting: 512, unrelocated: 400, machine: 50, reserve: 100, ..none }, 600),
            (Needs { setting: 512, reserve: 100, ballast: 64, ..none }, 576),
            (Needs { unrelocated: 400, ballast: 64, ..none }, 464),
            (Needs { setting: 1, machine: u64::MAX, ballast: 1, ..none }, u64::MAX),
        ] {
            assert_eq!(needs.floor(), floor, "{needs:?}");
        }
    }

    #[test]
    fn room_returns_with_a_margin() {
        let mut room = Room::default();
        for (free, short) in
            [(800, false), (799, true), (800, true), (899, true), (900, false), (800, false)]
        {
            room = room.seen(free, 800);
            assert_eq!(room, Room { free, floor: 800, short }, "{free} free");
        }
        assert!(!room.is_plenty() && room.seen(900, 800).is_plenty());
        assert!(!Room { short: true, ..room.seen(900, 800) }.is_plenty());
        // A floor that rises makes a disk short, one that falls makes it roomy again.
        assert!(room.seen(800, 801).short && !room.seen(800, 801).seen(800, 700).short);
        assert_eq!(margin(1 << 40), MARGIN_MAX);
        assert!(Room::default().seen(u64::MAX, u64::MAX).seen(0, u64::MAX).short);
    }

    #[test]
    fn publishes_need_a_majority_with_room() {
        use Known::{Mute, Silent};
        let (short, roomy) = (said(true), said(false));
        for (known, refused) in [
            ([roomy, roomy, roomy], false),
            ([roomy, roomy, short], false),
            ([short, roomy, roomy], false),
            ([short, roomy, short], true),
            ([short, short, short], true),
            // Silence alone is held against nobody.
            ([roomy, Silent, Silent], false),
            ([roomy, Silent, short], true),
            ([short, roomy, Silent], true),
            ([roomy, Mute, short], false),
            ([short, Mute, Mute], false),
        ] {
            let census: Census = (1..).zip(known).collect();
            let lack = lack(&[BTreeSet::from([1, 2, 3])], &census);
            assert_eq!(lack.is_some(), refused, "{known:?}: {lack:?}");
        }
    }

    #[test]
    fn a_refusal_names_who_has_no_room() {
        let census = Census::from([(1, said(true)), (2, said(false)), (9, said(true))]);
        assert_eq!(
            lack(&[BTreeSet::from([1, 2, 3])], &census).unwrap(),
            "node 1 has 1.5 MiB free, and publishes need 2.0 MiB; node 3 does not answer"
        );
        // Who is no voter does not count; each set of a joint configuration does.
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(lack(&[set(&[2])], &census), None);
        assert!(lack(&[set(&[2]), set(&[1])], &census).is_some());
    }

    #[test]
    fn the_successor_has_room_and_most_of_the_log() {
        let census = Census::from([
            (1, said(true)),
            (2, said(false)),
            (3, said(false)),
            (4, said(true)),
            (5, Known::Mute),
        ]);
        let lags = |all: &[(u64, u64)]| all.iter().copied().collect::<BTreeMap<_, _>>();
        let all = lags(&[(1, 0), (2, 7), (3, 5), (4, 0), (5, 0)]);
        assert_eq!(successor(1, &census, &all), Some(3));
        assert_eq!(successor(3, &census, &all), Some(2), "never itself");
        assert_eq!(successor(1, &census, &lags(&[(1, 0), (4, 0), (5, 0)])), None);
    }

    #[test]
    fn leaving_is_tried_once_in_a_while() {
        let s = Duration::from_secs;
        let mut leaving = Leaving::default();
        assert!(!leaving.goes_on(s(100)));
        assert!(leaving.begins(s(100)) && leaving.goes_on(s(101)));
        assert!(!leaving.goes_on(s(102)) && !leaving.begins(s(109)));
        assert!(leaving.begins(s(110)));
    }
}
