//! The hold on a data directory: one node at a time has it, and others may wait for its end.

use std::fs::File;

use crate::env::{Publisher, Watch, watch};

/// The file that is locked.
pub(super) const LOCK: &str = "LOCK";

/// Keeps others out of a directory until it is dropped.
pub struct Hold {
    // In this order: whoever hears of the end must find the directory free.
    _lock: Option<File>,
    _released: Publisher<()>,
}

/// Tells when nobody holds a directory any more.
#[derive(Clone)]
pub struct Released(Watch<()>);

impl Hold {
    /// A hold by the lock file, if there is one: simulated directories have none.
    pub fn by(lock: Option<File>) -> (Hold, Released) {
        let (publisher, watch) = watch(());
        (Hold { _lock: lock, _released: publisher }, Released(watch))
    }
}

impl Released {
    /// Completes once the directory can be opened again.
    pub async fn wait(mut self) {
        while self.0.changed().await.is_some() {}
    }
}
