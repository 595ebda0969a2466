//! What must hold in every history, one file each.
//!
//! An invariant sees records in order and says at once what is wrong; what can only be judged at
//! the end it judges there. It keeps no more than it needs: histories have millions of records.

use crate::history::Record;

/// One thing that must hold.
pub trait Invariant {
    /// Its name in verdicts: short, lower case, with dashes.
    fn name(&self) -> &'static str;

    /// Looks at the next record; `Err` says what is wrong with it.
    fn observe(&mut self, record: &Record) -> Result<(), String>;

    /// Judges what can only be judged at the end. `drained`: the run ended healed and with every
    /// consumer given the time to settle everything.
    fn finish(&mut self, drained: bool) -> Vec<String> {
        let _ = drained;
        Vec::new()
    }
}
