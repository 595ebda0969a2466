//! Whether settings make sense together and on this machine.

use std::fmt;
use std::net::ToSocketAddrs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{Access, access};
use serde::Serialize;

use super::Config;
use crate::types::limits;
use crate::wire::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};

/// Shortest token that is not called guessable, in bytes.
const TOKEN_BYTES_MIN: usize = 16;
/// Snapshots more often than this many log bytes cost more than they save.
const SNAPSHOT_BYTES_MIN: u64 = 1 << 20;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    /// The node starts; think again.
    Warn,
    /// The node does not start.
    Error,
}

/// One thing to know about the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// The setting it is about.
    pub key: String,
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

/// Judges `config`, looking at (never changing) the file system. One finding at least per area,
/// worst first.
pub fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    check_listeners(config, &mut findings);
    check_exposure(config, &mut findings);
    check_advertised(config, &mut findings);
    check_token(&mut findings, "cluster_token_file", config.cluster_token_file.as_deref());
    check_token(&mut findings, "client_token_file", config.client_token_file.as_deref());
    check_data_dir(&config.data_dir, &mut findings);
    check_sizes(config, &mut findings);
    check_start(config, &mut findings);
    if let Err(reason) = crate::node::telemetry::check_filter(&config.log) {
        findings.error("log", reason);
    }
    let mut findings = findings.0;
    findings.sort_by_key(|f| std::cmp::Reverse(f.level));
    findings
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, key: &str, message: impl Into<String>) {
        self.0.push(Finding { level, key: key.into(), message: message.into() });
    }

    fn ok(&mut self, key: &str, message: impl Into<String>) {
        self.add(Level::Ok, key, message);
    }

    fn warn(&mut self, key: &str, message: impl Into<String>) {
        self.add(Level::Warn, key, message);
    }

    fn error(&mut self, key: &str, message: impl Into<String>) {
        self.add(Level::Error, key, message);
    }
}

fn check_listeners(config: &Config, findings: &mut Findings) {
    let listeners = config.listeners();
    for (i, (key, address)) in listeners.iter().enumerate() {
        match address.to_socket_addrs() {
            Err(e) => findings.error(
                key,
                format!("'{address}' is not an address to listen on ({e}): write HOST:PORT"),
            ),
            Ok(_) => findings.ok(key, format!("listens on {address}")),
        }
        let same = |other: &&(&str, &str)| other.1 == *address && !address.ends_with(":0");
        if let Some((first, _)) = listeners[..i].iter().find(same) {
            findings.error(key, format!("{address} is taken by '{first}': give each its own port"));
        }
    }
}

/// Whether every address that `address` stands for lies on this machine only.
fn is_loopback(address: &str) -> bool {
    address.to_socket_addrs().is_ok_and(|mut all| all.all(|a| a.ip().is_loopback()))
}

/// A listener that the network can reach needs a secret, unless somebody insists.
fn check_exposure(config: &Config, findings: &mut Findings) {
    let needs = [
        ("listen", &config.listen, "client_token_file", config.client_token_file.is_some()),
        ("admin", &config.admin, "client_token_file", config.client_token_file.is_some()),
        ("peer", &config.peer, "cluster_token_file", config.cluster_token_file.is_some()),
    ];
    for (key, address, secret, present) in needs {
        if present || is_loopback(address) || address.to_socket_addrs().is_err() {
            continue;
        }
        let message = format!("{address} is reachable from other machines without a {secret}");
        if config.insecure_bind {
            findings.warn(key, format!("{message}; allowed by insecure_bind"));
        } else {
            findings.error(key, format!("{message}: set {secret}, or say --insecure-bind"));
        }
    }
    if !is_loopback(&config.http) && config.http.to_socket_addrs().is_ok() {
        findings.warn("http", "health and metrics are readable by anyone who reaches the port");
    }
}

/// An address such as 0.0.0.0 is no place to call.
fn check_advertised(config: &Config, findings: &mut Findings) {
    for (key, address, own) in [
        ("advertise_listen", &config.listen, &config.advertise_listen),
        ("advertise_peer", &config.peer, &config.advertise_peer),
        ("advertise_admin", &config.admin, &config.advertise_admin),
    ] {
        let unspecified =
            address.to_socket_addrs().is_ok_and(|mut all| all.any(|a| a.ip().is_unspecified()));
        if unspecified && own.is_none() {
            findings.error(
                key,
                format!("{address} is not an address others can call: set {key} = \"HOST:PORT\""),
            );
        }
        if own.as_ref().is_some_and(|a| !a.contains(':')) {
            findings.error(key, "write HOST:PORT");
        }
    }
}

