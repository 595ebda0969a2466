//! A follower that is away until the log no longer reaches back to it. When it is back and receives
//! a snapshot its sender dies, and the next leader goes on.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use aqueduct::client::AdminClient;
use aqueduct::wire::admin::SnapshotReport;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::whom::Whom;
use super::{Begun, Inject, Scene};
use crate::history::What;

/// How long the node may take until a snapshot is under way, and until it has arrived.
const WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The note of a sender that died while it sent.
const SENDERS_DIED: &str = "senders_died";

/// SIGKILL to a follower; when it is back, SIGKILL to the leader that sends it a snapshot, as soon
/// as so much of it has arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Absence {
    /// In percent, at most.
    pub sender_dies_at: u8,
}

impl Inject for Absence {
    fn name(&self) -> String {
        "absence".into()
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let targets = Whom::Follower.choose(scene).await?;
        let begun = scene.announce(self.name(), &targets, "");
        scene.bed.kill(&targets).await?;
        Ok(begun)
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        let [away] = begun.targets[..] else { bail!("one node was to be away") };
        let leader = scene.bed.leader().await?;
        let percent = scene.rng.u8(1..=self.sender_dies_at.max(1));
        if !scene.bed.node(away)?.state.is_running() {
            // It is not waited for: everything may be over when it is ready.
            scene.bed.launch(away)?;
        }
        let admin = scene.bed.admin_at(away)?;
        let under_way = |seen: &SnapshotReport| {
            seen.received > 0 || seen.receiving.is_some_and(|here| here >= percent)
        };
        let before = until(&admin, under_way).await.context("wait for a snapshot")?;
        scene.bed.kill(&[leader]).await?;
        let seen = admin.node_status().await?.snapshots;
        if let (Some(here), 0) = (before.receiving, seen.received) {
            let bytes = seen.received_bytes;
            let text = format!("node {leader} died with {here} % there, {bytes} bytes");
            let note = What::Note { key: SENDERS_DIED.into(), count: 1, text };
            scene.recorder.record(super::NEMESIS, note);
        }
        // The others are a majority: they go on without it.
        let arrived = until(&admin, |seen| seen.received > 0).await;
        let received = arrived.context("receive a snapshot")?;
        let note = What::Note {
            key: "snapshots_received".into(),
            count: received.received,
            text: format!("by node {away}, {} bytes", received.received_bytes),
        };
        scene.recorder.record(super::NEMESIS, note);
        scene.restart_ended(&[leader]).await?;
        Ok(format!("{} bytes arrived", received.received_bytes))
    }
}

/// Looks until what is seen satisfies `wanted`.
async fn until(
    admin: &AdminClient,
    wanted: impl Fn(&SnapshotReport) -> bool,
) -> Result<SnapshotReport> {
    let deadline = Instant::now() + WITHIN;
    loop {
        if let Ok(report) = admin.node_status().await
            && wanted(&report.snapshots)
        {
            return Ok(report.snapshots);
        }
        if Instant::now() > deadline {
            bail!("nothing came within {WITHIN:?}");
        }
        sleep(LOOK_EVERY).await;
    }
}
