//! `node` and `config check`: from flags, environment and file to a running node.

use std::path::Path;

use super::args::{Common, Config as ConfigCommand, Node, NodeOverrides};
use super::exit::{Exit, Failure};
use super::output;
use super::parent;
use crate::node::{self, Config, ConfigError, Finding, Level};

/// Runs a node until it is told to stop.
pub async fn run(common: &Common, flags: &Node) -> Result<Exit, Failure> {
    if let Some(parent) = flags.end_with_parent {
        parent::end_with(parent)?;
    }
    let mut overrides = texts(&flags.overrides);
    overrides.extend(common.log.iter().map(|filter| ("log", filter.clone())));
    let config = load(flags.config.as_deref(), &overrides)?;
    node::telemetry::start(&config.log).map_err(Failure::usage)?;
    node::run(config).await.map_err(anyhow::Error::from)?;
    Ok(Exit::Ok)
}

/// Reads a file as `node` would, and reports what is wrong with it.
pub fn config(common: &Common, command: &ConfigCommand) -> Result<Exit, Failure> {
    let ConfigCommand::Check { file } = command;
    let findings = match node::config::load(Some(file), std::env::vars(), &[]) {
        Ok(loaded) => {
            let mut findings = node::config::check(&loaded.config);
            findings.extend(node::config::occupied(&loaded.config));
            findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
            findings
        }
        Err(error @ ConfigError::Unreadable { .. }) => {
            return Err(Failure::usage(error.to_string()));
        }
        Err(error) => vec![Finding {
            level: Level::Error,
            key: error.key().unwrap_or_default().into(),
            message: error.to_string(),
        }],
    };
    output::result(common.output, &findings, |findings| {
        let mut table = output::table(&["", "setting", ""]);
        for Finding { level, key, message } in findings {
            let word = match level {
                Level::Ok => "ok",
                Level::Warn => "warning",
                Level::Error => "ERROR",
            };
            table.add_row(vec![word, key, message]);
        }
        table.to_string()
    });
    let bad = findings.iter().any(|finding| finding.level == Level::Error);
    Ok(if bad { Exit::CheckFailed } else { Exit::Ok })
}

fn load(file: Option<&Path>, overrides: &[(&str, String)]) -> Result<Config, Failure> {
    let loaded = node::config::load(file, std::env::vars(), overrides);
    let loaded = loaded.map_err(|error| Failure::usage(error.to_string()))?;
    loaded.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    Ok(loaded.config)
}

/// The flags that were given, as settings.
fn texts(flags: &NodeOverrides) -> Vec<(&'static str, String)> {
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.display().to_string());
    let truth = |given: bool| given.then(|| "true".to_string());
    let given = [
        ("data_dir", path(&flags.data_dir)),
        ("listen", flags.listen.clone()),
        ("peer", flags.peer.clone()),
        ("admin", flags.admin.clone()),
        ("http", flags.http.clone()),
        ("bootstrap", truth(flags.bootstrap)),
        ("join", (!flags.join.is_empty()).then(|| flags.join.join(","))),
        ("cluster_token_file", path(&flags.cluster_token_file)),
        ("client_token_file", path(&flags.client_token_file)),
        ("insecure_bind", truth(flags.insecure_bind)),
        ("protocol_version_max", flags.protocol_version_max.map(|version| version.to_string())),
        ("snapshot_log_bytes", flags.snapshot_log_bytes.map(|bytes| bytes.to_string())),
    ];
    given.into_iter().filter_map(|(key, text)| Some((key, text?))).collect()
}
