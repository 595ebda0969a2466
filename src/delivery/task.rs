//! The task around the driver.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::cluster::{Changes, Cluster};
use super::driver::{Driver, Output};
use super::handle::{Ask, Handle, Notice, Shared, Stats};
use super::outbox::Outbox;
use super::request::{Request, SessionId};
use super::sweep::Sweep;
use crate::dispatch::Departure;
use crate::env::Runtime;
use crate::machine::Reply;
use crate::types::{ChannelId, Rejection, Stamp, Tenure, limits};

/// Housekeeping commands go to the log in this name: that of no session and no proxy.
const SOURCE: u64 = u64::MAX;
/// Requests taken before the next poll.
const ROUND_REQUESTS: usize = 1024;

/// Starts the delivery task of a node. It ends when every handle is gone.
pub fn start<C: Cluster, E: Runtime>(cluster: C, env: E) -> Handle {
    let (task, handle) = create(cluster, env.clone());
    env.spawn(task.run());
    handle
}

fn create<C: Cluster, E: Runtime>(cluster: C, env: E) -> (Task<C, E>, Handle) {
    let (asks_in, asks) = mpsc::channel(limits::DELIVERY_REQUESTS_MAX);
    let (notices_in, notices) = mpsc::unbounded_channel();
    let (ends_in, ends) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared::default());
    let task = Task {
        changes: cluster.changes(),
        cluster,
        env,
        asks,
        notices,
        ends_in,
        ends,
        shared: shared.clone(),
        outboxes: BTreeMap::new(),
        driver: None,
        next_token: 1,
        sweep: Sweep::new(Stamp(0)),
    };
    (task, Handle::new(asks_in, notices_in, shared))
}

type End = (u64, Result<Reply, Rejection>);

struct Task<C: Cluster, E> {
    cluster: C,
    env: E,
    changes: C::Changes,
    asks: mpsc::Receiver<Ask>,
    notices: mpsc::UnboundedReceiver<Notice>,
    ends_in: mpsc::UnboundedSender<End>,
    /// Ends of proposals; a proxy has few under way.
    ends: mpsc::UnboundedReceiver<End>,
    shared: Arc<Shared>,
    outboxes: BTreeMap<SessionId, Outbox>,
    /// Set while this node serves.
    driver: Option<Driver>,
    next_token: u64,
    sweep: Sweep,
}

/// What a round begins with.
enum Event {
    Tenure(Option<Tenure>),
    Notice(Notice),
    End(End),
    Ask(Ask),
    Changed(BTreeSet<ChannelId>),
    Time,
    Stop,
}

impl<C: Cluster, E: Runtime> Task<C, E> {
    async fn run(mut self) {
        self.set_tenure(self.cluster.tenure());
        loop {
            match self.next_event().await {
                Event::Tenure(tenure) => self.set_tenure(tenure),
                Event::Notice(notice) => self.notice(notice),
                Event::End((token, outcome)) => self.completed(token, outcome),
                Event::Ask(ask) => self.ask(ask),
                Event::Changed(channels) => self.changed(&channels),
                Event::Time => {}
                Event::Stop => return,
            }
            self.take_what_waits();
            self.round();
        }
    }

    async fn next_event(&mut self) -> Event {
        let served = self.driver.as_ref().map(Driver::tenure);
        let wait = self.wait();
        tokio::select! { biased;
            tenure = self.cluster.tenure_after(served) => Event::Tenure(tenure),
            notice = self.notices.recv() => notice.map_or(Event::Stop, Event::Notice),
            end = self.ends.recv() => end.map_or(Event::Stop, Event::End),
            // Before requests: it is joined, so it cannot keep them from their turn.
            changed = self.changes.next() => changed.map_or(Event::Stop, Event::Changed),
            ask = self.asks.recv() => ask.map_or(Event::Stop, Event::Ask),
            () = sleep(&self.env, wait) => Event::Time,
        }
    }

    /// How long nothing is due. `None`: until something happens.
    fn wait(&self) -> Option<Duration> {
        let driver = self.driver.as_ref()?;
        let sweep = self.sweep.due();
        let due = driver.next_wakeup().map_or(sweep, |due| due.min(sweep));
        if due == Stamp(0) {
            return Some(Duration::ZERO);
        }
        Some(Duration::from_micros(due.0.saturating_sub(self.cluster.now().0)))
    }

    /// Everything that has come meanwhile belongs to this round.
    fn take_what_waits(&mut self) {
        while let Ok(notice) = self.notices.try_recv() {
            self.notice(notice);
        }
        while let Ok((token, outcome)) = self.ends.try_recv() {
            self.completed(token, outcome);
        }
        for _ in 0..ROUND_REQUESTS {
            let Ok(ask) = self.asks.try_recv() else { break };
            self.ask(ask);
        }
    }

