//! openraft's conformance tests, over sled and over the in-memory twin.

use std::sync::Arc;

use openraft::testing::log::{StoreBuilder, Suite};

use crate::env::TokioRuntime;
use crate::env::disk::MemDisk;
use crate::storage::{self, Drive, Opened, Owner, Storage};
use crate::types::{ClusterId, NodeId};

use super::super::clock::SoftClock;
use super::super::config::Types;
use super::super::facts::Facts;
use super::super::log_store::RaftLog;
use super::super::payloads::{PayloadCache, Payloads};
use super::super::state_machine::StateMachine;

type C = Types<TokioRuntime>;
type StorageError = openraft::StorageError<C>;

const OWNER: Owner = Owner { cluster: ClusterId(1), node: NodeId(0) };

struct OnSled;
struct InMemory;

fn parts(opened: Opened) -> (Storage, RaftLog<TokioRuntime>, StateMachine<TokioRuntime>) {
    let storage = opened.healthy().unwrap();
    let env = TokioRuntime::new();
    let (log, store) = (storage.log.clone(), storage.events.clone());
    let cache = Arc::new(PayloadCache::new(1 << 20));
    let payloads = Payloads { cache, log: log.clone(), store };
    let facts = Arc::new(Facts::new(payloads, 1 << 20));
    let machine = StateMachine::new(facts, SoftClock::new(env.clone()), env.clone());
    (storage, RaftLog::new(log, env), machine)
}

type Guard = (Storage, Option<tempfile::TempDir>);

impl StoreBuilder<C, RaftLog<TokioRuntime>, StateMachine<TokioRuntime>, Guard> for OnSled {
    async fn build(
        &self,
    ) -> Result<(Guard, RaftLog<TokioRuntime>, StateMachine<TokioRuntime>), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let opened = storage::open(dir.path(), Some(OWNER), storage::Options::default()).unwrap();
        let (storage, log, machine) = parts(opened);
        Ok(((storage, Some(dir)), log, machine))
    }
}

impl StoreBuilder<C, RaftLog<TokioRuntime>, StateMachine<TokioRuntime>, Guard> for InMemory {
    async fn build(
        &self,
    ) -> Result<(Guard, RaftLog<TokioRuntime>, StateMachine<TokioRuntime>), StorageError> {
        let disk = Arc::new(MemDisk::new());
        let options = storage::Options::default();
        let opened = storage::open_on(disk, Some(OWNER), options, Drive::Thread).unwrap();
        let (storage, log, machine) = parts(opened);
        Ok(((storage, None), log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_in_sled_passes_the_suite() {
    Suite::test_all(OnSled).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_in_memory_passes_the_suite() {
    Suite::test_all(InMemory).await.unwrap();
}
