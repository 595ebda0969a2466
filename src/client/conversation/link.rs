//! The connection as such: which server to try, when, and whether it still lives.

use std::time::Duration;

use crate::client::Options;
use crate::types::{Code, Rejection};
use crate::wire::Welcome;

/// A server that was of use for this long is a good one; what ended it was an accident.
const PROVEN_AFTER: Duration = Duration::from_millis(20);

/// How long each of several servers may take to say welcome when it is first tried. It doubles with
/// each round, up to [`Options::handshake_timeout`].
const FIRST_PATIENCE: Duration = Duration::from_millis(300);

/// What whoever owns the sockets should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Connect to this server (its place in [`Options::servers`]) and say hello; give up after so
    /// long.
    Dial(usize, Duration),
    /// Nothing until then.
    WaitUntil(Duration),
    /// A connection is being made or is up.
    Stay,
    /// There will be no connection any more.
    End,
}

#[derive(Debug)]
enum State {
    Waiting { until: Duration },
    Dialing,
    Up(Box<Up>),
    Ended(Rejection),
}

#[derive(Debug)]
struct Up {
    welcome: Welcome,
    since: Duration,
    /// When anything was heard last.
    heard: Duration,
    /// When it last answered a question or had none to answer.
    progressed: Duration,
    pinged: bool,
    /// It answered a request.
    useful: bool,
}

/// The life of the connection. See the module.
#[derive(Debug)]
pub struct Link {
    options: Options,
    state: State,
    server: usize,
    /// Attempts in a row that led to no lasting connection.
    failures: u32,
    random: u64,
}

impl Link {
    /// No connection yet; `seed` makes the jitter and chooses the first server.
    pub fn new(options: Options, seed: u64, now: Duration) -> Link {
        let server = (seed % options.servers.len().max(1) as u64) as usize;
        Link { options, state: State::Waiting { until: now }, server, failures: 0, random: seed }
    }

    /// What to do at `now`. A [`Step::Dial`] is given once.
    pub fn step(&mut self, now: Duration) -> Step {
        match &self.state {
            State::Waiting { until } if *until <= now => {
                self.state = State::Dialing;
                Step::Dial(self.server, self.patience())
            }
            State::Waiting { until } => Step::WaitUntil(*until),
            State::Dialing | State::Up(_) => Step::Stay,
            State::Ended(_) => Step::End,
        }
    }

    /// The server said welcome.
    pub fn up(&mut self, welcome: Welcome, now: Duration) {
        if !matches!(self.state, State::Ended(_)) {
            let up = Up {
                welcome,
                since: now,
                heard: now,
                progressed: now,
                pinged: false,
                useful: false,
            };
            self.state = State::Up(Box::new(up));
        }
    }

    /// The connection is gone, or was not to be had: the next server, after a pause. Returns the
    /// pause; `None`: the link has ended.
    pub fn lost(&mut self, now: Duration) -> Option<Duration> {
        match &self.state {
            State::Ended(_) => return None,
            State::Up(up) if up.useful && now.saturating_sub(up.since) >= PROVEN_AFTER => {
                self.failures = 0;
            }
            _ => {}
        }
        let servers = self.options.servers.len().max(1);
        self.server = (self.server + 1) % servers;
        let pause = self.pause(self.failures / servers as u32);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting { until: now + pause };
        Some(pause)
    }

    /// Whether a refusal of this client holds for every server.
    pub fn is_final(rejection: &Rejection) -> bool {
        matches!(rejection.code, Code::Unauthorized | Code::WrongCluster | Code::VersionMismatch)
    }

    /// No connection any more.
    pub fn end(&mut self, rejection: Rejection) {
        self.state = State::Ended(rejection);
    }

    /// Why there is no connection any more.
    pub fn ended(&self) -> Option<&Rejection> {
        match &self.state {
            State::Ended(rejection) => Some(rejection),
            _ => None,
        }
    }

    /// The server that is connected.
    pub fn welcome(&self) -> Option<&Welcome> {
        match &self.state {
            State::Up(up) => Some(&up.welcome),
            _ => None,
        }
    }

    /// A message came; `progress`: one that a server which serves nobody would not send.
    pub fn heard(&mut self, progress: bool, now: Duration) {
        if let State::Up(up) = &mut self.state {
            up.heard = now;
            up.pinged = false;
            if progress {
                up.progressed = now;
                up.useful = true;
            }
        }
    }

