//! How priorities and deadlines order contenders.
//!
//! A rank is a point in time (in microseconds) that stays the same while a contender waits, so time
//! alone never changes the order and nothing has to be sorted again. The lower rank goes first.

use crate::types::Stamp;

use super::policy::{DEADLINE_IMPLIED_MS, DEADLINE_OVERDUE_MS_MAX};

const MICROS_PER_MS: i128 = 1_000;

/// Priority that rises by 1 in each `aging_ms`: at time `now` it is
/// `priority + (now - since) / aging`. Comparing these for two contenders at any `now` is comparing
/// `since - priority * aging`, from which `now` has gone.
///
/// Who began to wait more than `(highest - priority) * aging` after `since` ranks behind: the
/// bound.
pub(super) fn of_priority(priority: i16, aging_ms: u64, since: Stamp) -> i128 {
    let priority = i128::from(priority);
    match i128::from(aging_ms) * MICROS_PER_MS {
        0 => -priority,
        aging => i128::from(since.0) - priority * aging,
    }
}

/// When it is due. Never more than [`DEADLINE_OVERDUE_MS_MAX`] before `since`, so who begins to
/// wait later than that after a contender is due ranks behind it: the bound.
pub(super) fn of_deadline(deadline: Option<Stamp>, since: Stamp) -> i128 {
    let since = i128::from(since.0);
    let implied = since + i128::from(DEADLINE_IMPLIED_MS) * MICROS_PER_MS;
    let earliest = since - i128::from(DEADLINE_OVERDUE_MS_MAX) * MICROS_PER_MS;
    deadline.map_or(implied, |deadline| i128::from(deadline.0)).max(earliest)
}
