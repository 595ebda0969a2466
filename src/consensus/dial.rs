//! Dialling a peer: who must answer, and what it means when nobody does.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::env::Runtime;
use crate::transport::{FrameError, Net, Reader, Writer, exchange};
use crate::types::{ClusterId, NodeId, Rejection, limits};
use crate::wire::{Greeting, Hello, Service, Welcome, WireError, newest_version};

use super::addresses::Addresses;
use super::member::Member;

/// Who a node says it is when it dials its peers.
#[derive(Debug, Clone)]
pub struct PeerIdentity {
    pub node: NodeId,
    pub cluster: ClusterId,
    /// The cluster token; empty if the cluster has none.
    pub token: String,
    /// Which life of this process it is.
    pub incarnation: u64,
}

/// Why there is no connection to a peer.
#[derive(Debug, Error)]
pub(super) enum DialError {
    #[error("{0}")]
    Unreachable(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("{0}")]
    Refused(Rejection),
    #[error("{addr} is node {found} of cluster {cluster}, not the one that was dialled")]
    Stranger { addr: String, found: NodeId, cluster: ClusterId },
    #[error("{0} does not answer")]
    Silent(Member),
}

impl DialError {
    /// The peer's host is there, and no process listens.
    pub fn is_refused(&self) -> bool {
        let refused = io::ErrorKind::ConnectionRefused;
        matches!(self, DialError::Unreachable(error) if error.kind() == refused)
    }

    /// The connection was let in and then cut.
    pub fn is_cut(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match self {
            DialError::Unreachable(error) | DialError::Frame(FrameError::Io(error)) => {
                matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe)
            }
            DialError::Frame(error) => {
                matches!(error, FrameError::NoAnswer | FrameError::Truncated { .. })
            }
            _ => false,
        }
    }
}

/// Dials peers in this node's name. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Dialer<N> {
    pub identity: PeerIdentity,
    pub addresses: Addresses,
    pub net: N,
}

impl<N: Net> Dialer<N> {
    /// Connects to `target` and shakes hands, within the time given.
    pub async fn dial(
        &self,
        target: &Member,
        env: &impl Runtime,
        within: Duration,
    ) -> Result<(Welcome, Reader<N::Stream>, Writer<N::Stream>), DialError> {
        tokio::select! { biased;
            done = self.handshake(target) => done,
            () = env.sleep(within) => Err(DialError::Silent(target.clone())),
        }
    }

    async fn handshake(
        &self,
        target: &Member,
    ) -> Result<(Welcome, Reader<N::Stream>, Writer<N::Stream>), DialError> {
        let addr = self.addresses.of(target);
        let stream = self.net.dial(&addr).await?;
        let hello = Hello {
            cluster: Some(self.identity.cluster),
            node: Some(self.identity.node),
            incarnation: self.identity.incarnation,
            token: self.identity.token.clone(),
            ..Hello::new(Service::Peer, format!("node {}", self.identity.node))
        };
        let (frame, reader, writer) =
            exchange(stream, hello.encode().into(), limits::PEER_FRAME_BYTES_MAX).await?;
        let greeting = Greeting::decode(frame.kind, frame.body)?;
        let welcome = greeting.into_result().map_err(DialError::Refused)?;
        if welcome.node != target.id || welcome.cluster != self.identity.cluster {
            let (found, cluster) = (welcome.node, welcome.cluster);
            return Err(DialError::Stranger { addr, found, cluster });
        }
        if welcome.newest > newest_version() {
            let (peer, newest) = (target.id, welcome.newest);
            tracing::debug!(%peer, newest, "a peer speaks a newer protocol version than this node");
        }
        Ok((welcome, reader, writer))
    }
}
