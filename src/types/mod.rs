//! The words of the field: ids, names, events, properties, limits and refusals.
//!
//! Layer 0. Everything here is a validated value; nothing here knows of the network, the disk, a
//! clock or a runtime. A value that exists is valid: constructors check, later code does not.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod cloud_event;
mod dedup_key;
mod event;
mod event_type;
mod id;
pub mod limits;
mod name;
mod outcome;
mod qos;
mod ranges;
mod rejection;
mod service;
mod side;
mod start;

pub use cloud_event::{CloudDefaults, CloudEventError};
pub use dedup_key::DedupKey;
pub use event::{Event, EventBytes, EventError, EventQos, Header, Payload, Value};
pub use event_type::{
    EventType, Interest, PatternError, Subscription, TypeId, TypePattern, TypeRef,
};
pub use id::{
    ChannelId, ClusterId, EntryId, GroupId, LaneId, Member, NodeId, Opener, PayloadKey, ProxyId,
    Seq, Stamp, Tenure,
};
pub use name::{Name, NameError};
pub use outcome::{Counts, Outcome};
pub use qos::{Domain, Level, Property, Qos, QosChange, QosError, Spec};
pub use ranges::{SeqRange, SeqRanges};
pub use rejection::{Code, Rejection};
pub use service::{Admission, Discard, History, Order, Scheduling, Service, Supply};
pub use side::Side;
pub use start::Start;
