//! How openraft answers a proposal: a closure, called exactly once.

use openraft::OptionalSend;
use openraft::raft::responder::Responder;

use super::config::{RaftRuntime, Types};

/// Called with the outcome of a request, or with `None` when openraft dropped it unanswered
/// (it stopped): then nobody knows whether it took effect.
pub struct Callback<T>(Option<Box<dyn FnOnce(Option<T>) + Send>>);

impl<T> Callback<T> {
    /// Wraps `call`, which must be quick: it runs where entries are applied.
    pub fn new(call: impl FnOnce(Option<T>) + Send + 'static) -> Callback<T> {
        Callback(Some(Box::new(call)))
    }

    fn answer(&mut self, outcome: Option<T>) {
        if let Some(call) = self.0.take() {
            call(outcome);
        }
    }
}

impl<T> Drop for Callback<T> {
    fn drop(&mut self) {
        self.answer(None);
    }
}

impl<E: RaftRuntime, T: OptionalSend + 'static> Responder<Types<E>, T> for Callback<T> {
    fn on_complete(mut self, outcome: T) {
        self.answer(Some(outcome));
    }
}
