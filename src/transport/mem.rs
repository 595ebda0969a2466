//! [`Net`] in memory, for tests and the simulation: pipes between named hosts, without a runtime
//! or a clock. Links can be cut (both ends see a reset) and held (bytes wait, nothing fails), which
//! is what a dead process and a silent partition look like.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

use super::net::{Listener, Net, named};

/// Bytes a pipe holds in each direction before its writer waits.
const PIPE_BYTES: usize = 256 << 10;
/// Streams that may wait to be accepted by one listener; a dial beyond it is refused.
const BACKLOG: usize = 128;

/// One host's view of a network in memory. The host of an address is what precedes its colon.
#[derive(Debug, Clone)]
pub struct MemNet {
    host: String,
    fabric: Arc<Mutex<Fabric>>,
}

#[derive(Debug, Default)]
struct Fabric {
    listeners: BTreeMap<String, mpsc::Sender<(MemStream, String)>>,
    links: Vec<(Pair, Arc<Link>)>,
    cut: BTreeSet<Pair>,
    held: BTreeSet<Pair>,
    port_next: u32,
}

/// Two hosts, in order.
type Pair = (String, String);

fn pair(a: &str, b: &str) -> Pair {
    if a <= b { (a.into(), b.into()) } else { (b.into(), a.into()) }
}