    fn set_tenure(&mut self, tenure: Option<Tenure>) {
        if let Some(old) = &self.driver {
            self.next_token = old.next_token();
        }
        self.driver = tenure.map(|tenure| Driver::new(tenure, self.next_token));
        // What was in memory goes with its tenure.
        self.cluster.see(|_| ());
        self.sweep = Sweep::new(self.cluster.now());
        self.shared.set_subscribers(BTreeMap::new());
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Connect(session, outbox) => {
                self.outboxes.insert(session, outbox);
            }
            Notice::Drop(session) => self.leave(session),
        }
    }

    fn leave(&mut self, session: SessionId) {
        self.outboxes.remove(&session);
        if let Some(driver) = &mut self.driver {
            driver.disconnect(session, Departure::Lost);
            self.shared.set_subscribers(driver.subscribers());
        }
    }

    fn completed(&mut self, token: u64, outcome: Result<Reply, Rejection>) {
        if let Some(driver) = &mut self.driver {
            driver.completed(token, outcome, self.cluster.now());
        }
    }

    fn changed(&mut self, channels: &BTreeSet<ChannelId>) {
        if let Some(driver) = &mut self.driver {
            driver.changed(channels);
        }
    }

    fn ask(&mut self, ask: Ask) {
        // Whoever asks may know of a change of tenure that this round began without.
        let tenure = self.cluster.tenure();
        if tenure != self.driver.as_ref().map(Driver::tenure) {
            self.set_tenure(tenure);
        }
        match ask {
            Ask::Request(request) => self.request(request),
            Ask::Leave(session) => self.leave(session),
            Ask::Stats(proxies, answer) => {
                let (driver, now) = (self.driver.as_ref(), self.cluster.now());
                let proxies = driver.map(|d| d.stats(&proxies, now)).unwrap_or_default();
                let consumers = driver.map_or(0, Driver::consumers);
                // Whoever asked may have gone.
                let _ = answer.send(Stats { proxies, consumers });
            }
        }
    }

    fn request(&mut self, request: Request) {
        let Some(driver) = &mut self.driver else { return };
        let attach = match &request {
            // Its session ended first: nobody would take the deliveries.
            Request::Attach { consumer, .. } if !self.outboxes.contains_key(&consumer.session) => {
                return;
            }
            Request::Attach { .. } | Request::Detach { .. } => true,
            _ => false,
        };
        let now = self.cluster.now();
        self.cluster.see(|world| driver.request(&world, request, now));
        if attach {
            self.shared.set_subscribers(driver.subscribers());
        }
    }

    fn round(&mut self) {
        let Some(driver) = &mut self.driver else { return };
        let now = self.cluster.now();
        let outputs = self.cluster.see(|world| driver.poll(&world, now));
        outputs.into_iter().for_each(|output| self.carry_out(output));
        if self.sweep.due() <= now {
            let active = || self.driver.as_mut().map(Driver::take_active).unwrap_or_default();
            let commands = self.cluster.see(|world| self.sweep.commands(&world, active, now));
            for command in commands {
                self.cluster.submit(SOURCE, command, Box::new(say_expired));
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send { session, message } => {
                if let Some(outbox) = self.outboxes.get(&session) {
                    outbox.send(message);
                }
            }
            Output::Deliver { session, heads } => {
                if let Some(outbox) = self.outboxes.get(&session) {
                    outbox.deliver(heads);
                }
            }
            Output::Propose { proxy, command, token } => {
                let ends = self.ends_in.clone();
                let done = move |outcome| {
                    // The task may have ended meanwhile.
                    let _ = ends.send((token, outcome));
                };
                self.cluster.submit(proxy.0, command, Box::new(done));
            }
        }
    }
}

/// Whoever looks for a proxy that is gone finds out why.
fn say_expired(outcome: Result<Reply, Rejection>) {
    let Ok(Reply::Expired(proxies)) = outcome else { return };
    for (proxy, channel, name) in proxies {
        tracing::info!(%channel, %name, %proxy, "a proxy was deleted: it had no client for too long");
    }
}

async fn sleep(env: &impl Runtime, wait: Option<Duration>) {
    match wait {
        Some(wait) => env.sleep(wait).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeCluster, default_channel};
    use super::super::{ConsumerId, Outbox};
    use super::*;
    use crate::dispatch::{Attachment, Mode};

    #[tokio::test]
    async fn whoever_attaches_in_a_new_tenure_is_not_lost_with_the_old_one() {
        let cluster = FakeCluster::new();
        let (mut task, handle) = create(cluster.clone(), cluster.time());
        task.set_tenure(cluster.tenure());
        // The tenure changes after the task has looked, and before it takes what waits.
        cluster.begin_tenure();
        let connection = handle.connect(Outbox::default());
        let consumer = ConsumerId { session: connection.id(), handle: 1 };
        let channel = cluster.read(default_channel);
        let attachment = Attachment::Volatile { channel, next_seq: 1, types: Default::default() };
        let member = crate::types::Member::default();
        let (mode, dead_letters) = (Mode::Push { events: 1, bytes: 1 }, false);
        handle.ask(Request::Attach { consumer, attachment, mode, member, dead_letters }).await;
        task.take_what_waits();
        let driver = task.driver.as_ref().unwrap();
        assert_eq!((Some(driver.tenure()), driver.consumers()), (cluster.tenure(), 1));
    }
}