fn check_token(findings: &mut Findings, key: &str, file: Option<&Path>) {
    let Some(path) = file else { return };
    let shown = path.display();
    match crate::node::token::read(path) {
        Err(e) => findings.error(key, e.to_string()),
        Ok(token) if token.len() < TOKEN_BYTES_MIN => findings.warn(
            key,
            format!("the token in {shown} is shorter than {TOKEN_BYTES_MIN} bytes: guessable"),
        ),
        Ok(_) => findings.ok(key, format!("read {shown}")),
    }
    if std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0) {
        findings.warn(key, format!("others may read {shown}: chmod 600 it"));
    }
}

fn check_data_dir(dir: &Path, findings: &mut Findings) {
    let key = "data_dir";
    let shown = dir.display();
    // A relative path such as "data" has the empty path as its parent: the directory we are in.
    let here =
        |p: &Path| if p.as_os_str().is_empty() { Path::new(".").into() } else { p.to_owned() };
    let existing = dir.ancestors().map(here).find(|p| p.exists());
    match existing {
        Some(path) if !path.is_dir() => {
            findings.error(key, format!("{} is not a directory", path.display()));
        }
        Some(path) if access(&path, Access::WRITE_OK | Access::EXEC_OK).is_err() => {
            findings.error(key, format!("{} is not writable by this user", path.display()));
        }
        Some(path) if path == dir => findings.ok(key, format!("{shown} is writable")),
        _ => findings.ok(key, format!("{shown} will be created")),
    }
    if dir.starts_with(std::env::temp_dir()) {
        findings.warn(key, format!("{shown} is temporary: a cleaner or a reboot may remove it"));
    }
}

fn check_sizes(config: &Config, findings: &mut Findings) {
    let event = config.event_bytes_max.0;
    if event == 0 || event > limits::EVENT_BYTES_CEILING as u64 {
        let ceiling = super::ByteSize(limits::EVENT_BYTES_CEILING as u64);
        findings.error("event_bytes_max", format!("must lie between 1 and {ceiling}"));
    }
    let snapshot = config.snapshot_log_bytes;
    if snapshot.0 < SNAPSHOT_BYTES_MIN {
        let min = super::ByteSize(SNAPSHOT_BYTES_MIN);
        findings.error("snapshot_log_bytes", format!("{snapshot} is too little: {min} at least"));
    }
    let tail = config.log_tail_bytes;
    if tail.0 < event {
        findings.error("log_tail_bytes", format!("{tail} does not hold one largest event"));
    }
    let ballast = config.ballast;
    let (least, most) = (limits::ROOM_TO_OPEN_BYTES, limits::BALLAST_BYTES_MAX);
    if ballast.0 > most {
        findings
            .error("ballast", format!("{ballast} is too much: {} at most", super::ByteSize(most)));
    } else if ballast.0 < least {
        let text = "is less than a node on a full disk needs to open its data";
        findings.warn("ballast", format!("{ballast} {text} ({})", super::ByteSize(least)));
    }
    let floor = config.free_space_floor;
    if floor.0 < snapshot.0 {
        findings.warn(
            "free_space_floor",
            format!("{floor} is less than a snapshot may need (snapshot_log_bytes is {snapshot})"),
        );
    }
}

