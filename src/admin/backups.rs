//! Backups under way on this node: each holds on to a snapshot until it was carried off.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::office::Office;
use crate::env::Runtime;
use crate::storage::Pinned;
use crate::transport::Net;
use crate::types::{Code, Rejection, limits};
use crate::wire::admin::{BackupFile, BackupPiece, BackupPlan};

/// How long a question for the plan waits for it.
const PLAN_WAIT: Duration = Duration::from_secs(2);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// All backups under way.
#[derive(Default)]
pub(super) struct Backups(Mutex<BTreeMap<u64, Backup>>);

struct Backup {
    state: State,
    /// When it was last asked for, on the runtime's clock.
    touched: Duration,
}

#[derive(Clone)]
enum State {
    /// The snapshot is not there yet.
    Building,
    Ready(Arc<Pinned>),
    Failed(Rejection),
}

impl Backups {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Backup>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, id: u64, now: Duration) -> Result<(), Rejection> {
        let mut backups = self.lock();
        if backups.len() >= limits::BACKUPS_MAX {
            let message = format!("{} backups are under way on this node", backups.len());
            return Err(Rejection::new(Code::Overloaded, message)
                .hint("wait until one of them has ended, or ask another node"));
        }
        backups.insert(id, Backup { state: State::Building, touched: now });
        Ok(())
    }

    fn touch(&self, id: u64, now: Duration) -> Result<State, Rejection> {
        match self.lock().get_mut(&id) {
            Some(backup) => {
                backup.touched = now;
                Ok(backup.state.clone())
            }
            None => Err(unknown(id)),
        }
    }

    fn settle(&self, id: u64, state: State) {
        if let Some(backup) = self.lock().get_mut(&id) {
            backup.state = state;
        }
    }

    /// Ends a backup that nobody asked for since long; whether it is gone.
    fn forget_idle(&self, id: u64, now: Duration) -> bool {
        let idle = Duration::from_millis(limits::BACKUP_IDLE_MS);
        let mut backups = self.lock();
        let idle = backups.get(&id).is_none_or(|backup| now.saturating_sub(backup.touched) >= idle);
        if idle {
            backups.remove(&id);
        }
        idle
    }
}

impl<N: Net> Office<N> {
    /// Begins a backup of everything up to the entry at `index`, and perhaps more; its number.
    pub fn backup_begin(&self, index: u64) -> Result<u64, Rejection> {
        let env = self.env();
        // Some readers of JSON have 53 bits for a number.
        let id = env.random() >> 11;
        self.backups().begin(id, env.monotonic())?;
        let office = self.clone();
        env.spawn(async move { office.backup(id, index).await });
        Ok(id)
    }

    /// Gets hold of the snapshot, and lets go of it when nobody wants it any more.
    async fn backup(self, id: u64, index: u64) {
        let idle = async {
            loop {
                self.env().sleep(Duration::from_millis(limits::BACKUP_IDLE_MS / 4)).await;
                if self.backups().forget_idle(id, self.env().monotonic()) {
                    return;
                }
            }
        };
        let hold = async {
            let state = match self.replica().snapshot_from(index).await {
                Ok(pinned) => State::Ready(Arc::new(pinned)),
                Err(error) => State::Failed(error.into()),
            };
            self.backups().settle(id, state);
            std::future::pending::<()>().await;
        };
        tokio::select! { biased;
            () = self.replica().stopped() => {}
            () = idle => {}
            () = hold => {}
        }
        self.backups().lock().remove(&id);
    }

    /// What the backup consists of; `None` while it is being built.
    pub async fn backup_plan(&self, id: u64) -> Result<Option<BackupPlan>, Rejection> {
        let late = self.env().monotonic() + PLAN_WAIT;
        loop {
            let now = self.env().monotonic();
            match self.backups().touch(id, now)? {
                State::Ready(pinned) => return Ok(Some(self.plan(&pinned))),
                State::Failed(rejection) => return Err(rejection),
                State::Building if now >= late => return Ok(None),
                State::Building => self.env().sleep(LOOK_EVERY).await,
            }
        }
    }

    fn plan(&self, pinned: &Pinned) -> BackupPlan {
        let last = pinned.snapshot.last;
        let file = |file: &crate::storage::FileInfo| BackupFile {
            name: file.name.clone(),
            len: file.len,
            crc: file.crc,
        };
        BackupPlan {
            cluster_id: self.cluster(),
            node_id: self.me(),
            last_index: last.index,
            last_term: last.term,
            files: pinned.files().iter().map(file).collect(),
        }
    }

    /// A piece of one of its files; empty beyond the end.
    pub async fn backup_piece(
        &self,
        id: u64,
        name: String,
        offset: u64,
    ) -> Result<BackupPiece, Rejection> {
        let State::Ready(pinned) = self.backups().touch(id, self.env().monotonic())? else {
            return Err(Rejection::new(Code::BadRequest, "the backup has no plan yet")
                .hint("ask for the plan first"));
        };
        let read = move || pinned.read_chunk(&name, offset, limits::BACKUP_PIECE_BYTES);
        match self.env().blocking(read).await {
            Some(Ok(bytes)) => Ok(BackupPiece { base64: BASE64_STANDARD.encode(bytes) }),
            Some(Err(error)) => Err(Rejection::new(Code::StorageFailed, error.to_string())
                .hint("back up from another node, and look at this one's disk")),
            None => Err(Rejection::new(Code::ShuttingDown, "the node is stopping")),
        }
    }

    /// Lets go of the snapshot.
    pub fn backup_end(&self, id: u64) -> Result<(), Rejection> {
        self.backups().lock().remove(&id).map(drop).ok_or_else(|| unknown(id))
    }
}

fn unknown(id: u64) -> Rejection {
    Rejection::new(Code::NotAllowed, format!("no backup {id} is under way on this node"))
        .hint("it ended, was left alone for too long, or is another node's; begin again")
}
