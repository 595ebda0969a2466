//! The sans-I/O core: what a client says in, effects out.

use std::collections::{BTreeMap, BTreeSet};

use super::consumers::Consumer;
use super::lane::Lane;
use super::sources::Source;
use super::suppliers::Suppliers;
use super::view::View;
use crate::delivery::{Request, SessionId};
use crate::machine::{Command, Reply};
use crate::types::{ChannelId, Code, LaneId, Name, Rejection, Tenure, limits};
use crate::wire::{Attach, ClientMessage, Failed, Goodbye, Pong, ServerMessage};

/// One client's conversation. See the module.
#[derive(Debug)]
pub struct Session {
    pub(super) id: SessionId,
    pub(super) tenure: Tenure,
    pub(super) event_bytes_max: usize,
    pub(super) lanes: BTreeMap<LaneId, Lane>,
    /// Lanes that may have answers to hand out.
    pub(super) answered: BTreeSet<LaneId>,
    /// Lanes that are polled.
    pub(super) sources: BTreeMap<LaneId, Source>,
    pub(super) suppliers: Suppliers,
    pub(super) consumers: BTreeMap<u32, Consumer>,
    /// Bytes of publishes that wait for their answer.
    pub(super) publish_bytes: usize,
    /// Requests on their way through the log, publishes aside.
    pub(super) requests: usize,
    effects: Vec<Effect>,
    closed: bool,
}

/// What the shell is to do, in this order.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Propose the command and hand its reply to [`Session::on_reply`] with `pending`.
    Propose { command: Command, pending: Pending },
    /// Ask the delivery task.
    Ask(Request),
    /// Tell the client.
    Send(ServerMessage),
    /// Tell the client why, and end the session. Nothing follows.
    Close(Rejection),
}

/// What a reply is the reply to.
#[derive(Debug, Clone, PartialEq)]
pub enum Pending {
    OpenLane { request: u32, channel: ChannelId, best_effort: bool },
    Publish { lane: LaneId, epoch: u32, ticket: u64, bytes: usize },
    Skip { request: u32 },
    Attach { attach: Box<Attach>, channel: ChannelId },
}

impl Session {
    /// A conversation that begins in this tenure. `event_bytes_max`: the largest event taken.
    /// `suppliers` is told which lanes it has open.
    pub fn new(
        id: SessionId,
        tenure: Tenure,
        event_bytes_max: usize,
        suppliers: Suppliers,
    ) -> Session {
        Session {
            id,
            tenure,
            event_bytes_max,
            lanes: BTreeMap::new(),
            answered: BTreeSet::new(),
            sources: BTreeMap::new(),
            suppliers,
            consumers: BTreeMap::new(),
            publish_bytes: 0,
            requests: 0,
            effects: Vec::new(),
            closed: false,
        }
    }

    /// The client said something.
    pub fn on_message(&mut self, message: ClientMessage, view: &impl View) {
        match message {
            ClientMessage::OpenLane(open) => self.open_lane(open, view),
            ClientMessage::Publish(publish) => self.publish(publish),
            ClientMessage::Skip(skip) => self.skip(skip),
            ClientMessage::Serve(serve) => self.serve_source(serve),
            ClientMessage::Polled(polled) => self.polled(polled),
            ClientMessage::Attach(attach) => self.attach(attach, view),
            ClientMessage::Credit(credit) => self.credit(credit),
            ClientMessage::Pull(pull) => self.pull(pull),
            ClientMessage::Settle(settle) => self.settle(settle),
            ClientMessage::Detach(detach) => self.detach(detach.consumer),
            ClientMessage::Ping(ping) => self.send(Pong { nonce: ping.nonce }),
        }
    }

    /// A proposed command came to its end: applied, or an error of the way there.
    pub fn on_reply(
        &mut self,
        pending: Pending,
        outcome: Result<Reply, Rejection>,
        view: &impl View,
    ) {
        let reply = match outcome {
            Ok(Reply::Rejected(rejection)) => Err(rejection),
            other => other,
        };
        self.release(&pending);
        if let Err(rejection) = &reply
            && ends_session(rejection.code)
        {
            return self.close(rejection.clone());
        }
        match pending {
            Pending::OpenLane { request, channel, best_effort } => {
                self.lane_opened(request, (channel, best_effort), reply, view);
            }
            Pending::Publish { lane, epoch, ticket, .. } => {
                self.published(lane, epoch, ticket, reply);
            }
            Pending::Skip { request } => self.skipped(request, reply),
            Pending::Attach { attach, channel } => {
                self.proxy_ready(*attach, channel, reply, view);
            }
        }
    }

    /// Delivery ended a consumer; the client has been or will be told.
    pub fn on_consumer_closed(&mut self, consumer: u32) {
        self.consumers.remove(&consumer);
    }

    /// Ends the session after what was said so far.
    pub fn close(&mut self, reason: Rejection) {
        if !self.closed {
            self.collect_answers();
            self.closed = true;
            self.effects.push(Effect::Close(reason));
        }
    }

    /// Everything to be done since the last call. The answers of a lane that came meanwhile are
    /// joined.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        self.collect_answers();
        std::mem::take(&mut self.effects)
    }

    /// Bytes of publishes on their way.
    pub fn publish_bytes(&self) -> usize {
        self.publish_bytes
    }

    /// Other requests on their way through the log.
    pub fn requests(&self) -> usize {
        self.requests
    }

    /// Which session this is.
    pub fn id(&self) -> SessionId {
        self.id
    }

    fn release(&mut self, pending: &Pending) {
        match pending {
            Pending::Publish { bytes, .. } => self.publish_bytes -= bytes,
            _ => self.requests -= 1,
        }
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        if !self.closed {
            self.effects.push(effect);
        }
    }

    pub(super) fn propose(&mut self, command: Command, pending: Pending) {
        if self.closed {
            return;
        }
        match &pending {
            Pending::Publish { bytes, .. } => self.publish_bytes += bytes,
            _ => self.requests += 1,
        }
        self.effects.push(Effect::Propose { command, pending });
    }

    pub(super) fn send(&mut self, message: impl Into<ServerMessage>) {
        self.effect(Effect::Send(message.into()));
    }

    pub(super) fn fail(&mut self, request: u32, rejection: Rejection) {
        self.send(Failed { request, rejection });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.suppliers.left(self.id, self.lanes.keys());
    }
}

/// The last words of a session.
pub(super) fn goodbye(reason: Rejection) -> ServerMessage {
    Goodbye { reason }.into()
}

/// Refusals after which the client must resume elsewhere: it cannot know what took effect, or
/// nothing more can. Want of disk space is none: consumers on the same connection go on.
fn ends_session(code: Code) -> bool {
    matches!(code, Code::NoLeader | Code::TenureLost | Code::ShuttingDown | Code::Quarantined)
}

/// A reply of another kind than the command's: a fault of ours, answered rather than hidden.
pub(super) fn unexpected(reply: &Reply) -> Rejection {
    Rejection::new(Code::BadRequest, format!("the command had an unexpected reply: {reply:?}"))
        .hint("this is a fault of the server; please report it")
}

pub(super) fn unknown_channel(name: &Name) -> Rejection {
    Rejection::new(Code::UnknownChannel, format!("there is no channel '{name}'")).hint(
        match name.as_str().ends_with(limits::DEAD_LETTER_SUFFIX) {
            true => "it makes itself when the first dead letter comes".to_string(),
            false => {
                format!("create it with 'aqueduct channel create {name}', or check the spelling")
            }
        },
    )
}
