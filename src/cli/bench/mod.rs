//! `conveyor bench`: how fast a peer is, beside what its disk and its loopback could do at most.
//!
//! ```text
//! limits of disk and loopback ──> the workload ──> limits that depend on what it reached ──> report with ratios
//! ```
//!
//! Numbers alone say little about a program: half of them is the machine. So each run measures the machine too, in the
//! same minute, on the same disk, with the same payloads, and a report gives the ratio to that.
mod cluster;
mod deliver;
mod disk;
mod flood;
mod latency;
mod load;
mod peer;
mod peers;
mod put;
mod quic;
mod report;
mod watched;
mod work;

use crate::base::Durability;
use crate::base::limits::PAYLOAD_BYTES_MAX;
use crate::cli::connect::Connection;
use crate::cli::exit::{Exit, failure};
use crate::cli::interrupted;
use crate::cli::output::Out;
use crate::cli::usage::count_min_1;
use crate::server::config::{parse_bytes, parse_duration};
use anyhow::Result;
use clap::{Arg, Args, Subcommand, ValueHint};
use peer::Scratch;
use report::Report;
use std::path::PathBuf;
use std::time::Duration;

/// How long each limit of the machine is measured, at most.
const LIMIT_TIME_MAX: Duration = Duration::from_secs(3);
/// How long what still runs may take to stop, when all is measured or Ctrl-C came.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);

/// Measure a peer, and the machine it runs on.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Clients that append one entry at a time and wait for its acknowledgement
    #[command(
        mut_arg("clients", |arg| arg.help("Clients, each with a connection of its own [default: 100, or as many as topics]")),
        mut_arg("in_flight", |arg| refused::<usize>(arg, "each client has one entry in flight; --clients says how many there are")),
        after_help = "\
Examples:
  conveyor bench put-many
  conveyor bench put-many --clients 1
  conveyor bench put-many --clients 100 --topics 100 --seconds 20 -o json

What 100 clients together should reach is compared from 100 clients on."
    )]
    PutMany(Setup),
    /// One producer with many entries in flight, and one consumer
    #[command(
        mut_arg("clients", |arg| refused::<usize>(arg, "a flood is one producer and one consumer; put-many has clients")),
        mut_arg("topics", |arg| refused::<usize>(arg, "a flood goes to one topic; put-many spreads over topics")),
        after_help = "Example:\n  conveyor bench flood --in-flight 1000 --payload-bytes '16 KiB'"
    )]
    Flood(Setup),
    /// Read everything from the start; digests are checked at the client
    #[command(
        mut_arg("clients", |arg| refused::<usize>(arg, "a replay is one consumer; fan-out has many")),
        mut_arg("topics", |arg| refused::<usize>(arg, "a replay is of one topic")),
        mut_arg("time", |arg| refused::<Duration>(arg, "a replay ends behind the last entry; --bytes says how much there is")),
        mut_arg("count", |arg| refused::<u64>(arg, "a replay ends behind the last entry; --bytes says how much there is")),
        after_help = "Example:\n  conveyor bench replay --payload-bytes '16 KiB' --bytes '1 GiB'"
    )]
    Replay {
        #[command(flatten)]
        setup: Setup,
        /// How much is appended before, and then read
        #[arg(long, default_value = "1 GiB", value_name = "SIZE", value_parser = parse_bytes)]
        bytes: u64,
    },
    /// Many tails on one topic: how far they are behind
    #[command(
        mut_arg("clients", |arg| arg.help("Tails [default: 1000]")),
        mut_arg("in_flight", |arg| refused::<usize>(arg, "entries are appended one by one; --rate says how often")),
        mut_arg("topics", |arg| refused::<usize>(arg, "all tails follow one topic")),
        after_help = "Example:\n  conveyor bench fan-out --clients 1000 --connections 50 --rate 50"
    )]
    FanOut {
        #[command(flatten)]
        setup: Setup,
        /// Connections that the tails share
        #[arg(long, default_value_t = 50, value_name = "COUNT", value_parser = at_least_1)]
        connections: usize,
        /// Entries appended each second
        #[arg(long, default_value_t = 50, value_name = "COUNT", value_parser = count_min_1)]
        rate: u64,
    },
    /// Gets by id while a producer floods
    #[command(
        mut_arg("clients", |arg| arg.help("Clients that get, each with a connection of its own [default: 4]")),
        mut_arg("topics", |arg| refused::<usize>(arg, "all that is got and flooded is of one topic")),
        after_help = "Example:\n  conveyor bench get-under-flood --clients 4 --seconds 20"
    )]
    GetUnderFlood(Setup),
    /// Clients that append small entries beside a writer of 16 MiB entries
    #[command(
        mut_arg("clients", |arg| arg.help("Clients, each with a connection of its own [default: 10]")),
        mut_arg("in_flight", |arg| refused::<usize>(arg, "each client has one entry in flight; --clients says how many there are")),
        after_help = "Example:\n  conveyor bench put-beside-bulk --clients 10 --seconds 20"
    )]
    PutBesideBulk(Setup),
    /// Consumers that drain a backlog, each acknowledging one entry and taking the next
    #[command(
        mut_arg("payload_bytes", |arg| arg.default_value("100 B")),
        mut_arg("clients", |arg| arg.help("Producers, and then consumers, each with a connection of its own [default: 100]")),
        mut_arg("in_flight", |arg| refused::<usize>(arg, "each consumer has one entry; --clients says how many there are")),
        mut_arg("topics", |arg| refused::<usize>(arg, "all that is worked on is of one topic")),
        after_help = "\
Example:
  conveyor bench work-queue --seconds 20

