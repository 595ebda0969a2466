//! Loopback for everybody: a proxy in front of each port of each node.
//!
//! A proxy finds out who calls by the owner of the caller's socket, so one advertised address per
//! node is enough for rules about pairs. Byte streams cannot lose, double or reorder anything; they
//! can stall, which is what a partition looks like from above.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::addresses::{self, Addresses};
use super::links::{Host, Links};
use super::owner;
use crate::bed::roster::Roster;

/// Bytes taken from a stream at a time.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces on their way through a link; then the sender waits.
const PIECES_MAX: usize = 256;
/// Nodes listen on low host numbers of the subnet, their proxies on high ones.
const PROXY_OFFSET: u8 = 128;

/// See the module.
pub struct Proxies {
    links: Links,
    roster: Roster,
    seed: u64,
    subnet: [u8; 3],
    doors: BTreeMap<Host, JoinSet<()>>,
}

/// What goes without saying on a real network and does not happen here.
pub fn left_out() -> Vec<String> {
    ["loss, duplication and reordering of packets", "refused or unanswered connection attempts"]
        .map(|what| format!("{what}: the network is a proxy per port on loopback"))
        .to_vec()
}

impl Proxies {
    /// A network without hosts.
    pub fn start(links: Links, roster: Roster, seed: u64) -> Result<Proxies> {
        // Not from the seed: runs side by side may have the same.
        let mut rng = fastrand::Rng::new();
        for _ in 0..1000 {
            let subnet = [127, rng.u8(1..255), rng.u8(..)];
            if is_free(subnet) {
                return Ok(Proxies { links, roster, seed, subnet, doors: BTreeMap::new() });
            }
        }
        bail!("there is no free subnet below 127.0.0.0/8")
    }

    /// Opens the proxies of a node.
    pub async fn add_host(&mut self, host: Host) -> Result<Addresses> {
        if host.0 >= PROXY_OFFSET - 1 {
            bail!("a network has at most {} hosts", PROXY_OFFSET - 2);
        }
        let [a, b, c] = self.subnet;
        let listen = addresses::on(Ipv4Addr::new(a, b, c, host.0));
        let mut reached = addresses::on(Ipv4Addr::new(a, b, c, host.0 + PROXY_OFFSET));
        // Health checks are for this process alone.
        reached[3] = listen[3].clone();
        let doors = self.doors.entry(host).or_default();
        for (addr, to) in reached.iter().zip(&listen).take(3) {
            let listener = TcpListener::bind(addr);
            let listener = listener.await.with_context(|| format!("listen on {addr}"))?;
            let way = Way { links: self.links.clone(), roster: self.roster.clone(), to: host };
            doors.spawn(serve(listener, to.clone(), way, self.seed));
        }
        Ok(Addresses { listen, reached })
    }
}

/// Whether nobody listens where the first node and its proxy would. Found out by connecting, not by
/// listening for a moment: a process that is forked meanwhile keeps a listener open until it
/// becomes a program of its own, and the address is in use for as long.
fn is_free([a, b, c]: [u8; 3]) -> bool {
    let hosts = [1, 1 + PROXY_OFFSET].map(|host| Ipv4Addr::new(a, b, c, host));
    hosts.iter().flat_map(|ip| addresses::on(*ip)).all(|addr| {
        let refused = std::net::TcpStream::connect(addr).map_err(|e| e.kind());
        refused.is_err_and(|kind| kind == ErrorKind::ConnectionRefused)
    })
}

/// Where a connection leads.
#[derive(Clone)]
struct Way {
    links: Links,
    roster: Roster,
    to: Host,
}

async fn serve(listener: TcpListener, to: String, way: Way, seed: u64) {
    let mut connections = JoinSet::new();
    let mut rng = fastrand::Rng::with_seed(seed);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, caller)) => {
                    connections.spawn(carry(stream, caller, to.clone(), way.clone(), rng.fork()));
                }
                // Out of descriptors, for example: the next one may go away meanwhile.
                Err(_) => tokio::task::yield_now().await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection until either end has enough.
async fn carry(
    stream: TcpStream,
    caller: SocketAddr,
    to: String,
    way: Way,
    mut rng: fastrand::Rng,
) {
    let Ok(here) = stream.local_addr() else { return };
    let roster = way.roster.clone();
    let asked = tokio::task::spawn_blocking(move || owner::of(&roster, caller, here));
    let from = asked.await.unwrap_or(Host::CLIENTS);
    way.links.open(from, way.to).await;
    let Ok(onward) = TcpStream::connect(&to).await else { return };
    for stream in [&stream, &onward] {
        // A proxy must not be slower than what it stands for.
        let _ = stream.set_nodelay(true);
    }
    let (in_read, in_write) = stream.into_split();
    let (out_read, out_write) = onward.into_split();
    let there = pass(in_read, out_write, (from, way.to), way.links.clone(), rng.fork());
    let back = pass(out_read, in_write, (way.to, from), way.links, rng);
    tokio::join!(there, back);
}

/// Carries one direction, then closes it.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    link: (Host, Host),
    links: Links,
    mut rng: fastrand::Rng,
) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let arriving = links.clone();
    let take = async move {
        let mut buffer = vec![0; PIECE_BYTES];
        while let Ok(len @ 1..) = from.read(&mut buffer).await {
            let at = links.arrival(link, len, std::time::Instant::now(), &mut rng);
            if sender.send((at.into(), buffer[..len].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let put = async move {
        while let Some((at, piece)) = pieces.recv().await {
            tokio::time::sleep_until(at).await;
            arriving.open(link.0, link.1).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        // The end of a stream is news, too: it does not cross a partition.
        arriving.open(link.0, link.1).await;
        let _ = to.shutdown().await;
    };
    // When the receiver is gone, nothing more is taken.
    tokio::select! {
        () = put => {}
        () = async { take.await; std::future::pending().await } => {}
    }
}
