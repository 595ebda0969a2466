//! A follower as a front door: it hands a client's connection on to the leader.
//!
//! After the handshake both streams are spliced; the relay reads nothing of what passes. When the
//! leader changes, or is not heard of any more, it closes both ends and the client resumes through
//! whoever leads then: no cleverness mid-stream.
//!
//! Left out: admin questions are passed on one by one ([`crate::admin`]), because some of them are
//! for the node that was asked.

use std::time::Duration;

use tracing::debug;

use crate::consensus::{Leadership, Member};
use crate::env::{Runtime, Watch};
use crate::transport::{ByteStream, Net, Reader, Writer, exchange, splice};
use crate::types::{ClusterId, Code, NodeId, Rejection, limits};
use crate::wire::{Greeting, Hello, Service};

/// Longest time to reach the leader and shake hands.
const DIAL_MAX: Duration = Duration::from_secs(1);
/// How long a relayed client is kept waiting for this node's tenure: less than its relay waits.
pub const RELAYED_WAIT: Duration = Duration::from_millis(800);

fn no_leader(why: impl Into<String>) -> Rejection {
    Rejection::new(Code::NoLeader, why).hint("try again in a moment, or through another node")
}

/// Who relays.
#[derive(Debug, Clone)]
pub struct Relay<N> {
    pub net: N,
    pub node: NodeId,
    pub cluster: ClusterId,
    /// The cluster token; empty if the cluster has none.
    pub token: String,
    /// Which life of this process it is.
    pub incarnation: u64,
}

impl<N: Net> Relay<N> {
    /// Carries the client's connection to `leader` until either end closes it or `leadership` names
    /// another leader. The client's hello was read and not yet answered.
    pub async fn carry<S: ByteStream, E: Runtime>(
        &self,
        env: &E,
        leadership: &Watch<Leadership>,
        leader: &Member,
        client: (Hello, Reader<S>, Writer<S>),
    ) {
        let (hello, reader, mut writer) = client;
        let greeted = tokio::select! { biased;
            greeted = self.greet(leader, &hello) => greeted,
            () = env.sleep(DIAL_MAX) => Err(no_leader(format!("{leader} does not answer"))),
        };
        let (welcome, upstream) = match greeted {
            Ok(greeted) => greeted,
            Err(rejection) => {
                // If the client is gone as well there is nobody to tell.
                let _ = writer.write([Greeting::Refused(rejection).encode().into()]).await;
                let _ = writer.close().await;
                return;
            }
        };
        let carried = async {
            writer.write([welcome.encode().into()]).await.ok()?;
            Some(splice((reader, writer), upstream).await)
        };
        let mut leadership = leadership.clone();
        let moved = leadership.wait_for(|now| now.leader.as_ref().map(|l| l.id) != Some(leader.id));
        tokio::select! { biased;
            _ = moved => debug!(%leader, client = hello.name, "the leader changed under a relay"),
            end = carried => debug!(?end, %leader, client = hello.name, "a relay ended"),
        }
    }

    /// Shakes hands with the leader in the client's name.
    async fn greet(
        &self,
        leader: &Member,
        client: &Hello,
    ) -> Result<(Greeting, (Reader<N::Stream>, Writer<N::Stream>)), Rejection> {
        let hello = Hello {
            version_min: client.version(),
            version_max: client.version(),
            service: Service::RelayData,
            cluster: Some(self.cluster),
            node: Some(self.node),
            incarnation: self.incarnation,
            token: self.token.clone(),
            name: client.name.clone(),
        };
        let failed = |why: String| no_leader(format!("{leader} cannot be reached: {why}"));
        let stream = self.net.dial(&leader.peer_addr).await.map_err(|e| failed(e.to_string()))?;
        let answer = exchange(stream, hello.encode().into(), limits::HANDSHAKE_BYTES_MAX).await;
        let (frame, reader, writer) = answer.map_err(|e| failed(e.to_string()))?;
        match Greeting::decode(frame.kind, frame.body).map_err(|e| failed(e.to_string()))? {
            Greeting::Refused(rejection) if rejection.code.retryable() => Err(rejection),
            // Not the client's fault: the two nodes do not agree.
            Greeting::Refused(rejection) => {
                Err(no_leader(format!("{leader} refuses relayed clients: {rejection}")))
            }
            welcome => Ok((welcome, (reader, writer))),
        }
    }
}

#[cfg(test)]
mod tests;
