//! Every setting: its key, its default, what it trades, who should change it, and which number to watch.
use super::value::{bytes, count, flag, ms, optional};
use super::{Config, LogFormat};
use crate::base::units::BadValue;
use crate::base::{Durability, PeerName};
use std::net::SocketAddr;
use std::path::PathBuf;
use tracing_subscriber::EnvFilter;

/// One setting. What a user writes and the default go through the same `set`.
pub struct Setting {
    /// Its name in the file: `key`, or `section.key`.
    pub key: &'static str,
    /// What it is when nobody says otherwise.
    pub default: &'static str,
    /// What it does, what it trades, who should raise it, which metric to watch.
    pub help: &'static str,
    pub(super) set: fn(&mut Draft, &str) -> Result<(), BadValue>,
}

/// The settings while they are being read: a [`Config`], and credentials that may not be complete yet.
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) ca: Option<PathBuf>,
    pub(super) http_cert: Option<PathBuf>,
    pub(super) http_key: Option<PathBuf>,
}

impl Setting {
    /// The variable that sets it: `CONVEYOR_SECTION_KEY`.
    pub fn variable(&self) -> String {
        format!("CONVEYOR_{}", self.key.replace('.', "_").to_ascii_uppercase())
    }

    /// Its section in the file; empty for those above all sections.
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(section, _)| section)
    }

    /// Its name within its section.
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }
}

const DAY_MS: u64 = 86_400_000;
const YEAR_MS: u64 = 366 * DAY_MS;