The first half of the run appends the backlog, as put-many does."
    )]
    WorkQueue(Setup),
    /// Consumers that wait on an empty queue, and now and then get something
    #[command(
        mut_arg("clients", |arg| arg.help("Consumers, each with a connection of its own [default: 100]")),
        mut_arg("in_flight", |arg| refused::<usize>(arg, "entries are appended one by one, each 100 ms")),
        mut_arg("topics", |arg| refused::<usize>(arg, "all consumers wait for one topic")),
        after_help = "Example:\n  conveyor bench many-clients --clients 100 --seconds 20"
    )]
    ManyClients(Setup),
    /// A long backlog, taken in order by one consumer: how much memory that takes
    #[command(
        mut_arg("clients", |arg| refused::<usize>(arg, "order is what one consumer sees; work-queue has many")),
        mut_arg("in_flight", |arg| refused::<usize>(arg, "the backlog is as long as --items says")),
        mut_arg("topics", |arg| refused::<usize>(arg, "the backlog is of one topic")),
        mut_arg("time", |arg| refused::<Duration>(arg, "it ends behind the last item; --items says how many there are")),
        mut_arg("count", |arg| refused::<u64>(arg, "it ends behind the last item; --items says how many there are")),
        after_help = "Example:\n  conveyor bench packing --items 1000000"
    )]
    Packing {
        #[command(flatten)]
        setup: Setup,
        /// How long the backlog is
        #[arg(long, default_value_t = 1_000_000, value_name = "COUNT", value_parser = count_min_1)]
        items: u64,
    },
    /// Two peers: how soon a reader of one has what is appended at the other
    #[command(
        mut_arg("clients", |arg| refused::<usize>(arg, "a hop is one producer and one tail")),
        mut_arg("topics", |arg| refused::<usize>(arg, "a hop is of one topic")),
        mut_arg("in_flight", |arg| refused::<usize>(arg, "entries are appended one by one; --rate says how often")),
        after_help = "Example:\n  conveyor bench hop --rate 1000 --seconds 20"
    )]
    Hop {
        #[command(flatten)]
        setup: Setup,
        /// Entries appended each second
        #[arg(long, default_value_t = 1000, value_name = "COUNT", value_parser = count_min_1)]
        rate: u64,
    },
    /// Two peers: clients whose entries both hold before they are acknowledged
    #[command(
        mut_arg("clients", |arg| arg.help("Clients, each with a connection of its own [default: 100]")),
        mut_arg("topics", |arg| refused::<usize>(arg, "there is a topic for each durability")),
        mut_arg("durability", |arg| arg.hide(true)),
        mut_arg("in_flight", |arg| refused::<usize>(arg, "each client has one entry in flight; --clients says how many there are")),
        after_help = "Example:\n  conveyor bench copies --clients 100 --seconds 20"
    )]
    Copies(Setup),
    /// An empty peer that gets what others hold
    #[command(
        mut_arg("clients", |arg| refused::<usize>(arg, "one producer fills the first peer")),
        mut_arg("topics", |arg| refused::<usize>(arg, "all is of one topic")),
        mut_arg("time", |arg| refused::<Duration>(arg, "it ends when all is there; --bytes says how much there is")),
        mut_arg("count", |arg| refused::<u64>(arg, "it ends when all is there; --bytes says how much there is")),
        after_help = "Example:\n  conveyor bench catch-up --bytes '1 GiB' --payload-bytes '16 KiB'"
    )]
    CatchUp {
        #[command(flatten)]
        setup: Setup,
        /// How much is appended before, and then fetched
        #[arg(long, default_value = "1 GiB", value_name = "SIZE", value_parser = parse_bytes)]
        bytes: u64,
    },
    /// Five peers that have nothing to do: what they cost, and what they say all the same
    #[command(
        mut_arg("clients", |arg| refused::<usize>(arg, "nobody appends")),
        mut_arg("topics", |arg| refused::<usize>(arg, "nobody appends")),
        mut_arg("count", |arg| refused::<u64>(arg, "nobody appends; --seconds says how long it is measured")),
        mut_arg("in_flight", |arg| refused::<usize>(arg, "nobody appends")),
        mut_arg("time", |arg| arg.help("How long it is measured: a number of seconds, or with a unit such as 2m [default: 60s]")),
        after_help = "Example:\n  conveyor bench idle --seconds 60"
    )]
    Idle(Setup),
}

