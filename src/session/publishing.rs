//! Lanes and publishes.

use super::conversation::{Effect, Pending, Session, unexpected, unknown_channel};
use super::lane::Lane;
use super::view::{ChannelView, View};
use crate::machine::{Command, LaneTarget, Publish, PublishRun, Published, Reply};
use crate::planted::{Bug, planted};
use crate::types::{ChannelId, Code, LaneId, Rejection, limits};
use crate::wire::{self, AckRun, Done, EventsBlock, LaneOpened, PublishAck, WireError};

impl Session {
    pub(super) fn open_lane(&mut self, open: wire::OpenLane, view: &impl View) {
        let Some(channel) = view.channel(&open.channel) else {
            return self.fail(open.request, unknown_channel(&open.channel));
        };
        if channel.is_dead_letters {
            let message = format!("'{}' takes no publishes: it is for dead letters", open.channel);
            return self.fail(open.request, Rejection::new(Code::NotAllowed, message));
        }
        if self.lanes.len() + self.requests >= limits::LANES_PER_SESSION_MAX {
            let message = format!("{} lanes are open on this connection", self.lanes.len());
            let rejection = Rejection::new(Code::TooManyLanes, message)
                .hint("publish on a lane that is open, or open another connection");
            return self.fail(open.request, rejection);
        }
        let target = match open.target {
            wire::LaneTarget::Fresh => LaneTarget::Fresh,
            wire::LaneTarget::Named(name) => LaneTarget::Named(name),
            wire::LaneTarget::Existing(lane) => LaneTarget::Existing(lane),
        };
        let ChannelView { id: channel, best_effort, .. } = channel;
        let pending = Pending::OpenLane { request: open.request, channel, best_effort };
        let (opener, admin) = (open.opener, open.admin);
        self.propose(Command::OpenLane { channel, target, opener, admin }, pending);
    }

    pub(super) fn lane_opened(
        &mut self,
        request: u32,
        (channel, best_effort): (ChannelId, bool),
        reply: Result<Reply, Rejection>,
        view: &impl View,
    ) {
        match reply {
            Ok(Reply::LaneOpened { lane, epoch, held_since, last_sequence }) => {
                // Another user of this client may have had the lane: what is known of its
                // publishes it still hears, and nothing after it has lost the lane.
                self.collect_answers();
                self.lanes.insert(lane, Lane::new(lane, channel, epoch));
                self.sources.remove(&lane);
                self.suppliers.connected(lane, self.id);
                let channel_interest = view.has_interest(channel);
                self.send(LaneOpened {
                    request,
                    lane,
                    epoch,
                    held_since,
                    last_sequence,
                    channel_interest,
                    best_effort,
                });
            }
            Ok(other) => self.fail(request, unexpected(&other)),
            Err(rejection) => self.fail(request, rejection),
        }
    }

    pub(super) fn publish(&mut self, publish: wire::Publish) {
        let id = publish.lane;
        let event_bytes_max = self.event_bytes_max;
        let Some(lane) = self.lanes.get_mut(&id) else {
            return self.send(refusal(id, publish.epoch, lane_not_open(id)));
        };
        if publish.epoch != lane.epoch {
            // Not in the order of the lane's answers: those go to another user.
            let rejection = fenced(lane, publish.epoch);
            return self.send(refusal(id, publish.epoch, rejection));
        }
        let bytes = publish.events.len();
        match check(&publish, lane, event_bytes_max) {
            Ok(publish) => {
                let ticket = lane.admit(publish.count as usize);
                let pending = Pending::Publish { lane: id, epoch: publish.epoch, ticket, bytes };
                if planted(Bug::AckBeforeCommit) {
                    lane.answer(ticket, somewhere(&publish));
                    self.answered.insert(id);
                }
                self.propose(Command::Publish(publish), pending);
            }
            Err(Fault::Refused(rejection)) => {
                lane.refuse(rejection);
                self.answered.insert(id);
            }
            Err(Fault::Violation(rejection)) => self.close(rejection),
        }
    }

