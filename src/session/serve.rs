//! The shell around [`Session`]: one task per client.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::conversation::{Effect, Pending, Session, goodbye};
use super::suppliers::Suppliers;
use super::view::{ChannelView, ProxyView, View};
use super::writer::Writer;
use crate::delivery::{Cluster, Handle, Outbox};
use crate::env::{Runtime, Watch};
use crate::machine::Reply;
use crate::transport::{Frame, FrameError, FrameReader, FrameWriter};
use crate::types::{ChannelId, Code, LaneId, Name, Rejection, Seq, Supply, Tenure, limits};
use crate::wire::ClientMessage;

/// Submissions of sessions are told from those of delivery, which go by proxy, by this bit.
const SOURCE_BIT: u64 = 1 << 63;
/// Frames taken from the read buffer before their effects are carried out.
const BURST_FRAMES: usize = 64;

/// What all sessions of a node share.
#[derive(Clone)]
pub struct Options<C, E> {
    pub cluster: C,
    pub delivery: Handle,
    /// Told which lanes are open.
    pub suppliers: Suppliers,
    pub env: E,
    /// Largest event taken, in bytes.
    pub event_bytes_max: usize,
    /// Turns true when the node stops.
    pub shutdown: Watch<bool>,
}

/// How a session ended.
#[derive(Debug)]
pub enum End {
    /// The client went, or its connection broke.
    PeerGone,
    /// What came was no frame.
    Broken(FrameError),
    /// The client did not read, for too long or too much.
    Stalled,
    /// This side ended it and told the client why.
    Closed(Rejection),
}

/// Serves one client, whose handshake is done, until either side ends it.
pub async fn serve<R, W, C, E>(
    reader: FrameReader<R>,
    frames: FrameWriter<W>,
    options: Options<C, E>,
) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    C: Cluster,
    E: Runtime,
{
    let Options { cluster, delivery, suppliers, env, event_bytes_max, shutdown } = options;
    let outbox = Outbox::default();
    let connection = delivery.connect(outbox.clone());
    let mut writer = Writer {
        frames,
        outbox: outbox.clone(),
        cluster: cluster.clone(),
        delivery: delivery.clone(),
        session: connection.id(),
        env: env.clone(),
        unreadable: BTreeSet::new(),
    };
    let mut write = pin!(writer.run());
    let end = match cluster.tenure() {
        Some(tenure) => {
            let session = Session::new(connection.id(), tenure, event_bytes_max, suppliers);
            let (replies_in, replies) = mpsc::unbounded_channel();
            let talk = Talk {
                session,
                reader,
                outbox: outbox.clone(),
                cluster,
                delivery,
                env: env.clone(),
                replies_in,
                replies,
            };
            tokio::select! { biased;
                end = &mut write => end,
                end = talk.run(tenure, shutdown) => end,
            }
        }
        None => End::Closed(cluster.not_serving()),
    };
    if let End::Closed(reason) = &end {
        outbox.send(goodbye(reason.clone()));
        outbox.finish();
        let patience = env.sleep(Duration::from_millis(limits::SESSION_FAREWELL_MS));
        tokio::select! { biased; _ = write => {}, () = patience => {} }
    }
    connection.leave().await;
    end
}

/// The listening half.
struct Talk<R, C, E> {
    session: Session,
    reader: FrameReader<R>,
    outbox: Outbox,
    cluster: C,
    delivery: Handle,
    env: E,
    replies_in: mpsc::UnboundedSender<Answer>,
    /// Bounded by what the session has in flight.
    replies: mpsc::UnboundedReceiver<Answer>,
}

type Answer = (Pending, Result<Reply, Rejection>);

impl<R: AsyncRead + Unpin, C: Cluster, E: Runtime> Talk<R, C, E> {
    async fn run(mut self, tenure: Tenure, mut shutdown: Watch<bool>) -> End {
        let cluster = self.cluster.clone();
        let mut stopping = pin!(shutdown.wait_for(|stop| *stop));
        let mut tenure_over = pin!(cluster.tenure_after(Some(tenure)));
        // Whoever comes here may have had acks confirmed elsewhere: a leader that was replaced
        // without hearing of it would deliver those events again.
        let confirmed = tokio::select! { biased;
            _ = &mut tenure_over => Err(cluster.not_serving()),
            confirmed = cluster.confirm() => confirmed,
        };
        if let Err(rejection) = confirmed {
            return End::Closed(rejection);
        }
        loop {
            let poll_pause = self.poll_sources();
            if let Some(end) = self.carry_out().await {
                return end;
            }
            let may_read = self.may_read();
            tokio::select! { biased;
                stop = &mut stopping => {
                    // The writer of the flag being gone is a stop, too.
                    let _ = stop;
                    self.session.close(shutting_down());
                }
                _ = &mut tenure_over => self.session.close(self.cluster.not_serving()),
                reply = self.replies.recv() => self.hear_replies(reply),
                frame = self.reader.read(), if may_read => match frame {
                    Ok(Some(frame)) => self.hear_frames(frame),
                    Ok(None) | Err(FrameError::Io(_) | FrameError::Truncated { .. }) => {
                        return End::PeerGone;
                    }
                    Err(error) => self.session.close(bad_frame(&error)),
                },
                () = self.outbox.emptied(), if !may_read => {}
                () = self.env.sleep(poll_pause.unwrap_or_default()), if poll_pause.is_some() => {}
            }
        }
    }

