//! Layers of settings, folded into one [`Config`].

use std::path::{Path, PathBuf};

use thiserror::Error;
use toml::{Table, Value};

use super::Config;

const ENV_PREFIX: &str = "AQUEDUCT_";
/// Variables with our prefix that speak to other commands.
const ENV_OF_OTHERS: &[&str] =
    &["AQUEDUCT_SERVERS", "AQUEDUCT_TOKEN_FILE", "AQUEDUCT_OUTPUT", "AQUEDUCT_CONFIG"];

/// Settings, and what was odd about where they came from.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Environment variables that look like settings but are none.
    pub warnings: Vec<String>,
}

/// Why settings cannot be read.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path} is not valid TOML: {reason}")]
    Syntax { path: PathBuf, reason: String },
    #[error("{origin}: unknown setting '{key}'{hint}")]
    UnknownKey { origin: String, key: String, hint: String },
    #[error("{origin}: setting '{key}' has a bad value: {reason}")]
    BadValue { origin: String, key: String, reason: String },
}

impl ConfigError {
    /// The setting it is about, if it is about one.
    pub fn key(&self) -> Option<&str> {
        match self {
            ConfigError::UnknownKey { key, .. } | ConfigError::BadValue { key, .. } => Some(key),
            ConfigError::Unreadable { .. } | ConfigError::Syntax { .. } => None,
        }
    }
}

/// Folds defaults, `file`, the variables of `env` and `flags` (key and text) into one [`Config`].
///
/// # Errors
/// An unreadable or malformed file, an unknown key, a value of the wrong kind; each names its origin.
pub fn load(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    flags: &[(&str, String)],
) -> Result<Loaded, ConfigError> {
    let mut layers = Layers::new();
    if let Some(path) = file {
        layers.add_file(path)?;
    }
    let warnings = layers.add_env(env)?;
    for (key, text) in flags {
        layers.add_text(&format!("flag --{}", key.replace('_', "-")), key, text)?;
    }
    Ok(Loaded { config: layers.config, warnings })
}

struct Layers {
    /// All keys, with values of the right kind.
    defaults: Table,
    config: Config,
}

impl Layers {
    fn new() -> Layers {
        let config = Config::default();
        let defaults = Table::try_from(&config).unwrap_or_default();
        Layers { defaults, config }
    }

    fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
        let table: Table = toml::from_str(&text).map_err(|e| ConfigError::Syntax {
            path: path.into(),
            reason: e.to_string().trim_end().to_string(),
        })?;
        let origin = path.display().to_string();
        table.into_iter().try_for_each(|(key, value)| self.add(&origin, &key, value))
    }

    fn add_env(
        &mut self,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Vec<String>, ConfigError> {
        let mut warnings = Vec::new();
        for (variable, text) in env {
            let Some(key) = variable.strip_prefix(ENV_PREFIX).map(str::to_ascii_lowercase) else {
                continue;
            };
            if self.defaults.contains_key(&key) {
                self.add_text(&format!("environment variable {variable}"), &key, &text)?;
            } else if !ENV_OF_OTHERS.contains(&variable.as_str()) {
                let hint = self.nearest(&key);
                warnings.push(format!("environment variable {variable} sets nothing{hint}"));
            }
        }
        warnings.sort();
        Ok(warnings)
    }

    /// A setting given as text takes the kind of its default.
    fn add_text(&mut self, origin: &str, key: &str, text: &str) -> Result<(), ConfigError> {
        let bad = |reason: String| ConfigError::BadValue {
            origin: origin.into(),
            key: key.into(),
            reason,
        };
        let value = match self.defaults.get(key) {
            Some(Value::Boolean(_)) => match text {
                "true" | "1" | "yes" => Value::Boolean(true),
                "false" | "0" | "no" => Value::Boolean(false),
                _ => return Err(bad(format!("'{text}' is neither true nor false"))),
            },
            Some(Value::Integer(_)) => Value::Integer(
                text.parse().map_err(|_| bad(format!("'{text}' is not a whole number")))?,
            ),
            Some(Value::Array(_)) => Value::Array(
                text.split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(|part| Value::String(part.into()))
                    .collect(),
            ),
            _ => Value::String(text.into()),
        };
        self.add(origin, key, value)
    }

    /// Sets one key, on its own, so that an error names key and origin.
    fn add(&mut self, origin: &str, key: &str, value: Value) -> Result<(), ConfigError> {
        if !self.defaults.contains_key(key) {
            return Err(ConfigError::UnknownKey {
                origin: origin.into(),
                key: key.into(),
                hint: self.nearest(key),
            });
        }
        let bad = |reason: String| ConfigError::BadValue {
            origin: origin.into(),
            key: key.into(),
            reason: reason.trim_end().into(),
        };
        let mut table = Table::try_from(&self.config).map_err(|e| bad(e.to_string()))?;
        table.insert(key.into(), value);
        self.config = table.try_into().map_err(|e: toml::de::Error| bad(e.message().into()))?;
        Ok(())
    }

    /// " (did you mean …?)" if a known key is near.
    fn nearest(&self, key: &str) -> String {
        let near =
            |known: &&String| edit_distance(key, known) <= 1 + key.len().min(known.len()) / 3;
        let found = self.defaults.keys().filter(near).min_by_key(|k| edit_distance(key, k));
        found.map(|known| format!(" (did you mean '{known}'?)")).unwrap_or_default()
    }
}

