//! Snapshots: the machine's image with what openraft must know of it, and the payloads it needs.
//!
//! Before a snapshot is written, every event still needed at its index and not yet in the event
//! store is *relocated* there, so that the log below may go. The work happens on a clone of the
//! machine, off the apply task.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::RaftSnapshotBuilder;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::planted::{Bug, planted};
use crate::storage::{
    EventStore, Keys, Pinned, Received, SnapshotInfo, SnapshotWriter, StorageError,
};
use crate::types::{PayloadKey, limits};

use super::config::{
    RaftLeaderId, RaftLogId, RaftMembership, RaftRuntime, SnapshotMeta, StoredMembership, Types,
};
use super::entry::entry_id;
use super::facts::Facts;
use super::member::Member;
use super::payloads::PayloadError;

/// Keys whose payloads are read together while relocating.
const RELOCATE_KEYS: usize = 1024;
/// A snapshot for which there was no room is tried again after this pause.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// A snapshot as openraft passes it around.
pub(super) type RaftSnapshot = openraft::Snapshot<RaftLeaderId, u64, Member, SnapshotData>;

/// A snapshot's content: held on this disk, or received and not yet installed.
pub(super) enum SnapshotData {
    /// That of a machine which has applied nothing.
    Empty,
    Held(Arc<Pinned>),
    Received(Box<Arrived>),
}

/// A snapshot that was received and found sound.
pub(super) struct Arrived {
    received: Received,
    store: EventStore,
    image: Image,
    machine: Machine,
}

impl Arrived {
    /// Decodes what was received for `store`. Blocks.
    pub fn decode(received: Received, store: EventStore) -> io::Result<Arrived> {
        let machine = received.read_machine().map_err(io::Error::other)?;
        let machine = Machine::decode(&machine).map_err(io::Error::other)?;
        let image = Image::decode(&received.info().meta)?;
        Ok(Arrived { received, store, image, machine })
    }

    /// Whether it ends where it was said to.
    pub fn check(&self, announced: Option<RaftLogId>) -> io::Result<()> {
        match self.image.last == announced {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "it ends with {:?}, not with {announced:?} as announced",
                self.image.last
            ))),
        }
    }

    /// Makes it current, unless the store has one as new by now: then it is that one. Blocks.
    fn load(self) -> io::Result<(Image, Machine)> {
        let Arrived { received, store, image, machine } = self;
        let name = received.info().name.clone();
        let info = received.install().map_err(io::Error::other)?;
        if info.name == name { Ok((image, machine)) } else { read(&info, &store) }
    }
}

/// What is written beside the machine's own bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Image {
    /// Last entry applied.
    pub last: Option<RaftLogId>,
    pub membership: StoredMembership,
    /// Greatest node id that any configuration in the log ever held.
    pub last_node: u64,
}

impl Image {
    /// A configuration entry was applied.
    pub fn enter(&mut self, log_id: RaftLogId, membership: RaftMembership) {
        let greatest = membership.nodes().map(|(id, _)| *id).max().unwrap_or(0);
        self.last_node = self.last_node.max(greatest);
        self.membership = StoredMembership::new(Some(log_id), membership);
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() }
    }

    pub fn encode(&self) -> io::Result<Vec<u8>> {
        postcard::to_stdvec(self).map_err(io::Error::other)
    }

    pub fn decode(bytes: &[u8]) -> io::Result<Image> {
        postcard::from_bytes(bytes)
            .map_err(|e| io::Error::other(format!("the snapshot's head does not parse: {e}")))
    }
}

impl SnapshotData {
    /// Makes the snapshot current if it is not yet, and decodes it. Blocks.
    pub fn load(self, store: &EventStore) -> io::Result<(Image, Machine)> {
        let info = match self {
            SnapshotData::Empty => return Ok((Image::default(), Machine::new())),
            SnapshotData::Held(pinned) => adopt(&pinned, store).map_err(io::Error::other)?,
            SnapshotData::Received(arrived) => return arrived.load(),
        };
        read(&info, store)
    }
}

/// Reads a retained snapshot.
fn read(info: &SnapshotInfo, store: &EventStore) -> io::Result<(Image, Machine)> {
    let machine = store.read_machine(info).map_err(io::Error::other)?;
    let machine = Machine::decode(&machine).map_err(io::Error::other)?;
    Ok((Image::decode(&info.meta)?, machine))
}

/// Makes a pinned snapshot current in `store`, copying it if it is held by another one.
fn adopt(pinned: &Pinned, store: &EventStore) -> Result<SnapshotInfo, StorageError> {
    if store.current().is_some_and(|current| current == pinned.snapshot) {
        return Ok(pinned.snapshot.clone());
    }
    let mut staging = store.stage(pinned.files().to_vec())?;
    let image = staging.image().clone();
    let mut offset = staging.arrived(&image.name);
    while offset < image.len {
        let piece = pinned.read_chunk(&image.name, offset, limits::SNAPSHOT_PIECE_BYTES)?;
        staging.write_chunk(&image.name, offset, &piece)?;
        offset += piece.len() as u64;
    }
    while let Some(keys) = staging.wanted().cloned() {
        staging.put(pinned.records(&keys, limits::SNAPSHOT_PIECE_BYTES)?.into())?;
    }
    staging.complete()?.install()
}

