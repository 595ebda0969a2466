//! Carries out a schedule of faults.

use std::time::Duration;

use openraft_rt::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use super::net::Link;
use super::node::host;
use super::plan::{Cut, Left, Step, Timed};
use super::weather::Weather;
use super::world::{Slot, World};
use crate::history::{Stage, What};

/// Fewer voters are never left by a removal.
const VOTERS_MIN: usize = 3;
/// A membership change asked for during faults is given up after this long.
const CHANGE_MAX: Duration = Duration::from_secs(6);
/// A disk that removes no file meanwhile loses its power all the same.
const REMOVAL_MAX_MS: u64 = 3_000;

/// Lets the schedule begin; each step runs on its own, and undoes itself.
pub fn unleash(world: &World, steps: &[Timed]) {
    for timed in steps.iter().cloned() {
        let world = world.clone();
        drop(SimRuntime::spawn(async move {
            SimRuntime::sleep(Duration::from_millis(timed.at_ms)).await;
            world.suffer(timed.step).await;
        }));
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl World {
    async fn suffer(&self, step: Step) {
        let name = step.name();
        let slots = self.targets(&step);
        self.fault(name, &slots, Stage::Begin, &format!("{step:?}"));
        match step {
            Step::Crash { left, silent, for_ms, .. } => {
                slots.iter().for_each(|slot| self.hold(*slot));
                slots.iter().for_each(|slot| self.kill(*slot, left, silent));
                self.revive(&slots, for_ms).await;
            }
            Step::CutPowerWithin { changes, for_ms, .. } => {
                slots.iter().for_each(|slot| {
                    self.disk(*slot, |disk| disk.cut_power_after(changes));
                });
                let moment = self.chance().draw(|chance| chance.u64(1..200));
                SimRuntime::sleep(ms(moment)).await;
                self.black_out(&slots, for_ms).await;
            }
            Step::CutPowerAtRemoval { changes, for_ms, .. } => {
                slots.iter().for_each(|slot| {
                    self.disk(*slot, |disk| disk.cut_power_after_removal(changes));
                });
                let dark = |slot: &Slot| self.disk(*slot, |disk| !disk.has_power()) == Some(true);
                let mut waited = 0;
                while waited < REMOVAL_MAX_MS && !slots.iter().any(dark) {
                    SimRuntime::sleep(ms(1)).await;
                    waited += 1;
                }
                self.black_out(&slots, for_ms).await;
            }
            Step::Restart { for_ms, .. } => {
                for slot in &slots {
                    self.hold(*slot);
                    self.stop(*slot).await;
                }
                self.revive(&slots, for_ms).await;
            }
            Step::Partition { cut, for_ms } => {
                let links = self.links(cut, &slots);
                self.fabric().block(links.clone());
                SimRuntime::sleep(ms(for_ms)).await;
                self.fabric().unblock(links);
            }
            Step::Storm { weather, for_ms } => {
                self.fabric().set_weather(weather);
                SimRuntime::sleep(ms(for_ms)).await;
                self.fabric().set_weather(self.calm());
            }
            Step::BadLink { weather, for_ms, .. } => {
                self.bad_links(&slots, weather, for_ms).await;
            }
            Step::SlowDisk { longest_ms, for_ms, .. } => {
                slots.iter().for_each(|slot| self.slow_disk(*slot, ms(longest_ms)));
                SimRuntime::sleep(ms(for_ms)).await;
                slots.iter().for_each(|slot| self.slow_disk(*slot, Duration::ZERO));
            }
            Step::FailingSync { for_ms, .. } => {
                slots.iter().for_each(|slot| self.fail_sync(*slot, true));
                SimRuntime::sleep(ms(for_ms)).await;
                slots.iter().for_each(|slot| self.fail_sync(*slot, false));
            }
            Step::FullDisk { for_ms, leave, .. } => {
                slots.iter().for_each(|slot| self.fill(*slot, Some(leave)));
                SimRuntime::sleep(ms(for_ms)).await;
                slots.iter().for_each(|slot| self.fill(*slot, None));
            }
            Step::FlipBit { choice, .. } => self.flip(&slots, choice).await,
            Step::LoseLog { .. } => self.lose_log(&slots).await,
            Step::Clock { ahead_ms, .. } => {
                slots.iter().for_each(|slot| self.set_clock(*slot, ahead_ms));
            }
            Step::Transfer => self.transfer().await,
            Step::Grow => {
                let joined = self.join(self.new_host(), CHANGE_MAX).await;
                self.note(if joined { "joined" } else { "joins_given_up" }, "");
            }
            Step::Shrink { .. } => self.shrink(&slots).await,
        }
        self.fault(name, &slots, Stage::End, "");
    }

    fn fault(&self, fault: &str, slots: &[Slot], stage: Stage, detail: &str) {
        let targets = slots.iter().map(|slot| self.id(*slot)).collect();
        let detail = detail.to_owned();
        self.record("nemesis", What::Fault { fault: fault.into(), targets, stage, detail });
    }

    fn targets(&self, step: &Step) -> Vec<Slot> {
        match step {
            Step::Crash { who, .. }
            | Step::CutPowerWithin { who, .. }
            | Step::CutPowerAtRemoval { who, .. }
            | Step::Restart { who, .. }
            | Step::BadLink { who, .. }
            | Step::SlowDisk { who, .. }
            | Step::FailingSync { who, .. }
            | Step::FullDisk { who, .. }
            | Step::FlipBit { who, .. }
            | Step::LoseLog { who }
            | Step::Clock { who, .. }
            | Step::Shrink { who }
            | Step::Partition {
                cut: Cut::Around(who) | Cut::From(who) | Cut::To(who) | Cut::Clients(who),
                ..
            } => self.find(*who),
            Step::Partition { .. } => self.slots(),
            Step::Storm { .. } | Step::Transfer | Step::Grow => Vec::new(),
        }
    }

    /// Takes the power from nodes without a word.
    async fn black_out(&self, slots: &[Slot], for_ms: u64) {
        slots.iter().for_each(|slot| self.hold(*slot));
        slots.iter().for_each(|slot| self.kill(*slot, Left::Some, true));
        self.revive(slots, for_ms).await;
    }

    async fn revive(&self, slots: &[Slot], after_ms: u64) {
        SimRuntime::sleep(ms(after_ms)).await;
        for slot in slots {
            self.release(*slot).await;
        }
    }

    /// The directed links between nodes, and to clients, that a cut blocks.
    fn links(&self, cut: Cut, slots: &[Slot]) -> Vec<Link> {
        let all = self.slots();
        let leader = self.leader();
        let at = |slot: &Slot| all.iter().position(|other| other == slot).unwrap_or(0);
        let (count, middle) = (all.len(), all.len() / 2);
        let blocks = |from: &Slot, to: &Slot| match cut {
            Cut::Around(_) => slots.contains(from) != slots.contains(to),
            Cut::From(_) => slots.contains(from),
            Cut::To(_) => slots.contains(to),
            Cut::BetweenFollowers => Some(*from) != leader && Some(*to) != leader,
            Cut::Bridge => {
                (at(from) < middle && at(to) > middle) || (at(to) < middle && at(from) > middle)
            }
            Cut::Ring => {
                let apart = at(from).abs_diff(at(to));
                let apart = apart.min(count - apart);
                apart > count.div_ceil(2) / 2
            }
            Cut::Clients(_) => false,
        };
        let mut links = Vec::new();
        for from in &all {
            for to in all.iter().filter(|to| *to != from) {
                if blocks(from, to) {
                    links.push((host(*from), host(*to)));
                }
            }
        }
        if matches!(cut, Cut::Clients(_)) {
            links.extend(self.client_links(slots));
        }
        links
    }

    fn client_links(&self, slots: &[Slot]) -> Vec<Link> {
        let mut links = Vec::new();
        for client in self.fabric().clients() {
            for slot in slots {
                links.push((client.clone(), host(*slot)));
                links.push((host(*slot), client.clone()));
            }
        }
        links
    }

    async fn bad_links(&self, slots: &[Slot], weather: Weather, for_ms: u64) {
        let links: Vec<Link> = (self.slots().into_iter())
            .flat_map(|other| slots.iter().map(move |slot| (other, *slot)))
            .filter(|(a, b)| a != b)
            .flat_map(|(a, b)| [(host(a), host(b)), (host(b), host(a))])
            .collect();
        links.iter().for_each(|link| self.fabric().set_link(link.clone(), Some(weather)));
        SimRuntime::sleep(ms(for_ms)).await;
        links.iter().for_each(|link| self.fabric().set_link(link.clone(), None));
    }

    async fn transfer(&self) {
        let Some(leader) = self.leader().and_then(|leader| self.replica(leader)) else { return };
        let moved = tokio::select! { biased;
            moved = leader.transfer(None) => moved.is_ok(),
            () = SimRuntime::sleep(CHANGE_MAX) => false,
        };
        self.note(if moved { "transferred" } else { "transfers_given_up" }, "");
    }

    async fn shrink(&self, slots: &[Slot]) {
        let Some(slot) = slots.first().copied() else { return };
        if self.slots().len() <= VOTERS_MIN {
            return self.note("removals_left_out", "");
        }
        let left = self.leave(slot, CHANGE_MAX).await;
        self.note(if left { "removed" } else { "removals_given_up" }, "");
    }
}