    pub(super) fn published(
        &mut self,
        id: LaneId,
        epoch: u32,
        ticket: u64,
        reply: Result<Reply, Rejection>,
    ) {
        let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.epoch == epoch) else { return };
        let answer = match reply {
            Ok(Reply::Published(published)) => published,
            Ok(other) => Published { runs: Vec::new(), refused: Some(unexpected(&other)) },
            Err(rejection) => Published { runs: Vec::new(), refused: Some(rejection) },
        };
        lane.answer(ticket, answer);
        self.answered.insert(id);
    }

    pub(super) fn skip(&mut self, skip: wire::Skip) {
        let wire::Skip { request, lane, epoch, through } = skip;
        if !self.lanes.contains_key(&lane) {
            return self.fail(request, lane_not_open(lane));
        }
        self.propose(Command::SkipSequences { lane, epoch, through }, Pending::Skip { request });
    }

    pub(super) fn skipped(&mut self, request: u32, reply: Result<Reply, Rejection>) {
        match reply {
            Ok(_) => self.send(Done { request }),
            Err(rejection) => self.fail(request, rejection),
        }
    }

    /// Refused unless the client has this lane open in this epoch.
    pub(super) fn user_of(&self, id: LaneId, epoch: u32) -> Result<(), Rejection> {
        let lane = self.lanes.get(&id).ok_or_else(|| lane_not_open(id))?;
        if lane.epoch == epoch { Ok(()) } else { Err(fenced(lane, epoch)) }
    }

    /// Turns the answers that may leave into messages.
    pub(super) fn collect_answers(&mut self) {
        while let Some(id) = self.answered.pop_first() {
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            let epoch = lane.epoch;
            let answers: Vec<_> = std::iter::from_fn(|| lane.take_answer()).collect();
            for answer in answers {
                self.effect(Effect::Send(ack(id, epoch, answer).into()));
            }
        }
    }
}

/// Why a publish is not proposed.
enum Fault {
    /// The lane goes on.
    Refused(Rejection),
    /// The client does not keep to the protocol.
    Violation(Rejection),
}

fn check(publish: &wire::Publish, lane: &Lane, event_bytes_max: usize) -> Result<Publish, Fault> {
    let wire::Publish { epoch, first_sequence, count, .. } = *publish;
    let block = EventsBlock::check(publish.events.clone(), count, event_bytes_max);
    let block = block.map_err(|error| match error {
        WireError::Event { .. } => Fault::Refused(error.into()),
        _ => Fault::Violation(error.into()),
    })?;
    if first_sequence == 0 || first_sequence.checked_add(u64::from(count)).is_none() {
        let message = format!("a publish cannot begin at lane sequence {first_sequence}");
        let hint = "lane sequences count from 1";
        return Err(Fault::Violation(Rejection::new(Code::BadRequest, message).hint(hint)));
    }
    if !lane.has_room(count as usize) {
        let max = limits::LANE_IN_FLIGHT_MAX;
        let message = format!("lane {} has {max} events in flight, as many as it may", lane.id);
        let rejection = Rejection::new(Code::Overloaded, message);
        let rejection = rejection.hint("wait for answers, then resend");
        return Err(match lane.is_flooded() {
            true => Fault::Violation(rejection),
            false => Fault::Refused(rejection),
        });
    }
    let (lane, channel) = (lane.id, lane.channel);
    Ok(Publish { channel, lane, epoch, first_sequence, count, events: block.into_bytes() })
}

/// All of these are accepted; where, is not known (yet).
fn somewhere(publish: &Publish) -> Published {
    let Publish { first_sequence, count, .. } = *publish;
    let run = PublishRun { first_sequence, count, first_seq: 0, duplicate: false };
    Published { runs: vec![run], refused: None }
}

fn lane_not_open(lane: LaneId) -> Rejection {
    Rejection::new(Code::UnknownLane, format!("lane {lane} is not open on this connection"))
        .hint("open it first")
}

fn fenced(lane: &Lane, epoch: u32) -> Rejection {
    let message = format!("lane {} is at epoch {}, not {epoch}", lane.id, lane.epoch);
    let hint = "open the lane again, and publish with the epoch of the answer";
    Rejection::new(Code::LaneFenced, message).hint(hint)
}

fn refusal(lane: LaneId, epoch: u32, rejection: Rejection) -> PublishAck {
    PublishAck { lane, epoch, runs: Vec::new(), refused: Some(rejection) }
}

fn ack(lane: LaneId, epoch: u32, answer: Published) -> PublishAck {
    let run = |r: crate::machine::PublishRun| AckRun {
        first_sequence: r.first_sequence,
        count: r.count,
        first_seq: r.first_seq,
        duplicate: r.duplicate,
    };
    let (runs, refused) = (answer.runs.into_iter().map(run).collect(), answer.refused);
    PublishAck { lane, epoch, runs, refused }
}