/// The newest snapshot on this disk, pinned: its files stay while it is sent.
pub(super) fn held_snapshot(store: &EventStore) -> io::Result<Option<RaftSnapshot>> {
    let held = |pinned: Pinned| {
        let meta = Image::decode(&pinned.snapshot.meta)?.meta();
        Ok(RaftSnapshot { meta, snapshot: SnapshotData::Held(Arc::new(pinned)) })
    };
    store.pin().map(held).transpose()
}

/// Log index of the older of the two retained snapshots; `None` until there are two.
pub(super) fn oldest_retained(store: &EventStore) -> Option<u64> {
    store.previous().map(|snapshot: SnapshotInfo| snapshot.last.index)
}

/// Builds a snapshot of the machine as it was when the builder was made.
pub(super) struct Builder<E> {
    machine: Option<Machine>,
    image: Image,
    facts: Arc<Facts>,
    env: E,
}

impl<E: RaftRuntime> Builder<E> {
    pub fn new(machine: Machine, image: Image, facts: Arc<Facts>, env: E) -> Builder<E> {
        Builder { machine: Some(machine), image, facts, env }
    }
}

impl<E: RaftRuntime> RaftSnapshotBuilder<Types<E>> for Builder<E> {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        let machine = self.machine.take();
        let machine = machine.ok_or_else(|| io::Error::other("a builder builds once"))?;
        let (image, facts) = (self.image.clone(), self.facts.clone());
        let built = self.env.blocking(move || build(&machine, &image, &facts)).await;
        match built.ok_or_else(|| io::Error::other("the build was aborted"))? {
            Ok(snapshot) => {
                self.facts.snapshot_stored();
                Ok(snapshot)
            }
            Err(error) if is_full(&error) => {
                if self.facts.put_off_snapshot(&error) {
                    self.try_again();
                }
                // openraft takes any error for its end; what it has already changes nothing.
                Ok(held_snapshot(&self.facts.payloads.store)?.unwrap_or_else(nothing))
            }
            Err(error) => Err(error),
        }
    }
}

impl<E: RaftRuntime> Builder<E> {
    fn try_again(&self) {
        let (facts, pause) = (Arc::downgrade(&self.facts), self.env.sleep(RETRY_PAUSE));
        self.env.spawn(async move {
            pause.await;
            if let Some(facts) = facts.upgrade() {
                facts.snapshot_missing();
            }
        });
    }
}

/// The snapshot of a machine that has applied nothing.
fn nothing() -> RaftSnapshot {
    RaftSnapshot { meta: SnapshotMeta::default(), snapshot: SnapshotData::Empty }
}

/// Whether all that was wrong is that there was no room.
fn is_full(error: &io::Error) -> bool {
    let of_reading = || error.get_ref().and_then(|inner| inner.downcast_ref::<PayloadError>());
    StorageError::within(error).is_some_and(StorageError::is_full)
        || matches!(of_reading(), Some(PayloadError::NoRoom(_)))
}

/// Relocates what is needed, writes the snapshot, and hands it back pinned. If a newer one was
/// installed meanwhile, that one.
fn build(machine: &Machine, image: &Image, facts: &Facts) -> io::Result<RaftSnapshot> {
    let store = &facts.payloads.store;
    let Some(last) = image.last else { return Ok(nothing()) };
    let mut writer = store.writer();
    let live = live_keys(machine);
    let homeless = store.missing(&live);
    let mut rest = homeless.iter().skip(usize::from(planted(Bug::RelocationSkipsOne)));
    loop {
        let keys: Vec<PayloadKey> = rest.by_ref().take(RELOCATE_KEYS).collect();
        if keys.is_empty() {
            break;
        }
        if let Err(error) = relocate(&mut writer, facts, &keys) {
            // A newer snapshot was installed meanwhile: what only this one needs may be gone.
            let newer = store.current().filter(|current| current.last.index >= last.index);
            return match held_snapshot(store)? {
                Some(held) if newer.is_some() => Ok(held),
                _ => Err(error),
            };
        }
    }
    let meta = image.encode()?.into();
    writer
        .finish(meta, entry_id(&last), machine.encode().into(), &live)
        .map_err(io::Error::other)?;
    let held = held_snapshot(store)?;
    held.ok_or_else(|| io::Error::other("the snapshot just written is not there"))
}

/// The payloads that a machine needs.
pub(super) fn live_keys(machine: &Machine) -> Keys {
    let mut keys = Keys::default();
    machine.live_keys().for_each(|live| keys.push(live.key));
    keys
}

fn relocate(writer: &mut SnapshotWriter, facts: &Facts, keys: &[PayloadKey]) -> io::Result<()> {
    for (key, payload) in keys.iter().zip(facts.payloads.read(keys)) {
        writer.relocate(*key, payload.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    Ok(())
}