fn check_start(config: &Config, findings: &mut Findings) {
    let version = config.protocol_version_max;
    if !(PROTOCOL_VERSION_MIN..=PROTOCOL_VERSION).contains(&version) {
        findings.error(
            "protocol_version_max",
            format!(
                "this build speaks {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}, not {version}"
            ),
        );
    }
    if config.bootstrap && !config.join.is_empty() {
        findings.error("bootstrap", "a node founds a cluster or joins one: set one of them");
    }
    for address in &config.join {
        if address.to_socket_addrs().is_err() {
            findings.warn("join", format!("'{address}' does not resolve to HOST:PORT now"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path, change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config { data_dir: dir.join("data"), ..Config::default() };
        change(&mut config);
        config
    }

    /// What is said of `key` at `level`.
    fn said(findings: &[Finding], level: Level, key: &str) -> Vec<String> {
        let wanted = |f: &&Finding| f.level == level && f.key == key;
        findings.iter().filter(wanted).map(|f| f.message.clone()).collect()
    }

    #[test]
    fn the_defaults_raise_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let findings = check(&config(dir.path(), |_| ()));
        assert!(findings.iter().all(|f| f.level < Level::Error), "{findings:?}");
    }

    #[test]
    fn bad_settings_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "short\n").unwrap();
        type Case = (Level, &'static str, &'static str, Box<dyn FnOnce(&mut Config)>);
        let token = file.clone();
        let blocked = file.clone();
        let cases: Vec<Case> = vec![
            (
                Level::Error,
                "listen",
                "client_token_file",
                Box::new(|c| {
                    c.listen = "0.0.0.0:1".into();
                }),
            ),
            (
                Level::Warn,
                "listen",
                "insecure_bind",
                Box::new(|c| {
                    c.listen = "0.0.0.0:1".into();
                    c.insecure_bind = true;
                }),
            ),
            (
                Level::Error,
                "advertise_listen",
                "set advertise_listen",
                Box::new(|c| {
                    c.listen = "0.0.0.0:1".into();
                }),
            ),
            (Level::Error, "peer", "cluster_token_file", Box::new(|c| c.peer = "[::]:1".into())),
            (Level::Error, "admin", "write HOST:PORT", Box::new(|c| c.admin = "nonsense".into())),
            (Level::Error, "admin", "is taken by 'peer'", Box::new(|c| c.admin = c.peer.clone())),
            (Level::Warn, "http", "readable by anyone", Box::new(|c| c.http = "0.0.0.0:1".into())),
            (
                Level::Error,
                "cluster_token_file",
                "cannot read",
                Box::new(|c| {
                    c.cluster_token_file = Some("/nonexistent/token".into());
                }),
            ),
            (
                Level::Warn,
                "cluster_token_file",
                "guessable",
                Box::new(move |c| {
                    c.cluster_token_file = Some(token);
                }),
            ),
            (
                Level::Error,
                "data_dir",
                "is not a directory",
                Box::new(move |c| {
                    c.data_dir = blocked.join("deeper");
                }),
            ),
            (
                Level::Error,
                "event_bytes_max",
                "8MiB",
                Box::new(|c| {
                    c.event_bytes_max = super::super::ByteSize::mib(9);
                }),
            ),
            (
                Level::Error,
                "snapshot_log_bytes",
                "too little",
                Box::new(|c| {
                    c.snapshot_log_bytes = super::super::ByteSize(10);
                }),
            ),
            (
                Level::Warn,
                "free_space_floor",
                "less than a snapshot",
                Box::new(|c| {
                    c.free_space_floor = super::super::ByteSize(0);
                }),
            ),
            (
                Level::Error,
                "ballast",
                "1GiB at most",
                Box::new(|c| {
                    c.ballast = super::super::ByteSize(limits::BALLAST_BYTES_MAX + 1);
                }),
            ),
            (
                Level::Warn,
                "ballast",
                "less than a node",
                Box::new(|c| {
                    c.ballast = super::super::ByteSize(0);
                }),
            ),
            (
                Level::Error,
                "bootstrap",
                "one of them",
                Box::new(|c| {
                    c.bootstrap = true;
                    c.join = vec!["127.0.0.1:1".into()];
                }),
            ),
            (Level::Error, "log", "not a log filter", Box::new(|c| c.log = "info,=,=".into())),
        ];
        for (level, key, wanted, change) in cases {
            let findings = check(&config(dir.path(), change));
            let said = said(&findings, level, key);
            assert!(said.iter().any(|m| m.contains(wanted)), "{key} {wanted}: {findings:?}");
        }
    }

    #[test]
    fn port_zero_may_repeat() {
        let dir = tempfile::tempdir().unwrap();
        let findings = check(&config(dir.path(), |c| {
            for address in [&mut c.listen, &mut c.peer, &mut c.admin, &mut c.http] {
                *address = "127.0.0.1:0".into();
            }
        }));
        assert!(findings.iter().all(|f| f.level < Level::Error), "{findings:?}");
    }
}
