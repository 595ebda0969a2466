//! The public client: publish to and consume from a cluster, across failures.
//!
//! ```text
//! Publisher ─┐                    lock                  one task
//! Subscriber ├─► Shared { Conversation, who waits } ◄─► Driver ◄─► socket
//! Puller ────┘            pure, sans-I/O                timer
//! ```
//!
//! Everything difficult, which is what to say again after what was lost, is in the pure
//! [`conversation`]; the shell around it only moves bytes and wakes waiters. A loss of the
//! connection or a change of leader is a pause to the user, not an error: lanes, unanswered events,
//! consumers and unconfirmed verdicts are resumed on whichever server answers first.
//!
//! ```no_run
//! use aqueduct::client::{Client, LaneChoice, Options, SubscribeOptions};
//! use aqueduct::types::{Event, Name};
//!
//! # async fn hello() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(Options::new(["127.0.0.1:7400", "127.0.0.1:7401"])).await?;
//!
//! let worker = SubscribeOptions::durable(Name::new("worker")?);
//! let mut subscriber = client.subscribe(Name::default_channel(), worker).await?;
//!
//! let publisher = client.publisher(Name::default_channel(), LaneChoice::Fresh).await?;
//! let ack = publisher.publish(&Event::of_body("hello")).await?;
//! println!("accepted as event {}", ack.seq);
//!
//! let delivery = subscriber.next().await?;
//! println!("received {:?}", delivery.event.body());
//! subscriber.ack(&[delivery.seq]).await?;
//! subscriber.flush().await?; // wait until the acknowledgement itself is committed
//! # Ok(())
//! # }
//! ```
//!
//! Invariants:
//! - An event is published once however often it is sent, and acknowledged only after a majority
//!   has it on disk. What was sent and given up is reported as unknown, never as either.
//! - Everything is bounded, and whoever is over a bound waits.
//! - Natural batching: what is given while a frame is on its way goes into the next; no timer.
//!
//! Left out: transactions over several events, and any way to reach behind the protocol: bridges
//! and tools use this client like everybody.

pub mod admin;
#[allow(clippy::module_inception)]
mod client;
pub mod conversation;
mod driver;
#[cfg(test)]
mod fake;
pub mod handshake;
mod options;
mod outcome;
mod publisher;
mod pull_supplier;
mod puller;
mod shared;
mod subscriber;
#[cfg(test)]
mod tests;
mod token;

pub use admin::{AdminClient, AdminError, AdminOptions};
pub use client::Client;
pub use conversation::{Settlements, Verdict};
pub use options::{Backoff, LaneChoice, Options, PublishOptions, SubscribeOptions};
pub use outcome::{Ack, AckRange, ConnectionEvent, Fate, PublishError};
pub use publisher::{Publisher, Receipt};
pub use pull_supplier::{PullSupplier, Source};
pub use puller::Puller;
pub use subscriber::{Settler, Subscriber};
pub use token::{Token, TokenError};

/// One event on its way to a consumer.
pub use crate::wire::Delivery;
