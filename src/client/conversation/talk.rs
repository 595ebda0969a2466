//! What is said on a connection, and what is made of the answers.

use std::time::Duration;

use super::lane::{Lane, Say};
use super::{Asked, Conversation, Key, LaneIdentity};
use crate::client::ConnectionEvent;
use crate::types::{Code, Rejection};
use crate::wire::{
    Attach, Attached, ClientMessage, Closed, Deliver, Failed, Gap, LaneOpened, OpenLane,
    POLLS_SINCE, Poll, Polled, Publish, PublishAck, PullDone, Serve, ServerMessage,
    SettleConfirmed, Skip,
};

/// Why a message makes no sense.
type Nonsense = &'static str;

impl Conversation {
    /// The next message to send on the present connection. Call until `None`, or until enough is
    /// on its way to the socket.
    pub fn transmit(&mut self, now: Duration) -> Option<ClientMessage> {
        let event_bytes_max = u64::from(self.welcome()?.event_bytes_max);
        if let Some(message) = self.ready.pop_front() {
            return Some(message);
        }
        self.say_settle(now)
            .or_else(|| self.say_open(now))
            .or_else(|| self.say_consumer(now, event_bytes_max))
            .or_else(|| self.say_publish(now))
    }

    fn request(&mut self, asked: Asked) -> u32 {
        self.last_request = self.last_request.wrapping_add(1);
        self.asked.insert(self.last_request, asked);
        self.last_request
    }

    /// Verdicts go first: what is settled need not be delivered again.
    fn say_settle(&mut self, now: Duration) -> Option<ClientMessage> {
        let consumers = self.consumers.values_mut().map(|consumer| &mut consumer.settling);
        let mut all = consumers.chain(self.tokens.values_mut());
        all.find_map(|settling| settling.say(now, &mut self.last_batch)).map(Into::into)
    }

    fn say_open(&mut self, now: Duration) -> Option<ClientMessage> {
        loop {
            let due = |(_, at): &(&Key, &Duration)| **at <= now;
            let key = *self.lanes_to_ask.iter().find(due)?.0;
            self.lanes_to_ask.remove(&key);
            let Some(lane) = self.lanes.get(&key) else { continue };
            let Some(target) = lane.ask() else { continue };
            let (channel, admin) = (lane.channel().clone(), lane.admin());
            self.opener.attempt += 1;
            let opener = self.opener;
            let request = self.request(Asked::Lane(key));
            return Some(OpenLane { request, channel, target, opener, admin }.into());
        }
    }

    fn say_consumer(&mut self, now: Duration, event_bytes_max: u64) -> Option<ClientMessage> {
        let request = self.last_request.wrapping_add(1);
        for (&key, consumer) in &mut self.consumers {
            if let Some((channel, target, mode)) = consumer.attach(now) {
                self.request(Asked::Attach(key));
                let (consumer, client) = (key.0, self.opener.client);
                return Some(Attach { request, consumer, channel, target, mode, client }.into());
            }
            if let Some(pull) = consumer.pull(request, key.0, now) {
                self.request(Asked::Pull(key));
                return Some(pull.into());
            }
            if let Some(credit) = consumer.credit(key.0, event_bytes_max) {
                return Some(credit.into());
            }
        }
        None
    }

    /// Lanes take turns.
    fn say_publish(&mut self, now: Duration) -> Option<ClientMessage> {
        let later = self.lanes.range(Key(self.last_lane.0 + 1)..).map(|(&key, _)| key);
        let earlier = self.lanes.range(..=self.last_lane).map(|(&key, _)| key);
        let turns: Vec<Key> = later.chain(earlier).collect();
        for key in turns {
            let source = self.lanes.get_mut(&key).and_then(Lane::tell_of_source);
            let version = self.link.welcome().map_or(0, |welcome| welcome.version);
            if source.is_some() && version < POLLS_SINCE {
                self.fail_lane(key, no_polls(version));
                continue;
            }
            if let Some(LaneIdentity { lane, epoch }) = source {
                let request = self.request(Asked::Serve(key));
                return Some(Serve { request, lane, epoch }.into());
            }
            let Some(said) = self.lanes.get_mut(&key).and_then(|lane| lane.say(now)) else {
                continue;
            };
            self.last_lane = key;
            return Some(match said {
                Say::Publish { identity: LaneIdentity { lane, epoch }, first_sequence, events } => {
                    Publish::new(lane, epoch, first_sequence, events).into()
                }
                Say::Skip { identity: LaneIdentity { lane, epoch }, through } => {
                    let request = self.request(Asked::Skip(key));
                    Skip { request, lane, epoch, through }.into()
                }
                Say::Polled { identity: LaneIdentity { lane, epoch }, poll, count } => {
                    Polled { lane, epoch, poll, count }.into()
                }
            });
        }
        None
    }