/// All settings in the order of the file; those of one section stand together.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "data_dir",
        default: "~/.local/share/conveyor",
        help: "Where everything is kept: entries, keys, certificates. \"~/\" is the home directory. One process at a \
               time; a copy started elsewhere is safe, and writes in a run of its own. Put it on the disk whose flush \
               is fast. Watch conveyor_disk_free_bytes.",
        set: |draft, text| put(&mut draft.config.data_dir, directory(text)),
    },
    Setting {
        key: "listen",
        default: "127.0.0.1:8011",
        help: "UDP address for clients and other peers. Any address that is not loopback needs certificates that were made on \
               purpose (`conveyor init`), never those of a first start. Watch conveyor_connections.",
        set: |draft, text| put(&mut draft.config.listen, address(text)),
    },
    Setting {
        key: "http",
        default: "127.0.0.1:8011",
        help: "TCP address of the HTTP interface (docs/http.md) and of /metrics, /livez and /readyz, or \"none\". The interface \
               wants a token with each request; the pages want none, and whoever reaches them can read the names of topics \
               and their sizes. Beyond loopback the interface is served over TLS alone, see http_cert.",
        set: |draft, text| put(&mut draft.config.http, optional(text, address)),
    },
    Setting {
        key: "http_cert",
        default: "none",
        help: "The certificate (PEM) of the HTTP address, with those behind it, as one that browsers and curl know; \"peer\" for \
               the peer's own, which names no host, so that clients must be told to trust it; \"none\" for no TLS. Read at \
               the start.",
        set: |draft, text| {
            put(
                &mut draft.http_cert,
                match text {
                    "none" => Ok(None),
                    text => directory(text).map(Some),
                },
            )
        },
    },
    Setting {
        key: "http_key",
        default: "auto",
        help: "Its private key (PEM), where http_cert is a file. Nobody but the peer's user should be able to read it.",
        set: |draft, text| put(&mut draft.http_key, file(text)),
    },
    Setting {
        key: "http_cors_origins",
        default: "none",
        help: "Origins whose pages may call the HTTP interface from a browser, with commas between them: \
               \"https://app.example.org\", or \"*\" for all. They need tokens as everybody does.",
        set: |draft, text| {
            put(&mut draft.config.http_cors_origins, optional(text, origins).map(Option::unwrap_or_default))
        },
    },
    Setting {
        key: "http_connections",
        default: "12000",
        help: "Connections to the HTTP address open at once, those that follow a topic included; one more is answered with 503. \
               Each takes some 20 KiB. Raise it when conveyor_http_connections comes near it and memory allows.",
        set: |draft, text| put(&mut draft.config.http_connection_count_max, count(text, 1, 1_000_000)),
    },
    Setting {
        key: "name",
        default: "auto",
        help: "What people call this peer, 1 to 32 of a-z, 0-9 and \"-\"; \"auto\" takes the host's name at the \
               first start. It goes into the certificate and stays: another name at a later start is an error. \
               Decoration: printed in ids and logs, and no other peer relies on it.",
        set: |draft, text| put(&mut draft.config.name, peer_name(text)),
    },
    Setting {
        key: "peers.join",
        default: "none",
        help: "Where other peers are, as host:port or host, some or all of them: \"10.0.0.1:8011,10.0.0.2:8011\", or a list. Each \
               is dialled until it answers, and again when it is lost; names are resolved anew each time. One's own \
               address may stand among them, so that all peers can have the same list. Watch conveyor_sessions.",
        set: |draft, text| {
            put(&mut draft.config.peers.join, optional(text, addresses).map(Option::unwrap_or_default))
        },
    },
    Setting {
        key: "peers.drain_ms",
        default: "10s",
        help: "How long a peer that is told to stop waits until another peer holds what it wrote. It takes nothing new \
               meanwhile, and a second signal ends it at once. 0 does not wait. More rides out a slow link, less stops \
               sooner. The log says what nobody else holds in the end.",
        set: |draft, text| put(&mut draft.config.peers.drain_ms, ms(text, 0, DAY_MS)),
    },
    Setting {
        key: "peers.behind_entries_max",
        default: "100000",
        help: "/readyz says no while other peers hold more entries than this that are not here yet, so that whoever \
               spreads clients sends them elsewhere until a peer that was away has caught up. Watch \
               conveyor_missing_entries.",
        set: |draft, text| put(&mut draft.config.peers.behind_entries_max, count(text, 1, u64::MAX / 2)),
    },
    Setting {
        key: "peers.advertise",
        default: "auto",
        help: "The UDP address, IP:port, at which other peers reach this one, where that is not the one its packets come \
               from: behind address translation, or with several addresses. \"auto\" lets them use that one.",
        set: |draft, text| {
            put(
                &mut draft.config.peers.advertise,
                match text {
                    "auto" => Ok(None),
                    text => address(text).map(Some),
                },
            )
        },
    },
    Setting {
        key: "log.format",
        default: "text",
        help: "\"text\" for people, \"json\" for machines that collect logs. On standard error.",
        set: |draft, text| put(&mut draft.config.log.format, log_format(text)),
    },
    Setting {
        key: "log.level",
        default: "info",
        help: "error, warn, info, debug or trace, also module by module: \"info,conveyor::log=debug\". From debug on \
               each request costs a line; raise it to look for something, and set it back.",
        set: |draft, text| put(&mut draft.config.log.level, log_level(text)),
    },
    Setting {
        key: "limits.connections",
        default: "10000",
        help: "Client connections open at once; one more is refused. Each takes some 64 KiB. Raise it when \
               conveyor_connections comes near it and memory allows.",
        set: |draft, text| put(&mut draft.config.limits.connection_count_max, count(text, 1, 1_000_000)),
    },
    Setting {
        key: "limits.streams",
        default: "256",
        help: "Requests, tails included, in flight on one connection; further ones wait at the client. Raise it for \
               programs that follow thousands of topics over one connection.",
        set: |draft, text| put(&mut draft.config.limits.stream_count_max, count(text, 1, 100_000)),
    },
    Setting {
        key: "limits.in_flight_bytes",
        default: "64 MiB",
        help: "Memory of appends taken from clients and not yet durable, counted unpacked and with 48 bytes for each \
               entry; at the bound clients wait. More lets one flush carry more. Raise it on slow disks with many \
               writers, and watch conveyor_append_in_flight_bytes.",
        set: |draft, text| put(&mut draft.config.limits.in_flight_bytes_max, bytes(text, 32 << 20, 16 << 30)),
    },
    Setting {
        key: "disk.reserve_bytes",
        default: "256 MiB",
        help: "Free space at which appends stop with a clear error, while reads, trims and deletions go on, so that \
               room can be won back. Raise it where other programs fill the same disk in bursts. Watch \
               conveyor_disk_free_bytes and conveyor_appends_open.",
        set: |draft, text| put(&mut draft.config.disk_reserve_bytes, bytes(text, 0, 1 << 50)),
    },
    Setting {
        key: "disk.read_threads",
        default: "4",
        help: "Threads that read from the disk for readers. More help disks that serve many reads at once, when \
               replays from cold files are slow while the processor idles.",
        set: |draft, text| put(&mut draft.config.read_thread_count, count(text, 1, 256)),
    },
    Setting {
        key: "scrub.bytes_per_second",
        default: "8 MiB",
        help: "How fast what is stored is read again in the background, to find damage before somebody needs what it \
               took: checksums, digests, signatures. 0 turns it off. More finds damage sooner, and takes from the disk \
               what readers and writers could use. Raise it where conveyor_scrub_rounds stands still for longer than \
               scrub.interval_ms; watch conveyor_scrub_damage.",
        set: |draft, text| put(&mut draft.config.scrub.bytes_per_s, bytes(text, 0, 1 << 40)),
    },
    Setting {
        key: "scrub.interval_ms",
        default: "7d",
        help: "Everything is read again at most once in this time. A start begins a round at once, at a log drawn by \
               lot. Less finds damage sooner and wears the disk; more suits disks that check themselves. Watch \
               conveyor_scrub_last_round_seconds.",
        set: |draft, text| put(&mut draft.config.scrub.interval_ms, ms(text, 1_000, YEAR_MS)),
    },
    Setting {
        key: "clock.skew_ms_max",
        default: "60s",
        help: "How far this clock may be off, also from those of other peers, before removal by age pauses (appends and \
               reads go on). Less notices a wrong clock sooner, more bears coarse clocks. Watch conveyor_clock_trusted.",
        set: |draft, text| put(&mut draft.config.skew_ms_max, ms(text, 100, DAY_MS)),
    },
    Setting {
        key: "clock.settle_ms",
        default: "1h",
        help: "After a start that found the clock far ahead of what was last written: how long the clock must run \
               steadily before removal by age goes on, unless other peers show the same time. `conveyor clock accept` \
               ends the wait. Less risks removing everything on a wrong date.",
        set: |draft, text| put(&mut draft.config.clock_settle_ms, ms(text, 1_000, YEAR_MS)),
    },
    Setting {
        key: "topics.auto_create",
        default: "true",
        help: "Whether the first append makes a topic. false: only `conveyor topic create` does, which turns typing \
               errors into errors.",
        set: |draft, text| put(&mut draft.config.auto_create, flag(text)),
    },
    Setting {
        key: "topics.durability",
        default: "fsync",
        help: "What an acknowledgement means in topics that do not say: \"fsync\" survives power loss, \"buffered\" \
               only a crash of the process, and is faster where flushes are slow, \"replicas=3\" the loss of any two of \
               three peers with their disks, and waits for the two fastest others.",
        set: |draft, text| put(&mut draft.config.topic_defaults.durability, durability(text)),
    },
    Setting {
        key: "topics.replicas_timeout_ms",
        default: "5s",
        help: "How long an append with \"replicas=N\" waits for other peers once it is durable here. Then it is answered \
               with an error that says how many hold it: it is in the log, and the same append again waits on. More \
               rides out a restart of a peer, less lets clients know sooner; what waits takes of \
               limits.in_flight_bytes. Watch conveyor_append_copies_seconds and conveyor_appends_awaiting_copies.",
        set: |draft, text| put(&mut draft.config.replicas_timeout_ms, ms(text, 100, DAY_MS)),
    },
    Setting {
        key: "topics.retention_age_ms",
        default: "none",
        help: "Entries older than this are removed, in topics that do not say otherwise. Those dated ahead, by a \
               clock that was wrong, go with what was appended behind them. Watch conveyor_topic_stored_bytes.",
        set: |draft, text| {
            put(
                &mut draft.config.topic_defaults.retention.age_ms,
                optional(text, |t| ms(t, 1_000, 1000 * YEAR_MS)),
            )
        },
    },
    Setting {
        key: "topics.retention_bytes",
        default: "none",
        help: "The oldest batches go while this peer's log of a topic is larger than this. Whole batches, so a log \
               may keep a little more.",
        set: |draft, text| {
            put(
                &mut draft.config.topic_defaults.retention.bytes,
                optional(text, |t| bytes(t, 1 << 20, 1 << 60)),
            )
        },
    },
    Setting {
        key: "topics.retention_count",
        default: "none",
        help: "Only this many newest entries of this peer's log of a topic stay (and the rest of their oldest batch).",
        set: |draft, text| {
            put(
                &mut draft.config.topic_defaults.retention.count,
                optional(text, |t| count(t, 1, u64::MAX / 2)),
            )
        },
    },
    Setting {
        key: "tls.cert",
        default: "auto",
        help: "This peer's certificate (PEM), when you bring your own; \"auto\" uses what stands in the data \
               directory. All three of tls.* or none.",
        set: |draft, text| put(&mut draft.cert, file(text)),
    },
    Setting {
        key: "tls.key",
        default: "auto",
        help: "Its private key (PEM, Ed25519). Nobody but the peer's user should be able to read it.",
        set: |draft, text| put(&mut draft.key, file(text)),
    },
    Setting {
        key: "tls.ca",
        default: "auto",
        help: "The certificate (PEM) of the authority that signs peers and clients of this cluster.",
        set: |draft, text| put(&mut draft.ca, file(text)),
    },
];

