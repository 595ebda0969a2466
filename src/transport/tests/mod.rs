//! Tests of framing, of the network in memory, of splicing, and of TCP.

mod framing;
mod hostile;
mod nets;
mod splicing;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use super::FrameOut;

/// Fails instead of hanging.
pub(super) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work).await.expect("within ten seconds")
}

/// A frame whose body is one part.
pub(super) fn frame(kind: u8, body: impl Into<Bytes>) -> FrameOut {
    FrameOut::new(kind, vec![body.into()])
}

/// A whole frame as bytes.
pub(super) fn bytes_of(frame: &FrameOut) -> Vec<u8> {
    [&frame.header()[..], &frame.parts.concat()].concat()
}
