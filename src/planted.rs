//! Bugs planted on purpose, to show that the checks find them; `scripts/mutants` tries each.
//!
//! Only a build with the feature `planted-bugs` has them, and only one of them acts in a process:
//! that named by the environment variable `AQUEDUCT_PLANTED`, or chosen by `plant`. In any other
//! build [`planted`] is `false` at compile time and what it guards is not in the program.
//!
//! Each is planted where somebody might have written it, and reads as if somebody had.

macro_rules! bugs {
    ($($bug:ident, $name:literal, $shows:expr, $mistake:literal, $caught:literal;)*) => {
        /// A planted bug: what its author got wrong, and what should find it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug {
            $(
                #[doc = $mistake]
                #[doc = concat!(" Found by: ", $caught, ".")]
                $bug,
            )*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$bug),*];

            /// Its name in `AQUEDUCT_PLANTED`.
            pub const fn name(self) -> &'static str {
                match self { $(Bug::$bug => $name),* }
            }

            /// What its author got wrong.
            pub const fn mistake(self) -> &'static str {
                match self { $(Bug::$bug => $mistake),* }
            }

            /// What must hold and does not, in words.
            pub const fn caught_by(self) -> &'static str {
                match self { $(Bug::$bug => $caught),* }
            }

            /// Where it shows.
            pub const fn shows(self) -> Shows {
                match self { $(Bug::$bug => $shows),* }
            }
        }
    };
}

