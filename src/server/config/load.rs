//! From a file, the environment and flags to a checked [`Config`], remembering where each value came from.
use super::table::{Draft, SETTINGS, Setting, literal};
use super::{Config, HttpCert, JoinConfig, LimitsConfig, LogConfig, LogFormat, TlsFiles};
use crate::base::TopicSettings;
use crate::base::units::BadValue;
use crate::runtime::ScrubConfig;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave it.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
    /// A flag of the command.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Why settings cannot be used. Nothing was started or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not TOML.
    #[error("{} is not TOML: {reason}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// The parser's words, with the line.
        reason: String,
    },
    /// No setting has this key.
    #[error("{origin}: there is no setting {key:?}; {hint}")]
    Unknown {
        /// Where it was given.
        origin: Origin,
        /// The key.
        key: String,
        /// What was probably meant, or where all settings are listed.
        hint: String,
    },
    /// A variable of the environment is nobody's.
    #[error("no command knows the variable {name} of the environment; {hint}")]
    UnknownVariable {
        /// Its name.
        name: String,
        /// What was probably meant, or where all settings are listed.
        hint: String,
    },
    /// The value cannot be.
    #[error("{origin}: {key} = {given:?} cannot be; {bad}")]
    Value {
        /// Where it was given.
        origin: Origin,
        /// The key.
        key: &'static str,
        /// What was given.
        given: String,
        /// What to give instead.
        bad: BadValue,
    },
    /// One's own credentials are not complete.
    #[error(
        "{missing} is \"auto\" while others of tls.* are set; give tls.cert, tls.key and tls.ca, or none of them"
    )]
    TlsIncomplete {
        /// The key that is missing.
        missing: &'static str,
    },
    /// Certificate and key of the HTTP address do not go together.
    #[error("give http_key where http_cert is a file, and leave it out otherwise")]
    HttpKey,
}

/// Values chosen so far, by key; those of later calls win.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chosen {
    values: BTreeMap<&'static str, (String, Origin)>,
}

impl Chosen {
    /// Nothing but defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what the text of a configuration file says.
    pub fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let toml =
            |error: toml::de::Error| ConfigError::Toml { path: path.into(), reason: error.to_string() };
        let table: toml::Table = text.parse().map_err(toml)?;
        let origin = Origin::File(path.into());
        for (name, value) in &table {
            match value {
                toml::Value::Table(section) => {
                    for (key, value) in section {
                        self.value(&format!("{name}.{key}"), value, &origin)?;
                    }
                }
                value => self.value(name, value, &origin)?,
            }
        }
        Ok(())
    }

    fn value(&mut self, key: &str, value: &toml::Value, origin: &Origin) -> Result<(), ConfigError> {
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(list) if list.iter().all(toml::Value::is_str) => {
                list.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(",")
            }
            other => other.to_string(),
        };
        self.set(key, text, origin.clone())
    }

    /// Takes variables of the environment: those that begin with `CONVEYOR_`, but for `others`, which belong to
    /// somebody else.
    pub fn environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
        others: &[&str],
    ) -> Result<(), ConfigError> {
        for (name, text) in variables {
            if let Some(setting) = setting_of(&name, &text, others)? {
                self.set(setting.key, text, Origin::Variable(name))?;
            }
        }
        Ok(())
    }

    /// Takes one value, and checks that its key is known and the value legal.
    pub fn set(&mut self, key: &str, text: String, origin: Origin) -> Result<(), ConfigError> {
        let setting = SETTINGS.iter().find(|setting| setting.key == key);
        let Some(setting) = setting else {
            let keys = SETTINGS.iter().map(|setting| setting.key.to_owned());
            return Err(ConfigError::Unknown { origin, key: key.to_owned(), hint: hint(key, keys) });
        };
        apply(setting, &mut blank(), &text, &origin)?;
        self.values.insert(setting.key, (text, origin));
        Ok(())
    }

    /// Each key with the value it has now, as TOML, and where that came from.
    pub fn effective(&self) -> impl Iterator<Item = (&'static Setting, String, Origin)> {
        SETTINGS.iter().map(|setting| match self.values.get(setting.key) {
            Some((text, origin)) => (setting, literal(text), origin.clone()),
            None => (setting, literal(setting.default), Origin::Default),
        })
    }

    /// All settings, checked also against each other.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut draft = blank();
        for setting in SETTINGS {
            match self.values.get(setting.key) {
                Some((text, origin)) => apply(setting, &mut draft, text, origin)?,
                None => apply(setting, &mut draft, setting.default, &Origin::Default)?,
            }
        }
        let files = [("tls.cert", draft.cert), ("tls.key", draft.key), ("tls.ca", draft.ca)];
        draft.config.tls = match files {
            [(_, None), (_, None), (_, None)] => None,
            [(_, Some(cert)), (_, Some(key)), (_, Some(ca))] => Some(TlsFiles { cert, key, ca }),
            files => {
                let missing =
                    files.iter().find(|(_, path)| path.is_none()).map_or("tls.cert", |(key, _)| key);
                return Err(ConfigError::TlsIncomplete { missing });
            }
        };
        draft.config.http_cert = match (draft.http_cert, draft.http_key) {
            (None, None) => HttpCert::None,
            (Some(cert), None) if cert.as_os_str() == "peer" => HttpCert::Peer,
            (Some(cert), Some(key)) if cert.as_os_str() != "peer" => HttpCert::Files { cert, key },
            _ => return Err(ConfigError::HttpKey),
        };
        Ok(draft.config)
    }
}

