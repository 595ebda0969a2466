//! Questions about a node and a cluster, and changes to them: a tarpc service, JSON on the wire.
//!
//! An admin connection begins with the same hello as every other
//! ([`Service::Admin`](super::Service::Admin)); then both sides hand the byte stream to
//! [`client_transport`] or [`server_transport`]. Each message is a `u32` length (big endian, as
//! tarpc's codec has it) and a JSON text.
//!
//! Every answer about the cluster is wrapped in [`Answer`], which says who answered, in which role
//! and tenure, at which applied index, and whether it is linearizable or how stale. The JSON of
//! the values is what `aqueduct ... --output json` prints.

mod letters;
mod quality;
mod service;
mod values;

pub use letters::{
    LetterLedger, LetterList, LetterOutcome, LetterReport, LetterResult, LetterShown, LettersDone,
};
pub use quality::{
    AdminChanged, AdminList, AdminReport, Cut, OfferedType, OfferedTypes, Origin, PropertyRange,
    PropertyReport, PropertyValue, ProxyCreated, ProxyWish, QosFault, QosReport, QosSet,
    QosValidation, QosWish, Subscribed, Suspension, Target, qos_wish, read_wish, unit,
};
pub use service::{
    AdminService, AdminServiceClient, AdminServiceRequest, AdminServiceResponse, client_transport,
    server_transport,
};
pub use values::{
    Answer, Audit, BackupBegun, BackupFile, BackupPiece, BackupPlan, ChannelEntry, ChannelList,
    ChannelReport, ClusterInfo, ClusterStatus, Joined, LaneReport, Member, MemberEntry, Members,
    NodeAudit, NodeReport, ProxyReport, Role, SnapshotReport, Suppliers, Transferred,
};
