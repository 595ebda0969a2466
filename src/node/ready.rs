//! What a node says on standard output: one line of JSON for each thing that scripts wait for.

use serde::Serialize;

use crate::types::{ClusterId, NodeId};

/// A line on standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Announcement {
    /// It listens, belongs to a cluster, and serves.
    Ready {
        node_id: NodeId,
        cluster_id: ClusterId,
        client_addr: String,
        peer_addr: String,
        admin_addr: String,
        http_addr: String,
        pid: u32,
    },
    /// Its disk is full: it answers questions about itself until there is room, and is ready again
    /// then.
    DiskFull { reason: String, admin_addr: String, http_addr: String, pid: u32 },
    /// Its data is damaged: it answers questions about itself, and nothing else.
    Quarantined { reason: String, admin_addr: String, http_addr: String, pid: u32 },
    /// The cluster has let the damaged node go, and its data was moved to `kept`: what follows is
    /// another node.
    Cleared { node_id: NodeId, kept: String },
    /// The cluster has taken it out; it stops.
    Removed { node_id: NodeId },
}

impl Announcement {
    /// Prints the line. Nobody may be reading any more, which is none of our business.
    pub fn print(&self) {
        use std::io::Write;
        let line = serde_json::to_string(self).unwrap_or_default();
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_what_scripts_expect() {
        let ready = Announcement::Ready {
            node_id: NodeId(2),
            cluster_id: ClusterId(255),
            client_addr: "c:1".into(),
            peer_addr: "p:2".into(),
            admin_addr: "a:3".into(),
            http_addr: "h:4".into(),
            pid: 9,
        };
        assert_eq!(
            serde_json::to_string(&ready).unwrap(),
            "{\"event\":\"ready\",\"node_id\":2,\"cluster_id\":\"00000000000000ff\",\
             \"client_addr\":\"c:1\",\"peer_addr\":\"p:2\",\"admin_addr\":\"a:3\",\
             \"http_addr\":\"h:4\",\"pid\":9}"
        );
    }
}