fn apply(setting: &Setting, draft: &mut Draft, text: &str, origin: &Origin) -> Result<(), ConfigError> {
    (setting.set)(draft, text).map_err(|bad| ConfigError::Value {
        origin: origin.clone(),
        key: setting.key,
        given: text.to_owned(),
        bad,
    })
}

/// A draft in which nothing counts yet: every setting overwrites its part.
fn blank() -> Draft {
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        data_dir: PathBuf::new(),
        listen: any,
        http: None,
        http_cert: HttpCert::None,
        http_cors_origins: Vec::new(),
        http_connection_count_max: 0,
        name: None,
        peers: JoinConfig::default(),
        log: LogConfig { format: LogFormat::Text, level: String::new() },
        limits: LimitsConfig { connection_count_max: 0, stream_count_max: 0, in_flight_bytes_max: 0 },
        disk_reserve_bytes: 0,
        skew_ms_max: 0,
        scrub: ScrubConfig::default(),
        clock_settle_ms: 0,
        auto_create: false,
        topic_defaults: TopicSettings::default(),
        replicas_timeout_ms: 0,
        read_thread_count: 0,
        tls: None,
    };
    Draft { config, cert: None, key: None, ca: None, http_cert: None, http_key: None }
}

/// The setting that a variable of the environment sets; none for those of other programs, and for `others`, which are
/// known and set something else. A name that begins with `CONVEYOR_` and that nobody knows is an error.
pub fn setting_of(name: &str, value: &str, others: &[&str]) -> Result<Option<&'static Setting>, ConfigError> {
    // `conveyor work` tells its commands of their entry, and they may run this program.
    let is_known = others.contains(&name) || name.starts_with("CONVEYOR_ENTRY_");
    if !name.starts_with("CONVEYOR_") || is_known || is_service_link(name, value) {
        return Ok(None);
    }
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) {
        return Ok(Some(setting));
    }
    let names = SETTINGS.iter().map(Setting::variable).chain(others.iter().map(|other| (*other).to_owned()));
    Err(ConfigError::UnknownVariable { name: name.to_owned(), hint: hint(name, names) })
}

/// Whether Kubernetes made the variable up, as it does for each service: one called `conveyor` gives every container
/// `CONVEYOR_SERVICE_HOST`, `CONVEYOR_PORT=udp://…`, `CONVEYOR_PORT_8011_UDP_ADDR` and more.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let port = name.split_once("_PORT_").map_or("", |(_, port)| port);
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && is_url)
        || port.starts_with(|digit: char| digit.is_ascii_digit())
}

/// What was probably meant by `key`.
fn hint(key: &str, names: impl Iterator<Item = String>) -> String {
    let nearest = names.map(|name| (distance(&name, key), name)).min();
    match nearest {
        Some((distance, name)) if distance <= (key.len() / 3).max(2) => format!("did you mean {name:?}?"),
        _ => "`conveyor config default` lists them all".to_owned(),
    }
}

