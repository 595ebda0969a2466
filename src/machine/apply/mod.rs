//! Applying a batch: each command changes facts and is answered, in order.

mod define;
mod hold;
mod inactivity;
mod lanes;
mod letters;
mod publish;
mod quality;
mod settle;
mod subscribe;

use super::{Batch, Command, Machine, Reply};
use crate::types::{Code, PayloadKey, Rejection, Tenure};
use define::Wish;
use lanes::Opening;
pub(super) use lanes::unknown_lane;
pub(super) use publish::full;

/// Where in the log a command stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Index of the entry.
    index: u64,
    /// Place among its commands.
    command: u32,
    /// Place of the command's first event among the events of the entry.
    event: u32,
}

impl Place {
    fn payload_key(self) -> PayloadKey {
        PayloadKey { index: self.index, position: self.event }
    }
}

/// What a command comes to; an error is the refusal it is answered with.
type Answer = Result<Reply, Rejection>;

impl Machine {
    /// Applies the entry at `index`; one reply per command.
    ///
    /// A batch whose first command begins a tenure makes `index` the tenure. Any other batch that
    /// names another tenure than the current one is refused whole.
    pub fn apply(&mut self, index: u64, batch: &Batch) -> Vec<Reply> {
        self.applied = index;
        self.touched.clear();
        if matches!(batch.commands.first(), Some(Command::BeginTenure { .. })) {
            self.tenure = Tenure(index);
        } else if batch.tenure != self.tenure {
            let refusal = tenure_lost(batch.tenure, self.tenure);
            return batch.commands.iter().map(|_| Reply::Rejected(refusal.clone())).collect();
        }
        self.stamp = self.stamp.max(batch.stamp);
        let mut place = Place { index, command: 0, event: 0 };
        let mut replies = Vec::with_capacity(batch.commands.len());
        for command in &batch.commands {
            replies.push(self.step(place, command).unwrap_or_else(Reply::Rejected));
            place.command = place.command.saturating_add(1);
            if let Command::Publish(publish) = command {
                place.event = place.event.saturating_add(publish.count);
            }
        }
        replies
    }

    fn step(&mut self, place: Place, command: &Command) -> Answer {
        match command {
            Command::BeginTenure { .. } if place.command == 0 => {
                Ok(Reply::TenureBegun { tenure: self.tenure })
            }
            Command::BeginTenure { .. } => Err(Rejection::new(
                Code::BadRequest,
                "a tenure begins only with the first command of an entry",
            )),
            Command::CreateChannel { name, qos } => self.create_channel(name, qos),
            Command::DeleteChannel { channel } => self.delete_channel(*channel),
            Command::CreateProxy { channel, name, start, admin, qos, types } => {
                let wish = Wish { name, start: *start, admin: admin.as_ref(), qos, types };
                self.create_proxy(*channel, &wish)
            }
            Command::DeleteProxy { proxy } => self.delete_proxy(*proxy),
            Command::CreateAdmin { channel, side, name, qos, types } => {
                self.create_admin(*channel, *side, name, qos, types)
            }
            Command::DeleteAdmin { channel, side, name } => {
                self.delete_admin(*channel, *side, name)
            }
            Command::SetQos { target, changes } => self.set_qos(target, changes),
            Command::Suspend { target, suspended } => self.suspend(target, *suspended),
            Command::OpenLane { channel, target, opener, admin } => {
                let asked = Opening { target, opener: *opener, admin: admin.as_ref() };
                self.open_lane(place, *channel, &asked)
            }
            Command::ExpireLanes { lanes } => self.expire_lanes(lanes),
            Command::Publish(publish) => self.publish(place.payload_key(), publish),
            Command::SkipSequences { lane, epoch, through } => {
                self.skip_sequences(*lane, *epoch, *through)
            }
            Command::Settle(settle) => self.settle(settle),
            Command::CountAttempts { proxy, sequences } => self.count_attempts(*proxy, sequences),
            Command::Checkpoint => Ok(Reply::Checkpoint { index: place.index, hash: self.hash() }),
            Command::ReplayLetters { channel, sequences, to } => {
                self.replay_letters(*channel, sequences, *to)
            }
            Command::DropLetters { channel, sequences } => self.drop_letters(*channel, sequences),
            Command::TrimHistory { channels } => self.trim_history(channels),
            Command::Hold { proxy, holder } => self.hold(*proxy, *holder),
            Command::Subscribe { target, add, remove } => self.subscribe(target, add, remove),
            Command::MarkActive { proxies } => self.mark_active(proxies),
            Command::ExpireProxies { proxies } => self.expire_proxies(proxies),
        }
    }
}

fn tenure_lost(proposed: Tenure, current: Tenure) -> Rejection {
    Rejection::new(
        Code::TenureLost,
        format!("proposed in tenure {proposed}, but tenure {current} has begun"),
    )
    .hint("nothing of it took effect; ask the current leader again")
}
