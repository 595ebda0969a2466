//! `backup` and `restore`: a cluster in a file, and a new one out of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::args::{Backup, Common, Restore};
use super::exit::{Exit, Failure};
use super::{connect_admin, output};
use crate::client::AdminClient;
use crate::consensus::offline::{self, BackupHead, BackupWriter, Restored};
use crate::storage::FileInfo;
use crate::types::ClusterId;
use crate::wire::admin::{BackupFile, BackupPlan};

/// Runs `backup`.
pub async fn backup(common: &Common, flags: &Backup) -> Result<Exit, Failure> {
    let admin = connect_admin(common)?;
    let begun = admin.backup_begin().await?;
    let id = begun.value.backup;
    let plan = loop {
        if let Some(plan) = admin.backup_plan(id).await? {
            break plan;
        }
    };
    let head = head(plan);
    let path = match flags.file.is_dir() {
        true => flags.file.join(format!("{}-{}.backup", head.cluster_id, head.last_index)),
        false => flags.file.clone(),
    };
    let bar = progress(head.bytes());
    let mut writer = BackupWriter::create(&path, &head)?;
    carry(&admin, id, &mut writer, &bar).await?;
    writer.finish()?;
    bar.finish_and_clear();
    // It would end by itself.
    let _ = admin.backup_end(id).await;
    let bytes = head.bytes();
    let document = json!({
        "file": path, "bytes": bytes, "cluster_id": head.cluster_id, "node_id": head.node_id,
        "last_index": head.last_index, "last_term": head.last_term, "files": head.files.len(),
    });
    output::result(common.output, &document, |_| {
        format!(
            "{}: cluster {} up to log entry {}, {}, from node {}",
            path.display(),
            head.cluster_id,
            head.last_index,
            output::bytes(bytes),
            head.node_id
        )
    });
    Ok(Exit::Ok)
}

async fn carry(
    admin: &AdminClient,
    id: u64,
    writer: &mut BackupWriter,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    while let Some((file, offset)) = writer.next() {
        let piece = admin.backup_piece(id, &file.name, offset).await?;
        let bytes = BASE64_STANDARD.decode(&piece.base64).map_err(anyhow::Error::from)?;
        writer.add(&bytes).map_err(|error| {
            Failure::from(error).hint("back up from another node, and look at this one's disk")
        })?;
        bar.inc(bytes.len() as u64);
    }
    Ok(())
}

fn head(plan: BackupPlan) -> BackupHead {
    let file = |BackupFile { name, len, crc }| FileInfo { name, len, crc };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    BackupHead {
        cluster_id: plan.cluster_id,
        node_id: plan.node_id,
        release: env!("CARGO_PKG_VERSION").into(),
        taken_at: now.as_secs(),
        last_index: plan.last_index,
        last_term: plan.last_term,
        files: plan.files.into_iter().map(file).collect(),
    }
}

/// A progress bar of bytes on stderr; hidden where stderr is not a terminal.
fn progress(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style = "{elapsed} {wide_bar} {bytes}/{total_bytes} ({bytes_per_sec})";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Runs `restore`.
pub fn restore(common: &Common, flags: &Restore) -> Result<Exit, Failure> {
    // Zero would look like "no cluster" to people.
    let cluster = ClusterId(fastrand::u64(1..));
    let restored = offline::restore(&flags.file, &flags.data_dir, cluster)?;
    output::result(common.output, &restored, people);
    Ok(Exit::Ok)
}

fn people(restored: &Restored) -> String {
    let Restored { backup, data_dir, .. } = restored;
    let mut lines = vec![format!(
        "backup    of cluster {} up to log entry {}, taken from node {} by release {}",
        backup.cluster_id, backup.last_index, backup.node_id, backup.release
    )];
    lines.extend(restored.channels.iter().map(super::recover::channel));
    lines.push(format!(
        "{} is now node {} of the new cluster {}.\nStart it, then join new nodes with empty \
         directories.",
        data_dir.display(),
        restored.node_id,
        restored.cluster_id
    ));
    lines.join("\n")
}