/// Where a planted bug can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// In simulated clusters.
    Simulation,
    /// Only in real processes on real disks: in this scenario.
    Scenario(&'static str),
    /// Only in a history too rare to wait for: in this test of the library, which plays it.
    Test(&'static str),
}

use Shows::{Scenario, Simulation, Test};

bugs! {
    // Acknowledging and syncing.
    AckBeforeCommit, "ack-before-commit", Simulation,
        "A session answers a publish once it is proposed: why wait for the log?",
        "no acknowledged event is lost";
    SilenceIsConsent, "silence-is-consent", Simulation,
        "An append that got no answer counts as stored: it will get there.",
        "no acknowledged event is lost, committed entries are immutable";
    SyncSkipped, "sync-skipped", Simulation,
        "The log writer leaves syncing to the kernel, and acknowledges what it wrote.",
        "no acknowledged event is lost, an undamaged node serves";
    FlushTrusted, "flush-trusted", Scenario("coordinated-power-failure"),
        "sled has a flush, so no fdatasync of our own is needed.",
        "no acknowledged event is lost";
    VoteNotPersisted, "vote-not-persisted", Simulation,
        "A vote is kept in memory only: elections are rare, and a restarted node can vote anew.",
        "one leader per term and node, committed entries are immutable";
    TruncateNotDurable, "truncate-not-durable", Simulation,
        "Truncated entries are forgotten in memory, and overwritten on disk some day.",
        "committed entries are immutable, an undamaged node serves";
    FloorAfterDelete, "floor-after-delete", Simulation,
        "A purge deletes first and writes its floor when the space is free.",
        "an undamaged node serves";
    FilesNotSynced, "files-not-synced", Simulation,
        "Segments and snapshots are not synced before the manifest names them.",
        "an undamaged node serves, no acknowledged event is lost";

    // Full disks.
    FloorIgnored, "floor-ignored", Scenario("full-disks"),
        "The disk is looked at, and never found short: there is always some room left.",
        "publishes are refused before a disk is full";
    FullIsWritten, "full-is-written", Simulation,
        "The log writer takes an append for written for which there was no space: it will be, when there is.",
        "no acknowledged event is lost, an undamaged node serves";

    // Damage.
    MarkIgnored, "mark-ignored", Simulation,
        "A log that ends before its high-water mark is taken for a torn one.",
        "a damaged node never serves, votes or leads";
    LogCrcIgnored, "log-crc-ignored", Simulation,
        "The checksum of a log record is not compared.",
        "bytes unchanged, committed entries are immutable, equal hashes";
    EventCrcIgnored, "event-crc-ignored", Simulation,
        "The checksum of a relocated event is not compared.",
        "nothing is delivered that was not published";
    SnapshotCrcIgnored, "snapshot-crc-ignored", Simulation,
        "A snapshot's checksums and state hash are not compared.",
        "equal hashes at equal index";
    RepairUnchecked, "repair-unchecked", Simulation,
        "A member sends the event next to the one asked for, and what arrives is taken as it comes.",
        "every node stores what was published";

    ScrubSkipsSegments, "scrub-skips-segments", Simulation,
        "Events are checked when they are read, so a scrub need not look at segments.",
        "damage is found and repaired although nobody reads";
    RejoinUnasked, "rejoin-unasked", Scenario("rejoin-after-damage"),
        "A damaged node is of no use to its cluster: it clears its disk at once, and joins anew.",
        "no node gives its data up before its removal is committed";
    RejoinOneLook, "rejoin-one-look", Test("node::rejoin::tests::one_look_is_not_enough"),
        "A member that does not list the node any more has let it go: one look is enough.",
        "no node gives its data up before its removal is committed";

    // The machine and its snapshots.
    WallClockInApply, "wall-clock-in-apply", Simulation,
        "Apply takes the time from the node's clock instead of from the entry.",
        "equal hashes at equal index";
    LanesNotInSnapshot, "lanes-not-in-snapshot", Simulation,
        "The table of lanes was forgotten when snapshots were written.",
        "equal hashes at equal index, a lane publishes once";
    RelocationSkipsOne, "relocation-skips-one", Simulation,
        "An off-by-one leaves the first event in the log, which is purged then.",
        "no acknowledged event is lost, no consumer is stuck";
    OlderSnapshotForgotten, "older-snapshot-forgotten",
        Test("storage::events::tests::a_payload_goes_only_when_neither_snapshot_needs_it"),
        "Segments are kept for the current snapshot only: nobody reads the one before it.",
        "every node stores what was published";
    PayloadDeletedByApply, "payload-deleted-by-apply", Simulation,
        "When everything is settled, apply purges the log: nobody will ask for it.",
        "an undamaged node serves, no consumer is stuck";
    InstallKeepsOldFacts, "install-keeps-old-facts", Simulation,
        "A snapshot is installed only into an empty machine.",
        "equal hashes at equal index";
    InstallForgetsSegment, "install-forgets-segment", Simulation,
        "Of the segments that an installed snapshot needs the last one is not named in the manifest.",
        "an undamaged node serves, every node stores what was published";
    LaneReopensOneBack, "lane-reopens-one-back", Simulation,
        "A lane taken over again forgets its last event, accepted but perhaps not answered.",
        "a lane publishes once across failover";
    SettledTwice, "settled-twice", Simulation,
        "An event settled out of order is counted again when the floor passes it.",
        "the ledger is exact";

    // Leadership.
    StatusWithoutReadIndex, "status-without-read-index", Simulation,
        "A linearizable read is answered from what this node has applied.",
        "status that claims to be linearizable is";
    ServesBeforeTenure, "serves-before-tenure", Simulation,
        "A leader serves at once, from a machine that has not applied what was committed before.",
        "a confirmed ack stays settled, one sequence per event";

    // Delivery.
    SettlesWrongProxy, "settles-wrong-proxy", Simulation,
        "All settlements go to the proxy of the first consumer attached.",
        "no acknowledged event is lost, a confirmed ack stays settled";
    RedeliveryUnmarked, "redelivery-unmarked", Simulation,
        "Only deliveries of this leader count: what the one before delivered is not marked.",
        "duplicates are marked";
    InFlightSkipped, "in-flight-skipped", Simulation,
        "A new leader goes on after what the one before had delivered, settled or not.",
        "no consumer is stuck";
    ExpiredDelivered, "expired-delivered", Simulation,
        "Whether an event has ended is not looked at again when its turn comes.",
        "nothing is delivered after its end";
    NackLosesEvent, "nack-loses-event", Simulation,
        "A negative acknowledgement ends a delivery, and nobody makes another.",
        "no consumer is stuck";
    LeasesNeverEnd, "leases-never-end", Simulation,
        "A lease that ran out is not acted on: its consumer will come back.",
        "no consumer is stuck";
    CreditWakesNobody, "credit-wakes-nobody", Simulation,
        "Credit granted to a consumer that had run out does not put it back into the round.",
        "no consumer is stuck";
    MemoryFirst, "memory-first", Simulation,
        "What is in memory is written before what must be read from disk.",
        "first deliveries are in order";

    // Quality of service.
    StartForgotten, "start-forgotten", Simulation,
        "A new leader does not look at the start times of what its predecessor had accepted.",
        "nothing is delivered before its start";
    UrgentMissed, "urgent-missed", Simulation,
        "How far a proxy has come in its order is not set back when something more urgent arrives.",
        "first deliveries are in order, no consumer is stuck";
    PriorityLost, "priority-lost", Test("dispatch::tests::property::follows_the_rules"),
        "An event that is given back goes to the end of its proxy's order.",
        "what goes again goes at its own place";
    OrderDropsWindow, "order-drops-window", Simulation,
        "With a new order a proxy begins anew, and forgets what is at its consumers.",
        "duplicates are marked, and justified";
    SuspensionIgnored, "suspension-ignored", Simulation,
        "A suspension keeps new consumers from attaching: nothing else is to be done.",
        "a suspended consumer gets nothing";
    DiscardsInFlight, "discards-in-flight", Simulation,
        "A discard policy chooses among all that is unsettled: what is in flight may fail, too.",
        "what a client has is left to it";
    ExpiredTwice, "expired-twice", Simulation,
        "An expiry out of turn is counted, and once more when the floor passes it.",
        "each expiry is counted once";
}

impl std::str::FromStr for Bug {
    type Err = String;

    fn from_str(name: &str) -> Result<Bug, String> {
        let found = Bug::ALL.iter().find(|bug| bug.name() == name);
        found.copied().ok_or_else(|| {
            let names: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
            format!("no bug is named '{name}'; there are {}", names.join(", "))
        })
    }
}

/// Whether this bug acts.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn planted(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted-bugs")]
pub use choice::{plant, planted};

#[cfg(feature = "planted-bugs")]
mod choice {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Bug;

    const NONE: u8 = u8::MAX - 1;
    const NOT_READ: u8 = u8::MAX;
    /// The bug's number.
    static CHOSEN: AtomicU8 = AtomicU8::new(NOT_READ);

    /// Chooses the bug of this process, in place of the one that the environment names.
    pub fn plant(bug: Option<Bug>) {
        CHOSEN.store(bug.map_or(NONE, |bug| bug as u8), Ordering::Relaxed);
    }

    /// Whether this bug acts. Ends the process if the environment names one that does not exist.
    #[inline]
    pub fn planted(bug: Bug) -> bool {
        if CHOSEN.load(Ordering::Relaxed) == NOT_READ {
            plant(named());
        }
        CHOSEN.load(Ordering::Relaxed) == bug as u8
    }

    fn named() -> Option<Bug> {
        let name = std::env::var("AQUEDUCT_PLANTED").ok().filter(|name| !name.is_empty())?;
        match name.parse() {
            Ok(bug) => Some(bug),
            Err(error) => {
                eprintln!("AQUEDUCT_PLANTED: {error}");
                std::process::exit(64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bugs_have_names_of_their_own() {
        for bug in Bug::ALL {
            assert_eq!(bug.name().parse(), Ok(*bug));
        }
        assert!("ack-before-comit".parse::<Bug>().unwrap_err().contains("ack-before-commit"));
    }

    #[test]
    fn nothing_acts_unasked() {
        let unasked = std::env::var_os("AQUEDUCT_PLANTED").is_none();
        assert!(!unasked || Bug::ALL.iter().all(|bug| !planted(*bug)));
    }
}
