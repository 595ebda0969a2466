//! Strangers who connect and then say nothing, in great number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::whom::Whom;
use super::{Begun, Inject, Scene};

/// Before a refused stranger tries again.
const PAUSE: Duration = Duration::from_millis(50);
/// Descriptors of this process that others need.
const SPARE_DESCRIPTORS: u64 = 512;

/// Floods the client and peer ports of nodes with connections until it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flood {
    pub whom: Whom,
    /// Connections held at a time, to each port.
    pub connections: u32,
}

impl Inject for Flood {
    fn name(&self) -> String {
        format!("flood({}, {} connections)", self.whom, self.connections)
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let targets = self.whom.choose(scene).await?;
        let mut begun = scene.announce(self.name(), &targets, "");
        let ports = 2 * targets.len() as u64;
        let room = descriptors().saturating_sub(SPARE_DESCRIPTORS) / ports.max(1);
        for id in targets {
            let node = scene.bed.node(id)?;
            for addr in [node.client_addr, node.peer_addr] {
                for _ in 0..u64::from(self.connections).min(room) {
                    begun.background.spawn(hold(addr.clone(), begun.count.clone()));
                }
            }
        }
        Ok(begun)
    }

    async fn end(&self, begun: &mut Begun, _: &mut Scene<'_>) -> Result<String> {
        begun.background.shutdown().await;
        Ok(format!("{} connections were made", begun.count.load(Ordering::Relaxed)))
    }
}

/// Holds a connection as long as the node does, again and again.
async fn hold(addr: String, made: Arc<AtomicU64>) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(&addr).await {
            made.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read_u8().await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How many files this process may have open.
fn descriptors() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}