fn put<T>(slot: &mut T, value: Result<T, BadValue>) -> Result<(), BadValue> {
    *slot = value?;
    Ok(())
}

fn directory(text: &str) -> Result<PathBuf, BadValue> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    match (text.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => Ok(PathBuf::from(home).join(below)),
        (Some(_), None) => Err(BadValue::new("a full path, since HOME is not set")),
        (None, _) if text.is_empty() => Err(BadValue::new("the path of a directory")),
        (None, _) => Ok(PathBuf::from(text)),
    }
}

fn file(text: &str) -> Result<Option<PathBuf>, BadValue> {
    match text {
        "auto" => Ok(None),
        text => directory(text).map(Some),
    }
}

fn address(text: &str) -> Result<SocketAddr, BadValue> {
    text.parse()
        .map_err(|_| BadValue::new("an IP address and a port, such as \"127.0.0.1:8011\" or \"[::]:8011\""))
}

/// Origins of pages with commas between them.
fn origins(text: &str) -> Result<Vec<String>, BadValue> {
    let is_origin = |origin: &str| {
        let host = origin.split_once("://").map(|(_, host)| host);
        origin == "*" || host.is_some_and(|host| !host.is_empty() && !host.contains(['/', ' ', '*']))
    };
    let origins: Vec<String> = text.split(',').map(|origin| origin.trim().to_owned()).collect();
    match origins.iter().all(|origin| is_origin(origin)) {
        true => Ok(origins),
        false => {
            Err(BadValue::new("origins such as \"https://app.example.org\" without a slash behind, or \"*\""))
        }
    }
}