/// Insertions, deletions and replacements of bytes that lead from `a` to `b`.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::ByteSize;
    use super::*;

    fn load_text(
        file: &str,
        env: &[(&str, &str)],
        flags: &[(&str, &str)],
    ) -> Result<Loaded, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, file).unwrap();
        let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        let flags: Vec<_> = flags.iter().map(|(k, v)| (*k, v.to_string())).collect();
        load(Some(&path), env, &flags)
    }

    #[test]
    fn a_later_layer_wins() {
        let file = "listen = \"file:1\"\npeer = \"file:2\"\nadmin = \"file:3\"\n";
        let env = [("AQUEDUCT_PEER", "env:2"), ("AQUEDUCT_ADMIN", "env:3"), ("HOME", "/")];
        let config = load_text(file, &env, &[("admin", "flag:3")]).unwrap().config;
        assert_eq!((config.listen.as_str(), config.peer.as_str()), ("file:1", "env:2"));
        assert_eq!(config.admin, "flag:3");
        assert_eq!(config.http, Config::default().http);
    }

    #[test]
    fn text_takes_the_kind_of_the_setting() {
        let flags = [
            ("bootstrap", "true"),
            ("join", "a:1, b:2,"),
            ("snapshot_log_bytes", "64MiB"),
            ("shutdown_grace_ms", "9"),
            ("cluster_token_file", "/etc/token"),
        ];
        let config = load_text("free_space_floor = 1024", &[], &flags).unwrap().config;
        assert!(config.bootstrap);
        assert_eq!(config.join, ["a:1", "b:2"]);
        assert_eq!(config.snapshot_log_bytes, ByteSize::mib(64));
        assert_eq!(config.free_space_floor, ByteSize(1024));
        assert_eq!(config.shutdown_grace_ms, 9);
        assert_eq!(config.cluster_token_file, Some("/etc/token".into()));
    }

    #[test]
    fn faults_are_named() {
        for (file, env, flags, wanted) in [
            ("lisen = \"x\"", &[][..], &[][..], "unknown setting 'lisen' (did you mean 'listen'?)"),
            ("[listen]\nport = 1", &[], &[], "setting 'listen' has a bad value"),
            ("qwertyuiop = 1", &[], &[], "unknown setting 'qwertyuiop'"),
            ("listen = ", &[], &[], "is not valid TOML"),
            ("bootstrap = \"perhaps\"", &[], &[], "'bootstrap' has a bad value"),
            ("snapshot_log_bytes = \"64MB\"", &[], &[], "'64MB' is not a size"),
            ("shutdown_grace_ms = -1", &[], &[], "'shutdown_grace_ms' has a bad value"),
            ("", &[("AQUEDUCT_BOOTSTRAP", "maybe")], &[], "variable AQUEDUCT_BOOTSTRAP: setting"),
            ("", &[], &[("data-dir", "x")], "flag --data-dir: unknown setting 'data-dir'"),
            ("", &[], &[("shutdown_grace_ms", "soon")], "'soon' is not a whole number"),
        ] {
            let message = load_text(file, env, flags).unwrap_err().to_string();
            assert!(message.contains(wanted), "{file:?}: {message}");
        }
        let missing = load(Some(Path::new("/nonexistent/node.toml")), [], &[]).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/node.toml"));
    }

    #[test]
    fn unknown_variables_are_only_warned_about() {
        let env = [("AQUEDUCT_LISTN", "x"), ("AQUEDUCT_SERVERS", "a:1")];
        let loaded = load_text("", &env, &[]).unwrap();
        assert_eq!(loaded.config, Config::default());
        assert_eq!(
            loaded.warnings,
            ["environment variable AQUEDUCT_LISTN sets nothing (did you mean 'listen'?)"]
        );
    }

    #[test]
    fn the_example_file_shows_every_setting_with_its_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/node.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let table: Table = toml::from_str(&text).unwrap();
        let shown: Vec<_> = table.keys().collect();
        let known = Table::try_from(Config::default()).unwrap();
        assert_eq!(shown, known.keys().collect::<Vec<_>>());
        assert_eq!(load(Some(&path), [], &[]).unwrap().config, Config::default());
    }
}
