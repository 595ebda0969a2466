//! Defines consumers anew as an operator would, without the admin service: by the leader.

use std::time::Duration;

use aqueduct::consensus::{ProposeError, Replica};
use aqueduct::machine::{Command, Reply, Target};
use aqueduct::types::{Code, Name, ProxyId, Rejection};
use openraft_rt::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use super::env::SimEnv;
use super::world::World;
use crate::history::{Cut, Definition, Outcome};
use crate::workloads::{Hands, changes};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// In whose name definitions go to the log: in that of no session and no proxy.
const SOURCE: u64 = u64::MAX - 1;

impl Hands for World {
    async fn redefine(&self, channel: &str, consumer: &str, to: &Definition) -> Outcome<Cut> {
        let leader = self.leader().and_then(|leader| self.replica(leader));
        let Some(replica) = leader else { return Outcome::Fail("no_leader".into()) };
        let serves = || replica.leadership().peek().tenure.map_or(0, |tenure| tenure.0);
        let tenure = serves();
        let command = match command(&replica, channel, consumer, to) {
            Ok(command) => command,
            Err(rejection) => return Outcome::Fail(rejection.code.to_string()),
        };
        let answer = tokio::select! { biased;
            answer = replica.propose(SOURCE, command) => answer,
            () = SimRuntime::sleep(ANSWER_MAX) => return Outcome::Unknown("no answer".into()),
        };
        match answer {
            // An entry of another tenure would have been refused.
            Ok(Reply::Changed { index, .. }) => {
                Outcome::Ok(Cut { index, tenure: if serves() == tenure { tenure } else { 0 } })
            }
            Ok(Reply::Rejected(rejection)) => Outcome::Fail(rejection.code.to_string()),
            Ok(other) => Outcome::Unknown(format!("an answer to something else: {other:?}")),
            Err(error) => refused(error),
        }
    }
}

fn refused(error: ProposeError) -> Outcome<Cut> {
    let certain = !matches!(error, ProposeError::TenureLost | ProposeError::Storage(_));
    let code = Rejection::from(error).code.to_string();
    if certain { Outcome::Fail(code) } else { Outcome::Unknown(code) }
}

fn command(
    replica: &Replica<SimEnv>,
    channel: &str,
    consumer: &str,
    to: &Definition,
) -> Result<Command, Rejection> {
    let proxy = replica.read(|machine| find(machine, channel, consumer));
    let proxy = proxy.ok_or_else(|| Rejection::new(Code::UnknownProxy, consumer))?;
    let target = Target::Proxy(proxy);
    Ok(match to {
        Definition::Qos(wish) => Command::SetQos { target, changes: changes(wish)? },
        Definition::Suspended(suspended) => Command::Suspend { target, suspended: *suspended },
    })
}

fn find(machine: &aqueduct::machine::Machine, channel: &str, consumer: &str) -> Option<ProxyId> {
    let (channel, consumer) = (Name::new(channel).ok()?, Name::new(consumer).ok()?);
    machine.channel_by_name(&channel)?.proxy(&consumer)
}
