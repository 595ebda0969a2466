//! What a node with these settings would find taken if it started now.

use std::io::ErrorKind;
use std::net::TcpListener;

use super::{Config, Finding, Level};
use crate::storage;

/// Addresses and directories that are in use: warnings, for it may be this very node.
pub fn occupied(config: &Config) -> Vec<Finding> {
    let warn = |key: &str, what: String| Finding {
        level: Level::Warn,
        key: key.into(),
        message: format!("{what} is in use: fine if this node runs already, else choose another"),
    };
    let is_taken = |address: &str| {
        TcpListener::bind(address).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
    };
    let listeners = config.listeners().into_iter().filter(|(_, address)| is_taken(address));
    let mut found: Vec<_> =
        listeners.map(|(key, address)| warn(key, address.to_string())).collect();
    if storage::is_in_use(&config.data_dir) {
        found.push(warn("data_dir", config.data_dir.display().to_string()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Owner;
    use crate::types::{ClusterId, NodeId};

    #[test]
    fn what_is_taken_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let any = || "127.0.0.1:0".to_string();
        let mut config = Config {
            data_dir: dir.path().join("data"),
            listen: any(),
            peer: any(),
            admin: any(),
            http: any(),
            ..Config::default()
        };
        assert_eq!(occupied(&config), []);
        assert!(!config.data_dir.exists(), "looking makes nothing");

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        config.peer = listener.local_addr().unwrap().to_string();
        let owner = Owner { cluster: ClusterId(7), node: NodeId(1) };
        let storage = storage::open(&config.data_dir, Some(owner), Default::default()).unwrap();
        let keys = |found: Vec<Finding>| found.into_iter().map(|f| f.key).collect::<Vec<_>>();
        assert_eq!(keys(occupied(&config)), ["peer", "data_dir"]);
        drop((storage, listener));
        assert_eq!(occupied(&config), []);
    }
}
