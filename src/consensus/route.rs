//! Who serves clients now, seen from one node.

use std::time::Duration;

use crate::env::{Runtime, Watch};
use crate::types::{Code, Rejection};

use super::member::{Leadership, Member};

/// How long a caller is kept waiting while nobody leads.
pub const LEADER_WAIT: Duration = Duration::from_secs(2);

/// Where clients are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// By this node: it leads, in a tenure.
    Here,
    /// By this other member.
    Elsewhere(Member),
}

/// Finds out who serves clients now, waiting up to `patience` for an election to end.
///
/// # Errors
/// `no_leader`, retryable, after that; `shutting_down` if the replica stops.
pub async fn route<E: Runtime>(
    env: &E,
    leadership: &Watch<Leadership>,
    patience: Duration,
) -> Result<Route, Rejection> {
    let mut leadership = leadership.clone();
    let known = leadership.wait_for(|now| serving(now).is_some());
    tokio::select! { biased;
        known = known => known.as_ref().and_then(serving).ok_or_else(|| {
            Rejection::new(Code::ShuttingDown, "this node is stopping").hint("use another node")
        }),
        () = env.sleep(patience) => {
            Err(Rejection::new(Code::NoLeader, "no leader is known here")
                .hint("try again in a moment, or through another node"))
        }
    }
}

fn serving(now: &Leadership) -> Option<Route> {
    match (&now.tenure, &now.leader) {
        (Some(_), _) => Some(Route::Here),
        (None, Some(leader)) if leader.id != now.me => Some(Route::Elsewhere(leader.clone())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{TokioRuntime, watch};
    use crate::types::{NodeId, Tenure};

    fn member(id: u64) -> Member {
        Member { id: NodeId(id), peer_addr: format!("node{id}:1"), ..Member::default() }
    }

    /// What node 1 knows while `leader` leads.
    fn led_by(leader: Option<u64>, tenure: Option<u64>) -> Leadership {
        Leadership {
            me: NodeId(1),
            leader: leader.map(member),
            term: 1,
            tenure: tenure.map(Tenure),
            removed: false,
        }
    }

    /// A runtime in which every wait is over at once.
    #[derive(Clone)]
    struct Impatient(TokioRuntime);

    impl Runtime for Impatient {
        fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
            self.0.spawn(task);
        }

        fn sleep(&self, _: Duration) -> impl Future<Output = ()> + Send + 'static {
            std::future::ready(())
        }

        fn monotonic(&self) -> Duration {
            self.0.monotonic()
        }

        fn wall(&self) -> Duration {
            self.0.wall()
        }

        fn random(&self) -> u64 {
            self.0.random()
        }

        async fn blocking<T: Send + 'static>(
            &self,
            work: impl FnOnce() -> T + Send + 'static,
        ) -> Option<T> {
            self.0.blocking(work).await
        }
    }

    #[tokio::test]
    async fn clients_are_sent_to_whoever_serves() {
        let env = Impatient(TokioRuntime::new());
        for (now, wanted) in [
            (led_by(Some(1), Some(5)), Ok(Route::Here)),
            (led_by(Some(2), None), Ok(Route::Elsewhere(member(2)))),
            // Elected, but its tenure has not begun.
            (led_by(Some(1), None), Err(Code::NoLeader)),
            (led_by(None, None), Err(Code::NoLeader)),
        ] {
            let (_publisher, watched) = watch(now.clone());
            let found = route(&env, &watched, LEADER_WAIT).await;
            assert_eq!(found.map_err(|refused| refused.code), wanted, "{now:?}");
        }
        let (gone, watched) = watch(led_by(None, None));
        drop(gone);
        assert_eq!(route(&env, &watched, LEADER_WAIT).await.unwrap_err().code, Code::ShuttingDown);
    }

    #[tokio::test]
    async fn an_election_is_waited_for() {
        let (publisher, watched) = watch(led_by(None, None));
        let waiting =
            tokio::spawn(async move { route(&TokioRuntime::new(), &watched, LEADER_WAIT).await });
        tokio::task::yield_now().await;
        publisher.set(led_by(Some(1), None));
        tokio::task::yield_now().await;
        publisher.set(led_by(Some(2), None));
        assert_eq!(waiting.await.unwrap(), Ok(Route::Elsewhere(member(2))));
    }
}
