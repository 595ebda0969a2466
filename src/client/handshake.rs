//! The way in: dial, say hello, hear welcome.

use thiserror::Error;

use super::Options;
use crate::env::Runtime;
use crate::transport::{FrameError, Net, Reader, Writer, exchange};
use crate::types::{Rejection, limits};
use crate::wire::{Greeting, Hello, Service, Welcome, WireError};

/// Why there is no connection to a server.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The server said no.
    #[error("{0}")]
    Refused(Rejection),
    #[error("{0}")]
    Unreachable(#[from] std::io::Error),
    #[error("{addr}: {error}")]
    Frame { addr: String, error: FrameError },
    #[error("{addr} does not answer as an Aqueduct node: {error}")]
    Nonsense { addr: String, error: WireError },
    #[error("{addr} does not answer within {ms} ms: is the node alive, and reachable from here?")]
    Timeout { addr: String, ms: u128 },
}

/// Dials `addr` and shakes hands for `service`, within [`Options::handshake_timeout`].
pub async fn dial<N: Net, E: Runtime>(
    net: &N,
    env: &E,
    addr: &str,
    options: &Options,
    service: Service,
) -> Result<(Welcome, Reader<N::Stream>, Writer<N::Stream>), HandshakeError> {
    let timeout = options.handshake_timeout;
    tokio::select! {
        biased;
        done = shake(net, addr, options, service) => done,
        _ = env.sleep(timeout) => {
            Err(HandshakeError::Timeout { addr: addr.into(), ms: timeout.as_millis() })
        }
    }
}

async fn shake<N: Net>(
    net: &N,
    addr: &str,
    options: &Options,
    service: Service,
) -> Result<(Welcome, Reader<N::Stream>, Writer<N::Stream>), HandshakeError> {
    let framed = |error| HandshakeError::Frame { addr: addr.into(), error };
    let stream = net.dial(addr).await?;
    let mut hello = Hello::new(service, options.name.as_str());
    hello.token = options.token.clone();
    let answered = exchange(stream, hello.encode().into(), limits::HANDSHAKE_BYTES_MAX).await;
    let (frame, mut reader, mut writer) = answered.map_err(framed)?;
    let greeting = Greeting::decode(frame.kind, frame.body)
        .map_err(|error| HandshakeError::Nonsense { addr: addr.into(), error })?;
    let welcome = greeting.into_result().map_err(HandshakeError::Refused)?;
    reader.set_frame_bytes_max(limits::FRAME_BYTES_MAX);
    writer.set_frame_bytes_max(limits::FRAME_BYTES_MAX);
    Ok((welcome, reader, writer))
}