/// What all workloads take.
#[derive(Debug, Clone, Args)]
pub struct Setup {
    /// Bytes of a payload
    #[arg(long, default_value = "1 KiB", value_name = "SIZE", value_parser = parse_bytes)]
    payload_bytes: u64,
    /// Clients, each with a connection of its own
    #[arg(long, value_name = "COUNT", value_parser = at_least_1)]
    clients: Option<usize>,
    /// Entries in flight of one producer [default: 1000]
    #[arg(long, value_name = "COUNT", value_parser = at_least_1)]
    in_flight: Option<usize>,
    /// What an acknowledgement means: fsync or buffered
    #[arg(long, default_value = "fsync", value_name = "LEVEL")]
    durability: Durability,
    /// Topics that the clients spread over [default: 1]
    #[arg(long, value_name = "COUNT", value_parser = at_least_1)]
    topics: Option<usize>,
    /// How long a workload runs: a number of seconds, or with a unit such as 2m [default: 10s]
    #[arg(long = "seconds", value_name = "DURATION", value_parser = seconds)]
    time: Option<Duration>,
    /// Stop after so many entries, if that comes first
    #[arg(long, value_name = "COUNT", value_parser = count_min_1)]
    count: Option<u64>,
    /// Where the scratch directory of the peer and of the disk's limits goes, which says what disk is measured [default:
    /// the system's directory for temporary files]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    scratch: Option<PathBuf>,
    /// Measure the workload alone, without the machine's limits
    #[arg(long)]
    no_limits: bool,
    /// Measure a peer that runs already (--connect, or --data-dir) instead of one started for it. The disk that it is
    /// compared with is always the one under --scratch, on this machine: name a directory on the peer's own disk there,
    /// or leave the comparison out with --no-limits
    #[arg(long)]
    running: bool,
    #[command(flatten)]
    connection: Connection,
}

/// A plain number is seconds; with a unit it is what it says.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Duration::from_millis(parse_duration(text).map_err(|error| error.to_string())?),
    };
    if time.is_zero() { Err("give more than 0, such as 10 for ten seconds".to_owned()) } else { Ok(time) }
}

/// An argument that all workloads share and that one has no use for: whoever gives it is told so.
fn refused<T: Clone + Send + Sync + 'static>(arg: Arg, why: &'static str) -> Arg {
    arg.hide(true).value_parser(move |_: &str| Err::<T, String>(why.to_owned()))
}

fn at_least_1(text: &str) -> Result<usize, String> {
    count_min_1(text).map(|count| count as usize)
}