/// How many letters must be changed, added or left out to make `b` of `a` (Levenshtein, 1965).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let swapped = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = swapped.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::default_file;
    use super::*;
    use crate::base::limits::{
        CLOCK_SETTLE_MS_DEFAULT, DISK_RESERVE_BYTES_DEFAULT, REPLICAS_TIMEOUT_MS_DEFAULT, SKEW_MS_MAX_DEFAULT,
    };

    fn from_file(text: &str) -> Result<Config, ConfigError> {
        let mut chosen = Chosen::new();
        chosen.file(Path::new("c.toml"), text)?;
        chosen.config()
    }

    #[test]
    fn the_printed_defaults_are_the_defaults() {
        assert_eq!(from_file(&default_file()), Ok(Config::default()));
        let limits = (Config::default().disk_reserve_bytes, Config::default().skew_ms_max);
        assert_eq!(limits, (DISK_RESERVE_BYTES_DEFAULT, SKEW_MS_MAX_DEFAULT));
        assert_eq!(Config::default().clock_settle_ms, CLOCK_SETTLE_MS_DEFAULT);
        assert_eq!(Config::default().replicas_timeout_ms, REPLICAS_TIMEOUT_MS_DEFAULT);
    }

    #[test]
    fn every_setting_is_explained_once_and_sections_stand_together() {
        let mut sections: Vec<&str> = SETTINGS.iter().map(Setting::section).collect();
        sections.dedup();
        assert!(sections.iter().enumerate().all(|(i, s)| !sections[..i].contains(s)));
        for setting in SETTINGS {
            assert_eq!(SETTINGS.iter().filter(|s| s.key == setting.key).count(), 1);
            assert!(setting.help.ends_with('.'), "{}", setting.key);
        }
    }

    #[test]
    fn the_environment_wins_over_the_file_and_flags_over_both() {
        let mut chosen = Chosen::new();
        chosen.file(Path::new("c.toml"), "name = \"a\"\n[limits]\nconnections = 7\nstreams = 8").unwrap();
        let variables =
            [("CONVEYOR_NAME", "b"), ("CONVEYOR_LIMITS_STREAMS", "9"), ("PATH", "x"), ("CONVEYOR_CA", "y")];
        let variables = variables.map(|(k, v)| (k.to_owned(), v.to_owned()));
        chosen.environment(variables.into_iter(), &["CONVEYOR_CA"]).unwrap();
        chosen.set("name", "c".to_owned(), Origin::Flag("--name")).unwrap();
        let config = chosen.config().unwrap();
        assert_eq!(config.name.unwrap().as_str(), "c");
        assert_eq!((config.limits.connection_count_max, config.limits.stream_count_max), (7, 9));
    }

    #[test]
    fn mistakes_are_told_with_key_and_remedy() {
        let mistakes = [
            ("nmae = \"a\"", "c.toml: there is no setting \"nmae\"; did you mean \"name\"?"),
            (
                "[limits]\nconections = 1",
                "c.toml: there is no setting \"limits.conections\"; did you mean \"limits.connections\"?",
            ),
            (
                "[zzz]\nq = 1",
                "c.toml: there is no setting \"zzz.q\"; `conveyor config default` lists them all",
            ),
            (
                "[limits]\nconnections = 0",
                "c.toml: limits.connections = \"0\" cannot be; give a whole number from 1 to 1000000",
            ),
            (
                "listen = \"localhost\"",
                "c.toml: listen = \"localhost\" cannot be; give an IP address and a port, such as \"127.0.0.1:8011\" or \"[::]:8011\"",
            ),
            (
                "[log]\nlevel = \"loud\"",
                "c.toml: log.level = \"loud\" cannot be; give error, warn, info, debug or trace, or module by module such as \"info,conveyor::log=debug\"",
            ),
            (
                "[tls]\ncert = \"a.pem\"",
                "tls.key is \"auto\" while others of tls.* are set; give tls.cert, tls.key and tls.ca, or none of them",
            ),
        ];
        for (text, told) in mistakes {
            assert_eq!(from_file(text).unwrap_err().to_string(), told);
        }
        assert!(matches!(from_file("name = "), Err(ConfigError::Toml { .. })));
        assert!(from_file("[log]\nlevel = \"info,conveyor::log=debug\"").is_ok());
    }

    #[test]
    fn a_misspelt_variable_is_an_error_too() {
        let variables = [("CONVEYOR_LIMIT_STREAMS".to_owned(), "9".to_owned())];
        let told = Chosen::new().environment(variables.into_iter(), &[]).unwrap_err().to_string();
        assert!(told.contains("did you mean \"CONVEYOR_LIMITS_STREAMS\"?"), "{told}");
        let told = setting_of("CONVEYOR_CONECT", "", &["CONVEYOR_CONNECT"]).err().unwrap().to_string();
        assert!(told.contains("did you mean \"CONVEYOR_CONNECT\"?"), "{told}");
    }

    #[test]
    fn variables_that_kubernetes_makes_up_for_a_service_are_passed_over() {
        let links = [
            ("CONVEYOR_SERVICE_HOST", "10.0.0.1"),
            ("CONVEYOR_SERVICE_PORT", "8011"),
            ("CONVEYOR_PORT", "udp://10.0.0.1:8011"),
            ("CONVEYOR_ALPHA_PORT_8011_UDP_ADDR", "10.0.0.1"),
        ];
        for (name, value) in links {
            assert!(matches!(setting_of(name, value, &[]), Ok(None)), "{name}");
        }
        assert!(setting_of("CONVEYOR_PORT", "8011", &[]).is_err(), "somebody meant a setting");
    }
}