    /// A message came. A message that makes no sense ends the connection
    /// ([`Conversation::should_leave`]).
    pub fn message(&mut self, message: ServerMessage, now: Duration) {
        let progress = !matches!(message, ServerMessage::Pong(_) | ServerMessage::Goodbye(_));
        self.link.heard(progress, now);
        let heard = match message {
            ServerMessage::LaneOpened(answer) => self.lane_opened(answer),
            ServerMessage::PublishAck(answer) => self.publish_ack(answer, now),
            ServerMessage::Done(answer) => {
                self.asked.remove(&answer.request);
                Ok(())
            }
            ServerMessage::Failed(answer) => self.failed(answer, now),
            ServerMessage::Poll(poll) => {
                self.polled(poll);
                Ok(())
            }
            ServerMessage::Attached(answer) => self.attached(answer),
            ServerMessage::Deliver(delivered) => self.deliver(delivered),
            ServerMessage::PullDone(answer) => self.pull_done(answer, now),
            ServerMessage::SettleConfirmed(answer) => self.settle_confirmed(answer, now),
            ServerMessage::Closed(closed) => self.closed(closed, now),
            ServerMessage::Gap(gap) => self.gap(gap),
            ServerMessage::Goodbye(goodbye) => {
                self.leave = Some(goodbye.reason.to_string());
                Ok(())
            }
            ServerMessage::Pong(_) => Ok(()),
        };
        if let Err(nonsense) = heard {
            self.leave = Some(format!("the server makes no sense: {nonsense}"));
        }
        self.sweep();
    }