impl Setup {
    fn payload_bytes(&self) -> usize {
        self.payload_bytes as usize
    }

    fn clients(&self, default: usize) -> usize {
        self.clients.unwrap_or(default)
    }

    fn in_flight(&self) -> usize {
        self.in_flight.unwrap_or(1000)
    }

    fn topics(&self) -> usize {
        self.topics.unwrap_or(1)
    }

    fn time(&self) -> Duration {
        self.time.unwrap_or(Duration::from_secs(10))
    }

    /// How long each limit of the machine is measured: no longer than the workload, and no longer than pays.
    fn limit_time(&self) -> Duration {
        self.time().min(LIMIT_TIME_MAX)
    }

    fn check(&self) -> Result<()> {
        if self.payload_bytes() > PAYLOAD_BYTES_MAX {
            let message = "--payload-bytes is 16 MiB at most, as an entry's payload is";
            return Err(failure(Exit::Usage, message));
        }
        Ok(())
    }
}

impl Bench {
    /// Runs the workload and prints its report.
    pub fn run(mut self, out: &mut Out) -> Result<()> {
        self.setup().check()?;
        self.check_copies()?;
        let scratch = Scratch::make(self.setup().scratch.as_deref())?;
        self.setup().scratch = Some(scratch.path().to_path_buf());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let ended = runtime.block_on(async {
            tokio::select! {
                biased;
                () = interrupted() => Err(failure(Exit::Interrupted, "interrupted; nothing was measured to its end")),
                report = self.measure() => report,
            }
        });
        watched::end();
        // A peer that was started for this has stopped, or is stopped with the runtime, as tails are that still wait.
        runtime.shutdown_timeout(STOP_TIME_MAX);
        drop(scratch);
        out.show(&ended?, Report::text)
    }

    /// One peer alone never gives an answer that waits for another.
    fn check_copies(&mut self) -> Result<()> {
        let is_alone =
            !matches!(self, Self::Hop { .. } | Self::Copies(_) | Self::CatchUp { .. } | Self::Idle(_));
        let is_both = matches!(self, Self::Copies(_));
        let setup = self.setup();
        if is_both && setup.durability != Durability::Fsync {
            return Err(failure(Exit::Usage, "fsync and replicas=2 are compared; leave --durability out"));
        }
        let waits = matches!(setup.durability, Durability::Replicas(count) if count > 1);
        if is_alone && waits && !setup.running {
            let message = "one peer is measured, and nobody else holds a copy; `bench copies` has two, or give --running";
            return Err(failure(Exit::Usage, message));
        }
        Ok(())
    }

    fn setup(&mut self) -> &mut Setup {
        match self {
            Self::PutMany(setup)
            | Self::Flood(setup)
            | Self::GetUnderFlood(setup)
            | Self::PutBesideBulk(setup)
            | Self::WorkQueue(setup)
            | Self::ManyClients(setup)
            | Self::Copies(setup)
            | Self::Idle(setup) => setup,
            Self::Replay { setup, .. }
            | Self::FanOut { setup, .. }
            | Self::Packing { setup, .. }
            | Self::Hop { setup, .. }
            | Self::CatchUp { setup, .. } => setup,
        }
    }

    async fn measure(self) -> Result<Report> {
        match self {
            Self::PutMany(setup) => put::many(&setup).await,
            Self::PutBesideBulk(setup) => put::beside_bulk(&setup).await,
            Self::Flood(setup) => flood::flood(&setup).await,
            Self::Replay { setup, bytes } => flood::replay(&setup, bytes).await,
            Self::FanOut { setup, connections, rate } => deliver::fan_out(&setup, connections, rate).await,
            Self::GetUnderFlood(setup) => deliver::get_under_flood(&setup).await,
            Self::WorkQueue(setup) => work::queue(&setup).await,
            Self::ManyClients(setup) => work::idle(&setup).await,
            Self::Packing { setup, items } => work::packing(&setup, items).await,
            Self::Hop { setup, rate } => peers::hop(&setup, rate).await,
            Self::Copies(setup) => peers::copies(&setup).await,
            Self::CatchUp { setup, bytes } => peers::catch_up(&setup, bytes).await,
            Self::Idle(setup) => peers::idle(&setup).await,
        }
    }
}
