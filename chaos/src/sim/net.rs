//! A simulated network: TCP-like streams between hosts, whose directed links delay, lose, and
//! break in all the ways links do.
//!
//! A blocked link holds what is on it: when it opens, the past arrives. A host that dies loudly
//! resets its streams; one that dies silently leaves them half open, and whoever sends to it learns
//! of that only when the host is back and answers with a reset.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aqueduct::transport::{Listener, Net};
use openraft_rt::AsyncRuntime;
use openraft_rt_sim::SimRuntime;
use tokio::sync::mpsc;

use super::env::{Chance, now};
use super::pipe::{End, Pipe};
use super::stream::SimStream;
use super::weather::Weather;

/// A dial into silence gives up after this long.
const DIAL_MAX: Duration = Duration::from_secs(3);
/// Streams that wait to be accepted; a dial beyond it is refused.
const BACKLOG: usize = 128;

/// One host's view of the network. The host of an address is what precedes its colon.
#[derive(Clone)]
pub struct SimNet {
    host: String,
    fabric: Fabric,
}

/// The network as whoever controls the world sees it. Clones share it.
#[derive(Clone)]
pub struct Fabric(Arc<Mutex<State>>);

pub(super) struct State {
    chance: Chance,
    weather: Weather,
    /// Links that differ from the rest.
    local: BTreeMap<Link, Weather>,
    /// Blocked links, and how many times over.
    blocked: BTreeMap<Link, u32>,
    /// Hosts that do not even refuse.
    dark: BTreeSet<String>,
    clients: BTreeSet<String>,
    listeners: BTreeMap<String, mpsc::Sender<(SimStream, String)>>,
    pub(super) pipes: BTreeMap<u64, Pipe>,
    next_pipe: u64,
    next_port: u32,
}

/// From one host to another.
pub type Link = (String, String);

fn host_of(addr: &str) -> &str {
    addr.split(':').next().unwrap_or(addr)
}

impl Fabric {
    pub fn new(chance: Chance, weather: Weather) -> Fabric {
        Fabric(Arc::new(Mutex::new(State {
            chance,
            weather,
            local: BTreeMap::new(),
            blocked: BTreeMap::new(),
            dark: BTreeSet::new(),
            clients: BTreeSet::new(),
            listeners: BTreeMap::new(),
            pipes: BTreeMap::new(),
            next_pipe: 0,
            next_port: 40_000,
        })))
    }

    /// The network as a host of this name sees it.
    pub fn host(&self, host: impl Into<String>) -> SimNet {
        SimNet { host: host.into(), fabric: self.clone() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the weather everywhere but where it was set locally.
    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// Changes the weather of one directed link; `None`: to that of all the others.
    pub fn set_link(&self, link: Link, weather: Option<Weather>) {
        let mut state = self.lock();
        match weather {
            Some(weather) => state.local.insert(link, weather),
            None => state.local.remove(&link),
        };
    }

    /// Blocks directed links; what is on them waits.
    pub fn block(&self, links: impl IntoIterator<Item = Link>) {
        let mut state = self.lock();
        for link in links {
            *state.blocked.entry(link).or_default() += 1;
        }
    }

    /// Takes one block off each of these links.
    pub fn unblock(&self, links: impl IntoIterator<Item = Link>) {
        let mut state = self.lock();
        for link in links {
            if let Some(count) = state.blocked.get_mut(&link) {
                *count -= 1;
            }
        }
        state.blocked.retain(|_, count| *count > 0);
        state.pipes.values_mut().for_each(Pipe::wake);
    }

    /// Hosts that have dialled somebody and never listened.
    pub fn clients(&self) -> BTreeSet<String> {
        self.lock().clients.clone()
    }

    /// A host's processes end. Loudly: the other ends hear a reset. Silently: they hear nothing,
    /// and nobody answers at all until [`Fabric::light`].
    pub fn die(&self, host: &str, silently: bool) {
        let mut state = self.lock();
        state.listeners.retain(|addr, _| host_of(addr) != host);
        if silently {
            state.dark.insert(host.to_owned());
        }
        let later: Vec<(u64, Duration)> = (state.pipes.iter())
            .filter(|(_, pipe)| pipe.link.0 == host)
            .map(|(id, pipe)| (*id, pipe.link.clone()))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|(id, link)| (id, state.arrival(&link)))
            .collect();
        for (id, due) in later {
            let Some(pipe) = state.pipes.get_mut(&id) else { continue };
            pipe.writer_gone = true;
            if !silently {
                pipe.finish(End::Reset, due);
            }
        }
        for pipe in state.pipes.values_mut().filter(|pipe| pipe.link.1 == host) {
            pipe.reader_gone = true;
            pipe.wake();
        }
        state.sweep();
    }

    /// A host that died silently answers again, be it with refusals.
    pub fn light(&self, host: &str) {
        self.lock().dark.remove(host);
    }
}

impl State {
    pub fn is_blocked(&self, link: &Link) -> bool {
        self.blocked.contains_key(link)
    }

