//! Strangers who speak nonsense: malformed, huge and unfinished frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::whom::Whom;
use super::{Begun, Inject, Scene};

/// How long a node may take to hang up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of one message.
const BYTES_MAX: usize = 1 << 20;
/// Between two messages to one port.
const PAUSE: Duration = Duration::from_millis(10);

/// Sends nonsense to all ports of nodes until it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frames {
    pub whom: Whom,
}

impl Inject for Frames {
    fn name(&self) -> String {
        format!("frames({})", self.whom)
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let targets = self.whom.choose(scene).await?;
        let mut begun = scene.announce(self.name(), &targets, "");
        for id in targets {
            let node = scene.bed.node(id)?;
            for addr in [node.client_addr, node.peer_addr, node.admin_addr, node.http_addr] {
                begun.background.spawn(babble(addr, scene.rng.fork(), begun.count.clone()));
            }
        }
        Ok(begun)
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        begun.background.shutdown().await;
        let ended = scene.restart_ended(&begun.targets).await?;
        let sent = begun.count.load(Ordering::Relaxed);
        Ok(format!("{sent} messages were sent; nodes {ended:?} had ended"))
    }
}

async fn babble(addr: String, mut rng: fastrand::Rng, sent: Arc<AtomicU64>) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(&addr).await {
            // It may be cut off at any byte, which is the point.
            let _ = stream.write_all(&nonsense(&mut rng)).await;
            sent.fetch_add(1, Ordering::Relaxed);
            let mut answer = Vec::new();
            let mut bounded = stream.take(BYTES_MAX as u64);
            let _ = tokio::time::timeout(PATIENCE, bounded.read_to_end(&mut answer)).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A frame of the protocol; see docs/PROTOCOL.md.
fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let checked = [&[kind, 0, 0, 0], body].concat();
    let (len, crc) = (body.len() as u32, crc32fast::hash(&checked));
    [&len.to_le_bytes()[..], &crc.to_le_bytes(), &checked].concat()
}

/// Some message that no peer or client would send.
fn nonsense(rng: &mut fastrand::Rng) -> Vec<u8> {
    let some = |rng: &mut fastrand::Rng, max: usize| -> Vec<u8> {
        let len = rng.usize(..max);
        std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
    };
    match rng.u8(..6) {
        // Random bytes, few or many.
        0 => some(rng, 64),
        1 => some(rng, BYTES_MAX),
        // A length that is huge, in either byte order, and little behind it.
        2 => [&rng.u32(1 << 24..).to_le_bytes()[..], &some(rng, 4096)].concat(),
        3 => [&rng.u32(1 << 24..).to_be_bytes()[..], &some(rng, 4096)].concat(),
        // A frame that is whole, of any kind, with nonsense in it.
        4 => frame(rng.u8(..), &some(rng, 4096)),
        // Another protocol.
        _ => b"GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n".repeat(rng.usize(1..100)),
    }
}