    /// Whether to ask for a sign of life now; true once per silence.
    pub fn ping(&mut self, now: Duration) -> bool {
        match &mut self.state {
            State::Up(up) if !up.pinged && now >= up.heard + self.options.ping_after => {
                up.pinged = true;
                true
            }
            _ => false,
        }
    }

    /// Whether the server should be left: silent, or owing answers for too long. `owing` says
    /// whether it owes any.
    pub fn stuck(&mut self, owing: bool, now: Duration) -> Option<&'static str> {
        let Options { silence_timeout, answer_timeout, .. } = self.options;
        let State::Up(up) = &mut self.state else { return None };
        if !owing {
            up.progressed = now;
        }
        if now >= up.heard + silence_timeout {
            return Some("the server is silent");
        }
        (now >= up.progressed + answer_timeout).then_some("the server leaves requests unanswered")
    }

    /// When [`Self::ping`] or [`Self::stuck`] may have something to say.
    pub fn wake_at(&self, owing: bool) -> Option<Duration> {
        let State::Up(up) = &self.state else { return None };
        let Options { ping_after, silence_timeout, answer_timeout, .. } = self.options;
        let silence = up.heard + if up.pinged { silence_timeout } else { ping_after };
        Some(if owing { silence.min(up.progressed + answer_timeout) } else { silence })
    }

    /// How long the server may take to say welcome. At first not long, where there are others: one
    /// that hangs accepts connections all the same. Longer once all have been tried.
    fn patience(&self) -> Duration {
        let servers = self.options.servers.len().max(1);
        let most = self.options.handshake_timeout;
        if servers == 1 {
            return most;
        }
        let rounds = (self.failures / servers as u32).min(8);
        most.min(FIRST_PATIENCE * (1 << rounds))
    }

    /// A jittered pause before attempt number `attempt`.
    pub fn pause(&mut self, attempt: u32) -> Duration {
        // SplitMix64: good enough for jitter, and reproducible.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.options.backoff.pause(attempt, mixed ^ (mixed >> 31))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Backoff;
    use crate::types::{ClusterId, NodeId};

    const MS: Duration = Duration::from_millis(1);

    fn welcome() -> Welcome {
        Welcome {
            version: 1,
            cluster: ClusterId(1),
            node: NodeId(1),
            incarnation: 1,
            leader: true,
            event_bytes_max: 1,
            lane_in_flight_max: 1,
            newest: 1,
        }
    }

    /// Connections that each last `ms` and are told `progress` when half of that is over; the
    /// longest pause between them.
    fn longest_pause(ms: u32, progress: bool) -> Duration {
        let mut now = Duration::ZERO;
        let mut link = Link::new(Options::new(["a", "b"]), 1, now);
        let mut longest = Duration::ZERO;
        for _ in 0..30 {
            assert!(matches!(link.step(now), Step::Dial(..)));
            link.up(welcome(), now);
            link.heard(progress, now + MS * ms / 2);
            now += MS * ms;
            let pause = link.lost(now).unwrap();
            longest = longest.max(pause);
            now += pause;
        }
        longest
    }

    /// How long each of so many attempts in a row may take, in milliseconds.
    fn patience(servers: &[&str], attempts: usize) -> Vec<u128> {
        let mut now = Duration::ZERO;
        let mut link = Link::new(Options::new(servers.iter().copied()), 1, now);
        let attempt = |_| {
            let Step::Dial(_, within) = link.step(now) else { panic!("it does not dial") };
            now += link.lost(now).unwrap();
            within.as_millis()
        };
        (0..attempts).map(attempt).collect()
    }

    #[test]
    fn a_server_that_hangs_does_not_hold_up_the_others() {
        assert_eq!(patience(&["a", "b"], 8), [300, 300, 600, 600, 1200, 1200, 2000, 2000]);
        assert_eq!(patience(&["a"], 2), [2000, 2000], "there is no other");
    }

    #[test]
    fn pauses_grow_unless_a_server_was_of_use() {
        let Backoff { initial, max } = Options::new(["a"]).backoff;
        assert!(longest_pause(1, true) > max / 2, "too short to tell");
        assert!(longest_pause(500, false) > max / 2, "it served nothing");
        assert!(longest_pause(20, true) <= initial);
    }
}
