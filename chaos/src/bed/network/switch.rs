//! The switch: one thread that moves packets between TUN devices as the links allow.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::links::{Fate, Host, Links};
use super::tun::MTU;

/// Packets taken from one device before the next has its turn.
const TURN_PACKETS: usize = 64;
/// Packets on their way; more are lost, as in any network.
const UNDER_WAY_MAX: usize = 100_000;

/// A running switch. Stops when dropped.
pub struct Switch {
    ports: Option<Sender<(Host, Ipv4Addr, File)>>,
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
}

struct Port {
    host: Host,
    device: File,
}

/// A packet that arrives later: ordered by time, then by number.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Late {
    at: Instant,
    number: u64,
    to: Ipv4Addr,
    packet: Vec<u8>,
}

struct Fabric {
    links: Links,
    ports: BTreeMap<Ipv4Addr, Port>,
    late: BinaryHeap<Reverse<Late>>,
    sent: u64,
    rng: fastrand::Rng,
}

impl Switch {
    /// A switch without ports.
    pub fn start(links: Links, seed: u64) -> Result<Switch> {
        let (wake, woken) = UnixStream::pair().context("make a pair of sockets")?;
        woken.set_nonblocking(true).context("make a socket non-blocking")?;
        let (ports, arriving) = channel();
        let rng = fastrand::Rng::with_seed(seed);
        let fabric =
            Fabric { links, ports: BTreeMap::new(), late: BinaryHeap::new(), sent: 0, rng };
        let run = move || fabric.run(woken, arriving);
        let thread = std::thread::Builder::new().name("bed-switch".into()).spawn(run);
        let thread = Some(thread.context("start the switch")?);
        Ok(Switch { ports: Some(ports), wake, thread })
    }

    /// Connects a device; packets to `ip` go there.
    pub fn connect(&self, host: Host, ip: Ipv4Addr, device: File) -> Result<()> {
        let stopped = || anyhow!("the switch has stopped");
        let ports = self.ports.as_ref().ok_or_else(stopped)?;
        ports.send((host, ip, device)).map_err(|_| stopped())?;
        (&self.wake).write_all(b"!").context("wake the switch")
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.ports = None;
        let _ = (&self.wake).write_all(b"!");
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Fabric {
    /// Moves packets until the other end of `arriving` is gone.
    fn run(mut self, mut woken: UnixStream, arriving: Receiver<(Host, Ipv4Addr, File)>) {
        let mut buffer = vec![0; MTU + 64];
        loop {
            if woken.read(&mut buffer).is_ok() {
                loop {
                    match arriving.try_recv() {
                        Ok((host, ip, device)) => {
                            self.ports.insert(ip, Port { host, device });
                        }
                        Err(std::sync::mpsc::TryRecvError::Empty) => break,
                        Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                    }
                }
            }
            let ready = self.wait(&woken);
            for ip in ready {
                self.take(ip, &mut buffer);
            }
            self.deliver_late();
        }
    }

    /// Waits for packets, for the time of a late one, or to be woken.
    fn wait(&self, woken: &UnixStream) -> Vec<Ipv4Addr> {
        let now = Instant::now();
        let patience = self.late.peek().map(|late| late.0.at.saturating_duration_since(now));
        let patience = patience.unwrap_or(Duration::from_secs(60));
        let timeout = Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        let mut polled = vec![PollFd::new(woken, PollFlags::IN)];
        polled.extend(self.ports.values().map(|port| PollFd::new(&port.device, PollFlags::IN)));
        // Interrupted or not, the caller comes back.
        let _ = poll(&mut polled, Some(&timeout));
        let is_ready = |fd: &PollFd<'_>| fd.revents().contains(PollFlags::IN);
        let ready = polled[1..].iter().zip(self.ports.keys()).filter(|(fd, _)| is_ready(fd));
        ready.map(|(_, ip)| *ip).collect()
    }

    /// Takes what a device has, for a turn.
    fn take(&mut self, from: Ipv4Addr, buffer: &mut [u8]) {
        for _ in 0..TURN_PACKETS {
            let Some(port) = self.ports.get_mut(&from) else { return };
            let Ok(len) = port.device.read(buffer) else { return };
            let source = port.host;
            if let Some(to) = destination(&buffer[..len]) {
                self.forward(source, to, &buffer[..len]);
            }
        }
    }

    fn forward(&mut self, from: Host, to: Ipv4Addr, packet: &[u8]) {
        let Some(port) = self.ports.get_mut(&to) else { return };
        let now = Instant::now();
        match self.links.fate((from, port.host), packet.len(), now, &mut self.rng) {
            Fate::Lost => {}
            // A device whose queue is full loses the packet.
            Fate::Now => drop(port.device.write(packet)),
            Fate::At(first, second) => {
                for at in std::iter::once(first).chain(second) {
                    if self.late.len() < UNDER_WAY_MAX {
                        let (number, packet) = (self.sent, packet.to_vec());
                        self.late.push(Reverse(Late { at, number, to, packet }));
                        self.sent += 1;
                    }
                }
            }
        }
    }

    fn deliver_late(&mut self) {
        let now = Instant::now();
        while self.late.peek().is_some_and(|late| late.0.at <= now) {
            let Some(Reverse(late)) = self.late.pop() else { return };
            if let Some(port) = self.ports.get_mut(&late.to) {
                let _ = port.device.write(&late.packet);
            }
        }
    }
}

/// Where an IPv4 packet wants to go.
fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let version = packet.first()? >> 4;
    let octets: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    (version == 4).then(|| Ipv4Addr::from(octets))
}
