//! Where byte streams come from.

use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A byte stream that tasks can own.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for S {}

/// Dials and listens. Cheap to clone.
pub trait Net: Clone + Send + Sync + 'static {
    type Stream: ByteStream;
    type Listener: Listener<Stream = Self::Stream>;

    /// Connects to `addr` (`host:port`). The error says which address.
    fn dial(&self, addr: &str) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Listens on `addr` (`host:port`; port 0: any free one). The error says which address.
    fn listen(&self, addr: &str) -> impl Future<Output = io::Result<Self::Listener>> + Send;
}

/// Accepts streams until it is dropped.
pub trait Listener: Send + 'static {
    type Stream: ByteStream;

    /// The next stream, and who called (for logs). Cancel-safe. An error concerns one caller or a
    /// lack of resources: pause a little, then go on.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, String)>> + Send;

    /// The address it listens on, with the actual port.
    fn local_addr(&self) -> String;
}

/// [`Net`] on TCP, without Nagle's delay.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpNet;

impl Net for TcpNet {
    type Stream = TcpStream;
    type Listener = TcpListener;

    async fn dial(&self, addr: &str) -> io::Result<TcpStream> {
        let dialled = async {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        dialled.await.map_err(|e| named(e, "connect to", addr))
    }

    async fn listen(&self, addr: &str) -> io::Result<TcpListener> {
        TcpListener::bind(addr).await.map_err(|e| named(e, "listen on", addr))
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, String)> {
        let (stream, from) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((stream, from.to_string()))
    }

    fn local_addr(&self) -> String {
        TcpListener::local_addr(self).map_or_else(|e| format!("unknown ({e})"), |a| a.to_string())
    }
}

/// An error that names what was tried.
pub(super) fn named(error: io::Error, tried: &str, addr: &str) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {tried} {addr}: {error}"))
}