/// Addresses with commas between them.
fn addresses(text: &str) -> Result<Vec<String>, BadValue> {
    let is_address = |address: &str| {
        let parts =
            address.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains([' ', '/', ';']));
        parts.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    let is_bare = |address: &str| !address.contains([':', ' ', '/', ';']);
    let whole = |address: &str| if is_bare(address) { format!("{address}:8011") } else { address.to_owned() };
    let named = text.split(',').map(str::trim).filter(|address| !address.is_empty());
    let all: Vec<String> = named.map(whole).collect();
    match all.iter().find(|address| !is_address(address)) {
        None => Ok(all),
        Some(bad) => {
            let remedy = "host:port, or a host for port 8011, with commas between";
            Err(BadValue::new(format!("{remedy}, such as \"10.0.0.1:8011,beta\"; {bad:?} is none")))
        }
    }
}

fn peer_name(text: &str) -> Result<Option<PeerName>, BadValue> {
    match text {
        "auto" => Ok(None),
        text => PeerName::new(text)
            .map(Some)
            .map_err(|_| BadValue::new("1 to 32 of a-z, 0-9 and \"-\", or \"auto\"")),
    }
}

fn log_format(text: &str) -> Result<LogFormat, BadValue> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(BadValue::new("\"text\" or \"json\"")),
    }
}

fn log_level(text: &str) -> Result<String, BadValue> {
    let remedy =
        "error, warn, info, debug or trace, or module by module such as \"info,conveyor::log=debug\"";
    // The filter itself takes any bare word for the name of a module, of which it then shows everything.
    let is_level = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim().to_ascii_lowercase();
        ["off", "error", "warn", "info", "debug", "trace"].contains(&level.as_str())
    };
    match EnvFilter::try_new(text) {
        Ok(_) if text.split(',').all(is_level) => Ok(text.to_owned()),
        _ => Err(BadValue::new(remedy)),
    }
}

fn durability(text: &str) -> Result<Durability, BadValue> {
    text.parse().map_err(|_| BadValue::new("\"fsync\", \"buffered\", or \"replicas=N\" with N from 2 to 255"))
}

/// The configuration file with every setting at its default, explained.
pub fn default_file() -> String {
    let mut out = String::from(
        "# Conveyor's settings, all at their defaults. Keep the lines you change; an unknown key is an error.\n\
         # Each can also be set in the environment, which wins over this file; flags win over both.\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        if setting.section() != section {
            section = setting.section();
            out.push_str(&format!("\n[{section}]\n"));
        }
        out.push('\n');
        wrapped(&mut out, setting.help);
        out.push_str(&format!(
            "# {}\n{} = {}\n",
            setting.variable(),
            setting.name(),
            literal(setting.default)
        ));
    }
    out
}

/// A value as TOML: numbers and booleans bare, everything else quoted.
pub(super) fn literal(text: &str) -> String {
    let is_bare = text.parse::<u64>().is_ok() || text.parse::<bool>().is_ok();
    if is_bare { text.to_owned() } else { toml::Value::String(text.to_owned()).to_string() }
}

fn wrapped(out: &mut String, text: &str) {
    let mut width = 0;
    for word in text.split_whitespace() {
        if width > 0 && width + 1 + word.len() > 98 {
            out.push('\n');
            width = 0;
        }
        out.push_str(if width == 0 { "# " } else { " " });
        out.push_str(word);
        width += word.len() + if width == 0 { 2 } else { 1 };
    }
    out.push('\n');
}