    pub fn is_dark(&self, host: &str) -> bool {
        self.dark.contains(host)
    }

    /// When a segment sent now over the link arrives, if the link is open.
    pub fn arrival(&self, link: &Link) -> Duration {
        let weather = self.local.get(link).copied().unwrap_or(self.weather);
        now() + self.chance.draw(|chance| weather.delay(chance))
    }

    /// Forgets streams that nobody holds any more.
    pub fn sweep(&mut self) {
        let gone = |pipe: &Pipe| pipe.writer_gone && pipe.reader_gone;
        let done: BTreeSet<u64> =
            self.pipes.iter().filter(|(_, pipe)| gone(pipe)).map(|(id, _)| *id).collect();
        self.pipes.retain(|id, pipe| !(done.contains(id) && done.contains(&pipe.reverse)));
    }

    fn connect(&mut self, from: &str, to: &str) -> [u64; 2] {
        let [there, back] = [self.next_pipe, self.next_pipe + 1];
        self.next_pipe += 2;
        let link = (from.to_owned(), to.to_owned());
        let reverse = (to.to_owned(), from.to_owned());
        self.pipes.insert(there, Pipe::new(link, back));
        self.pipes.insert(back, Pipe::new(reverse, there));
        [there, back]
    }
}

impl SimNet {
    /// Whether a segment could cross both ways now.
    fn is_reachable(&self, host: &str) -> bool {
        let state = self.fabric.lock();
        let there = (self.host.clone(), host.to_owned());
        let back = (host.to_owned(), self.host.clone());
        !state.is_blocked(&there) && !state.is_blocked(&back) && !state.is_dark(host)
    }

    fn one_way(&self, from: &str, to: &str) -> Duration {
        let state = self.fabric.lock();
        state.arrival(&(from.to_owned(), to.to_owned())).saturating_sub(now())
    }
}

impl Net for SimNet {
    type Stream = SimStream;
    type Listener = SimListener;

    async fn dial(&self, addr: &str) -> io::Result<SimStream> {
        let failed =
            |kind, why: &str| Err(io::Error::new(kind, format!("cannot connect to {addr}: {why}")));
        let host = host_of(addr);
        SimRuntime::sleep(self.one_way(&self.host, host)).await;
        if !self.is_reachable(host) {
            SimRuntime::sleep(DIAL_MAX).await;
            return failed(io::ErrorKind::TimedOut, "no answer");
        }
        let accepted = {
            let mut state = self.fabric.lock();
            let listener = state.listeners.get(addr).cloned();
            listener.and_then(|listener| {
                let [there, back] = state.connect(&self.host, host);
                state.next_port += 1;
                let from = format!("{}:{}", self.host, state.next_port);
                drop(state);
                let far = SimStream::new(self.fabric.clone(), there, back);
                let near = SimStream::new(self.fabric.clone(), back, there);
                listener.try_send((far, from)).ok().map(|()| near)
            })
        };
        SimRuntime::sleep(self.one_way(host, &self.host)).await;
        match accepted {
            Some(stream) => Ok(stream),
            None => failed(io::ErrorKind::ConnectionRefused, "refused"),
        }
    }

    async fn listen(&self, addr: &str) -> io::Result<SimListener> {
        let (sender, queue) = mpsc::channel(BACKLOG);
        self.fabric.lock().listeners.insert(addr.to_owned(), sender);
        Ok(SimListener { addr: addr.to_owned(), queue })
    }
}

/// Accepts streams on one address.
pub struct SimListener {
    addr: String,
    queue: mpsc::Receiver<(SimStream, String)>,
}

impl Listener for SimListener {
    type Stream = SimStream;

    async fn accept(&mut self) -> io::Result<(SimStream, String)> {
        match self.queue.recv().await {
            Some(accepted) => Ok(accepted),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> String {
        self.addr.clone()
    }
}