    /// Polls the sources that are due; how long until the next one is.
    fn poll_sources(&mut self) -> Option<Duration> {
        self.session.next_poll()?;
        let now = self.env.monotonic();
        if self.may_read() {
            let view = Look { cluster: &self.cluster, delivery: &self.delivery };
            self.session.poll_sources(now, &view);
        }
        let retry = Duration::from_millis(limits::POLL_RETRY_MS);
        let pause = |at: Duration| if at > now { at - now } else { retry };
        self.session.next_poll().map(pause)
    }

    /// Whether the client may have more on its way.
    fn may_read(&self) -> bool {
        self.session.publish_bytes() < limits::SESSION_PUBLISH_BYTES_MAX
            && self.session.requests() < limits::SESSION_FRAMES_MAX / 2
            && !self.outbox.is_crowded()
    }

    fn hear_replies(&mut self, first: Option<Answer>) {
        let view = Look { cluster: &self.cluster, delivery: &self.delivery };
        let mut next = first;
        while let Some((pending, outcome)) = next {
            self.session.on_reply(pending, outcome, &view);
            next = self.replies.try_recv().ok();
        }
    }

    /// Takes a frame, and those behind it that have arrived already.
    fn hear_frames(&mut self, first: Frame) {
        for consumer in self.outbox.take_closed() {
            self.session.on_consumer_closed(consumer);
        }
        self.hear(first);
        for _ in 1..BURST_FRAMES {
            if !self.may_read() {
                return;
            }
            match self.reader.buffered() {
                Ok(Some(frame)) => self.hear(frame),
                Ok(None) => return,
                Err(error) => return self.session.close(bad_frame(&error)),
            }
        }
    }

    fn hear(&mut self, frame: Frame) {
        let view = Look { cluster: &self.cluster, delivery: &self.delivery };
        match ClientMessage::decode(frame.kind, frame.body) {
            Ok(message) => self.session.on_message(message, &view),
            Err(error) => self.session.close(error.into()),
        }
    }

    async fn carry_out(&mut self) -> Option<End> {
        for effect in self.session.take_effects() {
            match effect {
                Effect::Propose { command, pending } => {
                    let replies = self.replies_in.clone();
                    let done = move |outcome| {
                        // The session may have ended meanwhile.
                        let _ = replies.send((pending, outcome));
                    };
                    let source = SOURCE_BIT | self.session.id().0;
                    self.cluster.submit(source, command, Box::new(done));
                }
                Effect::Ask(request) => {
                    if request.is_confirmed() {
                        self.outbox.expect_confirmation();
                    }
                    self.delivery.ask(request).await;
                }
                Effect::Send(message) => self.outbox.send(message),
                Effect::Close(reason) => return Some(End::Closed(reason)),
            }
        }
        self.outbox.overflowed().then_some(End::Stalled)
    }
}

fn shutting_down() -> Rejection {
    Rejection::new(Code::ShuttingDown, "the node is stopping").hint("use another node")
}

fn bad_frame(error: &FrameError) -> Rejection {
    Rejection::new(Code::BadRequest, error.to_string())
}

/// Looks only when asked: most messages need nothing of the machine.
struct Look<'a, C> {
    cluster: &'a C,
    delivery: &'a Handle,
}

impl<C: Cluster> View for Look<'_, C> {
    fn channel(&self, name: &Name) -> Option<ChannelView> {
        self.cluster.read(|machine| View::channel(machine, name))
    }

    fn first_seq(&self, channel: ChannelId) -> Seq {
        self.cluster.see(|world| View::first_seq(world.of(channel), channel))
    }

    fn next_seq(&self, channel: ChannelId) -> Seq {
        self.cluster.see(|world| View::next_seq(world.of(channel), channel))
    }

    fn retained_from(&self, channel: ChannelId, from: Seq) -> Seq {
        self.cluster.see(|world| View::retained_from(world.of(channel), channel, from))
    }

    fn retained_since(&self, channel: ChannelId, ms: u64) -> Seq {
        self.cluster.see(|world| View::retained_since(world.of(channel), channel, ms))
    }

    fn proxy(&self, channel: ChannelId, name: &Name) -> Option<ProxyView> {
        self.cluster.read(|machine| View::proxy(machine, channel, name))
    }

    fn supply(&self, lane: LaneId) -> Result<Supply, Rejection> {
        let supply = self.cluster.see(|world| View::supply(world.of_lane(lane), lane))?;
        match self.cluster.is_congested() {
            true => Err(Rejection::new(Code::Overloaded, "the queue to the log is long")),
            false => Ok(supply),
        }
    }

    fn has_interest(&self, channel: ChannelId) -> bool {
        self.delivery.has_subscribers(channel)
            || self.cluster.read(|machine| View::has_interest(machine, channel))
    }
}