    fn lane_opened(&mut self, answer: LaneOpened) -> Result<(), Nonsense> {
        let asked = self.asked.remove(&answer.request);
        let Some(Asked::Lane(key)) = asked else { return Err("a lane opened unasked") };
        self.lane_refusals.remove(&key);
        for (&other, lane) in &mut self.lanes {
            if other != key && lane.overtaken(&answer) {
                self.news.insert(other);
            }
        }
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.opened(&answer);
            self.opened(key);
        }
        Ok(())
    }

    fn publish_ack(&mut self, answer: PublishAck, now: Duration) -> Result<(), Nonsense> {
        let PublishAck { lane, epoch, .. } = answer;
        let user = Some(LaneIdentity { lane, epoch });
        let mut users = self.lanes.iter_mut().filter(|(_, lane)| lane.failed().is_none());
        // Nobody waits for it who has left the lane, or lost it to another handle.
        let Some((&key, lane)) = users.find(|(_, lane)| lane.identity() == user) else {
            return Ok(());
        };
        self.news.insert(key);
        let code = answer.refused.as_ref().map(|rejection| rejection.code);
        let link = &mut self.link;
        lane.answered(&answer.runs, answer.refused, now, |attempt| link.pause(attempt))?;
        self.look_elsewhere(code);
        Ok(())
    }

    fn polled(&mut self, poll: Poll) {
        let user = Some(LaneIdentity { lane: poll.lane, epoch: poll.epoch });
        let asked = |(_, lane): &(&Key, &mut Lane)| lane.identity() == user;
        // The lane may have been left since.
        if let Some((&key, lane)) = self.lanes.iter_mut().find(asked) {
            lane.asked(poll.poll, poll.most);
            self.news.insert(key);
        }
    }

    /// A server that cannot serve is left for another.
    fn look_elsewhere(&mut self, code: Option<Code>) {
        if let Some(code @ (Code::NoLeader | Code::ShuttingDown | Code::Quarantined)) = code {
            self.leave.get_or_insert_with(|| format!("the server cannot serve ({code})"));
        }
    }

    fn failed(&mut self, answer: Failed, now: Duration) -> Result<(), Nonsense> {
        let Failed { request, rejection } = answer;
        let asked = self.asked.remove(&request).ok_or("a request failed that was never made")?;
        let code = rejection.code;
        let link = &mut self.link;
        match asked {
            Asked::Lane(key) => self.lane_refused(key, rejection, now),
            // The publishes after a skip are refused too, and say what is expected.
            Asked::Skip(_) => {}
            // The lane is gone, or was lost to somebody else.
            Asked::Serve(key) => self.fail_lane(key, rejection),
            Asked::Attach(key) => {
                if let Some(consumer) = self.consumers.get_mut(&key) {
                    consumer.refused(rejection, now, |attempt| link.pause(attempt));
                    self.news.insert(key);
                }
            }
            Asked::Pull(key) => {
                if let Some(consumer) = self.consumers.get_mut(&key) {
                    consumer.pull_refused(rejection, now, |attempt| link.pause(attempt));
                    self.news.insert(key);
                }
            }
        }
        self.look_elsewhere(Some(code));
        Ok(())
    }

    fn fail_lane(&mut self, key: Key, rejection: Rejection) {
        if let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.failed().is_none()) {
            lane.fail(rejection);
            self.news.insert(key);
        }
    }

    fn lane_refused(&mut self, key: Key, rejection: Rejection, now: Duration) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if rejection.code.retryable() {
            let refusals = self.lane_refusals.entry(key).or_default();
            let pause = self.link.pause(*refusals);
            *refusals = refusals.saturating_add(1);
            self.lanes_to_ask.insert(key, now + pause);
        } else {
            lane.fail(rejection);
            self.opened(key);
        }
    }

    fn attached(&mut self, answer: Attached) -> Result<(), Nonsense> {
        let asked = self.asked.remove(&answer.request);
        let Some(Asked::Attach(key)) = asked else { return Err("a consumer attached unasked") };
        if let Some(consumer) = self.consumers.get_mut(&key) {
            consumer.attached(&answer, &mut self.last_batch);
            self.opened(key);
        }
        Ok(())
    }

    fn deliver(&mut self, delivered: Deliver) -> Result<(), Nonsense> {
        let key = Key(delivered.consumer);
        // One that was just left may still get some.
        let Some(consumer) = self.consumers.get_mut(&key) else { return Ok(()) };
        consumer.deliver(delivered.events)?;
        self.news.insert(key);
        Ok(())
    }

    fn gap(&mut self, gap: Gap) -> Result<(), Nonsense> {
        let key = Key(gap.consumer);
        let Some(consumer) = self.consumers.get_mut(&key) else { return Ok(()) };
        consumer.gap(gap.missed);
        let channel = consumer.channel().clone();
        self.news.insert(key);
        self.event(ConnectionEvent::Gap { channel, missed: gap.missed });
        Ok(())
    }

    fn pull_done(&mut self, answer: PullDone, now: Duration) -> Result<(), Nonsense> {
        let asked = self.asked.remove(&answer.request);
        let Some(Asked::Pull(key)) = asked else { return Err("a pull ended that was not asked") };
        if let Some(consumer) = self.consumers.get_mut(&key) {
            consumer.pull_done(now);
            self.news.insert(key);
        }
        Ok(())
    }

    fn settle_confirmed(&mut self, answer: SettleConfirmed, now: Duration) -> Result<(), Nonsense> {
        let code = answer.refused.as_ref().map(|rejection| rejection.code);
        let batch = answer.batch;
        let link = &mut self.link;
        let consumers = self.consumers.iter_mut().map(|(key, c)| (*key, &mut c.settling));
        let tokens = self.tokens.iter_mut().map(|(key, settling)| (*key, settling));
        // A batch confirmed twice, or of a token given up, is nobody's.
        if let Some((key, settling)) =
            consumers.chain(tokens).find(|(_, settling)| settling.owns(batch))
        {
            settling.confirmed(answer, now, |attempt| link.pause(attempt));
            self.news.insert(key);
        }
        self.look_elsewhere(code);
        Ok(())
    }

    fn closed(&mut self, closed: Closed, now: Duration) -> Result<(), Nonsense> {
        let key = Key(closed.consumer);
        if self.leaving.remove(&key) {
            self.news.insert(key);
        }
        let (Some(consumer), Some(reason)) = (self.consumers.get_mut(&key), closed.reason) else {
            return Ok(());
        };
        let code = reason.code;
        let link = &mut self.link;
        consumer.refused(reason, now, |attempt| link.pause(attempt));
        self.news.insert(key);
        self.look_elsewhere(Some(code));
        Ok(())
    }
}

/// The cluster is not upgraded yet.
fn no_polls(version: u16) -> Rejection {
    let message = format!("the cluster speaks protocol {version}; it polls from {POLLS_SINCE} on");
    Rejection::new(Code::VersionMismatch, message)
        .hint("upgrade its nodes and lift their protocol_version_max, or push the events")
}
