//! From an address to an admin service: dial, shake hands, speak tarpc.

use std::time::Duration;

use tarpc::client::Config;
use thiserror::Error;

use crate::transport::{FrameError, Net, exchange, reunite};
use crate::types::{Rejection, limits};
use crate::wire::admin::{AdminServiceClient, client_transport};
use crate::wire::{Greeting, Hello, Welcome, WireError};

/// Why there is no admin connection.
#[derive(Debug, Error)]
pub enum DialError {
    /// Nobody answered there; another address, or the same one later, may do.
    #[error("{addr} cannot be reached: {reason}")]
    Unreachable { addr: String, reason: String },
    /// Whoever answered does not want this caller.
    #[error("{addr} refuses the connection: {rejection}")]
    Refused { addr: String, rejection: Rejection },
}

/// Opens an admin connection to `addr`, presenting `hello`, within `patience`. The connection
/// closes when the last clone of the service is dropped.
pub async fn dial_admin<N: Net>(
    net: &N,
    addr: &str,
    hello: &Hello,
    patience: Duration,
) -> Result<(AdminServiceClient, Welcome), DialError> {
    let unreachable = |reason: String| DialError::Unreachable { addr: addr.into(), reason };
    let dialled = async {
        let stream = net.dial(addr).await.map_err(|e| unreachable(e.to_string()))?;
        let answer = exchange(stream, hello.encode().into(), limits::HANDSHAKE_BYTES_MAX).await;
        let (frame, reader, writer) = answer.map_err(|e: FrameError| unreachable(e.to_string()))?;
        let greeting = Greeting::decode(frame.kind, frame.body)
            .map_err(|e: WireError| unreachable(e.to_string()))?;
        let welcome = greeting
            .into_result()
            .map_err(|rejection| DialError::Refused { addr: addr.into(), rejection })?;
        let stream = reunite(reader, writer).map_err(|e| unreachable(e.to_string()))?;
        let service = AdminServiceClient::new(Config::default(), client_transport(stream)).spawn();
        Ok((service, welcome))
    };
    tokio::time::timeout(patience, dialled)
        .await
        .unwrap_or_else(|_| Err(unreachable(format!("no answer within {patience:?}"))))
}