fn host_of(addr: &str) -> &str {
    addr.split(':').next().unwrap_or(addr)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Plain values; a panicking test must not hide behind a poisoned lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemNet {
    /// A new network, seen by a host of this name.
    pub fn new(host: impl Into<String>) -> MemNet {
        MemNet { host: host.into(), fabric: Arc::default() }
    }

    /// The same network, seen by another host.
    pub fn host(&self, host: impl Into<String>) -> MemNet {
        MemNet { host: host.into(), fabric: self.fabric.clone() }
    }

    /// Resets every link between two hosts, and refuses new ones until [`MemNet::heal`].
    pub fn cut(&self, a: &str, b: &str) {
        let mut fabric = lock(&self.fabric);
        fabric.cut.insert(pair(a, b));
        fabric.set_links(|p| *p == pair(a, b), LinkState::Cut);
    }

    /// Lets nothing through between two hosts, on present and new links, and fails nothing, until
    /// [`MemNet::heal`].
    pub fn hold(&self, a: &str, b: &str) {
        let mut fabric = lock(&self.fabric);
        fabric.held.insert(pair(a, b));
        fabric.set_links(|p| *p == pair(a, b), LinkState::Held);
    }

    /// Ends cuts and holds between two hosts. Links that were cut stay dead.
    pub fn heal(&self, a: &str, b: &str) {
        let mut fabric = lock(&self.fabric);
        fabric.cut.remove(&pair(a, b));
        fabric.held.remove(&pair(a, b));
        fabric.set_links(|p| *p == pair(a, b), LinkState::Open);
    }

    /// What the network sees of the death of a host: its links reset, its listeners gone. It may
    /// dial and listen again at once.
    pub fn crash(&self, host: &str) {
        let mut fabric = lock(&self.fabric);
        fabric.listeners.retain(|addr, _| host_of(addr) != host);
        fabric.set_links(|p| p.0 == host || p.1 == host, LinkState::Cut);
    }
}

impl Fabric {
    fn set_links(&mut self, which: impl Fn(&Pair) -> bool, state: LinkState) {
        self.links.retain(|(_, link)| Arc::strong_count(link) > 1);
        for (_, link) in self.links.iter().filter(|(pair, _)| which(pair)) {
            link.set(state);
        }
    }

    /// Two connected ends between two hosts.
    fn connect(&mut self, from: &str, to: &str) -> (MemStream, MemStream) {
        let state = match self.held.contains(&pair(from, to)) {
            true => LinkState::Held,
            false => LinkState::Open,
        };
        let link = Arc::new(Link(Mutex::new(LinkInner { state, wakers: Default::default() })));
        self.links.retain(|(_, link)| Arc::strong_count(link) > 1);
        self.links.push((pair(from, to), link.clone()));
        let (a, b) = tokio::io::duplex(PIPE_BYTES);
        let stream = |pipe, end| MemStream { pipe, link: link.clone(), end };
        (stream(a, 0), stream(b, 1))
    }
}

impl Net for MemNet {
    type Stream = MemStream;
    type Listener = MemListener;

    async fn dial(&self, addr: &str) -> io::Result<MemStream> {
        let refused = || named(io::ErrorKind::ConnectionRefused.into(), "connect to", addr);
        let mut fabric = lock(&self.fabric);
        let to = host_of(addr);
        if fabric.cut.contains(&pair(&self.host, to)) {
            return Err(named(io::ErrorKind::HostUnreachable.into(), "connect to", addr));
        }
        let listener = fabric.listeners.get(addr).cloned().ok_or_else(refused)?;
        let (here, there) = fabric.connect(&self.host, to);
        listener.try_send((there, self.host.clone())).map_err(|_| refused())?;
        Ok(here)
    }

    async fn listen(&self, addr: &str) -> io::Result<MemListener> {
        let mut fabric = lock(&self.fabric);
        let addr = match addr.strip_suffix(":0") {
            Some(host) => {
                fabric.port_next += 1;
                format!("{host}:{}", 40_000 + fabric.port_next)
            }
            None => addr.to_string(),
        };
        if fabric.listeners.get(&addr).is_some_and(|listener| !listener.is_closed()) {
            return Err(named(io::ErrorKind::AddrInUse.into(), "listen on", &addr));
        }
        let (sender, incoming) = mpsc::channel(BACKLOG);
        fabric.listeners.insert(addr.clone(), sender);
        Ok(MemListener { addr, incoming })
    }
}

/// The listening end of a [`MemNet`].
#[derive(Debug)]
pub struct MemListener {
    addr: String,
    incoming: mpsc::Receiver<(MemStream, String)>,
}

impl Listener for MemListener {
    type Stream = MemStream;

    async fn accept(&mut self) -> io::Result<(MemStream, String)> {
        match self.incoming.recv().await {
            Some(accepted) => Ok(accepted),
            // The host crashed; whoever still holds its listener belongs to the dead.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> String {
        self.addr.clone()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinkState {
    Open,
    Held,
    Cut,
}

/// What both ends of a stream share.
#[derive(Debug)]
struct Link(Mutex<LinkInner>);

#[derive(Debug)]
struct LinkInner {
    state: LinkState,
    /// Who waits, by end and direction.
    wakers: [Option<Waker>; 4],
}

impl Link {
    /// Changes the state and wakes whoever waits. A cut is final.
    fn set(&self, state: LinkState) {
        let mut inner = lock(&self.0);
        if inner.state == LinkState::Cut {
            return;
        }
        inner.state = state;
        let wakers = std::mem::take(&mut inner.wakers);
        drop(inner);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Registers interest in a change, and says whether bytes may pass now.
    fn poll_open(&self, slot: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        if inner.state == LinkState::Cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if let Some(waker) = inner.wakers.get_mut(slot) {
            *waker = Some(cx.waker().clone());
        }
        if inner.state == LinkState::Open { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

/// One end of a pipe of a [`MemNet`].
#[derive(Debug)]
pub struct MemStream {
    pipe: DuplexStream,
    link: Arc<Link>,
    /// 0: the end that dialled; 1: the end that accepted.
    end: usize,
}

impl MemStream {
    fn poll_link(&self, writing: bool, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_open(self.end * 2 + usize::from(writing), cx)
    }
}

impl AsyncRead for MemStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_link(false, cx))?;
        Pin::new(&mut self.pipe).poll_read(cx, into)
    }
}

impl AsyncWrite for MemStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_link(true, cx))?;
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
