//! `klamm produce`: records from standard input or files to a topic.
//!
//! Nothing is dropped in silence: empty lines are records, what cannot be sent is named with its line, and the
//! exit code is 0 only if every record was acknowledged (with `-d`: synced to disk).

mod bell;
mod feed;
mod report;
mod source;

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::args::{Connection, Target};
use crate::cli::audit::{AuditArgs, Auditor, Side};
use crate::cli::embedded::Embedded;
use crate::cli::exit::{Exit, usage};
use crate::cli::format::escape::unescape;
use crate::cli::format::input::{Delimited, InputFormat, Splitter};
use crate::cli::output::Output;
use crate::client::{Acks, Bootstrap, ClientConfig, Cluster, Partitioner};
use crate::record::Codec;
use crate::types::{Clock, SystemClock, TopicName, parse_time};

use feed::{Feed, Fixed};

/// Send records from standard input or files to a topic.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without a flag that says otherwise, each line is the value of one record; empty lines are records too.
Format strings (-f) are those of 'klamm consume -f', so that what one prints the other sends again.

Examples:
  klamm produce numbers < numbers.txt
  seq 1000 | klamm produce numbers
  klamm produce orders orders.txt -K '\\t' -z zstd --report
  klamm produce blobs -D '' picture.png -H type=image/png -k picture.png
  klamm consume a -e --json | klamm produce b --json
  klamm consume a -e -f '%K{big32}%k%V{big32}%v' | klamm produce b -f '%K{big32}%k%V{big32}%v'
  klamm produce orders orders.txt --audit audit
  journalctl -f | klamm produce logs -d /var/lib/klamm")]
pub struct Args {
    /// The topic; '-' or nothing: each record's own (--json, or %t in -f)
    topic: Option<String>,

    /// Files to send, in order; '-' is standard input
    files: Vec<PathBuf>,

    /// What ends a record; empty: each file is one record. Escapes: \n \t \r \0 \xNN
    #[arg(short = 'D', long, value_name = "DELIMITER", default_value = "\\n", conflicts_with_all = ["format", "json"])]
    delimiter: String,

    /// What stands between key and value
    #[arg(short = 'K', long, value_name = "DELIMITER", conflicts_with_all = ["format", "json", "key"])]
    key_delimiter: Option<String>,

    /// Read records by a format string: %k key, %v value, %K %V their lengths, %T timestamp, %H %h{…} headers
    #[arg(short = 'f', long, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<String>,

    /// Read one JSON object a line: what 'consume --json' and 'kcat -J' print. Reports are JSON too
    #[arg(long)]
    json: bool,

    /// The key of every record that has none of its own
    #[arg(short, long, value_name = "KEY")]
    key: Option<String>,

    /// The partition of every record
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,

    /// A header of every record; without '=' its value is null. May be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,

    /// The timestamp of every record that has none of its own: ISO 8601, epoch milliseconds, -15m
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    timestamp: Option<String>,

    /// An empty key or value is null
    #[arg(short = 'Z', long)]
    null: bool,

    /// Send each record to the partition that it names (--json, or %p in -f)
    #[arg(long, conflicts_with = "partition")]
    keep_partition: bool,

    /// Compress: none, gzip, snappy, lz4 or zstd, with a level if you like: zstd:9
    #[arg(short = 'z', long, value_name = "CODEC")]
    compression: Option<String>,

    /// When a record counts as sent: 0 (at once), 1 (the leader has it) or all (in-sync replicas have it)
    #[arg(short, long, value_name = "ACKS")]
    acks: Option<AcksArg>,

    /// Where keys go: murmur2 (as Java's clients), crc32 (as librdkafka's), random, round-robin
    #[arg(long, value_name = "NAME", value_parser = Partitioner::NAMES, conflicts_with = "partition")]
    partitioner: Option<String>,

    /// Print topic, partition and offset of every record that was acknowledged
    #[arg(long)]
    report: bool,

    /// Print the input again, record by record, as it is sent
    #[arg(short = 'T', long, conflicts_with = "report")]
    tee: bool,

    /// Stop after so many records
    #[arg(short = 'c', long, value_name = "N")]
    count: Option<u64>,

    #[command(flatten)]
    audit: AuditArgs,

    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum AcksArg {
    #[value(name = "0")]
    None,
    #[value(name = "1", alias = "leader")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

/// Runs the command.
///
/// # Errors
/// Wrong usage, no broker, a directory that cannot be used. Records that were not acknowledged are said and
/// make the exit code 1.
pub fn run(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    let config = config(args, output)?;
    let feed = feed(args)?;
    let auditor = Auditor::start(&args.audit, Side::Produced, None, &args.connection, &config.client)?;
    let tally = auditor.as_ref().map(Auditor::tally);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let exit = match args.connection.target()? {
        Target::Cluster(list) => {
            let bootstrap =
                Bootstrap::parse(&list).map_err(|error| usage(format!("'--bootstrap': {error}")))?;
            let cluster = runtime.block_on(Cluster::connect(bootstrap, config.client))?;
            feed.run(&runtime, cluster, config.producer, tally, output)
        }
        Target::Dir(dir) => {
            let embedded = runtime.block_on(Embedded::start(&dir))?;
            let outcome = runtime
                .block_on(Cluster::connect(embedded.bootstrap(), config.client))
                .map_err(anyhow::Error::from)
                .and_then(|cluster| feed.run(&runtime, cluster, config.producer, tally, output));
            // Whatever happened: what was taken is to be on disk before anything is said about it.
            runtime.block_on(embedded.stop())?;
            outcome
        }
    };
    // Whatever happened: what was acknowledged counts.
    let counted = auditor.map_or(Ok(()), Auditor::close);
    let exit = exit?;
    counted?;
    // Connections end with the process; nothing is on its way any more.
    runtime.shutdown_timeout(Duration::ZERO);
    Ok(exit)
}

fn config(args: &Args, output: &mut Output) -> anyhow::Result<ClientConfig> {
    let mut config = args.connection.client_config(output)?;
    let producer = &mut config.producer;
    if let Some(acks) = args.acks {
        producer.acks = match acks {
            AcksArg::None => Acks::None,
            AcksArg::Leader => Acks::Leader,
            AcksArg::All => Acks::All,
        };
    }
    if producer.idempotence == Some(true) && producer.acks != Acks::All {
        return Err(usage("'--acks': enable.idempotence=true needs --acks all"));
    }
    if let Some(given) = &args.compression {
        let (name, level) = given.split_once(':').map_or((given.as_str(), None), |(n, l)| (n, Some(l)));
        producer.codec = Codec::from_name(name).ok_or_else(|| {
            usage(format!("'--compression {given}': none, gzip, snappy, lz4 or zstd is expected"))
        })?;
        if let Some(level) = level {
            let level = level
                .parse()
                .map_err(|_| usage(format!("'--compression {given}': the level is not a number")))?;
            producer.levels.push((producer.codec, level));
        }
        producer.compression().map_err(|error| usage(format!("'--compression {given}': {error}")))?;
    }
    if let Some(name) = &args.partitioner {
        producer.partitioner = name.parse().map_err(usage)?;
    }
    Ok(config)
}

fn feed(args: &Args) -> anyhow::Result<Feed> {
    let topic = args.topic.as_deref().filter(|&topic| topic != "-");
    if let Some(topic) = topic {
        TopicName::new(topic).map_err(|error| usage(error.to_string()))?;
    }
    let names_topics = args.json || args.format.as_ref().is_some_and(|format| format.contains("%t"));
    if topic.is_none() && !names_topics {
        return Err(usage("which topic? Name it, or let records name theirs with --json or %t in -f"));
    }
    let names_partitions = args.json || args.format.as_ref().is_some_and(|format| format.contains("%p"));
    if args.keep_partition && !names_partitions {
        return Err(usage("'--keep-partition': records name their partition only with --json, or %p in -f"));
    }
    let now_ms = SystemClock::new().now_ms();
    let timestamp_ms = match &args.timestamp {
        Some(text) => {
            Some(parse_time(text, now_ms).map_err(|error| usage(format!("'--timestamp': {error}")))?)
        }
        None => None,
    };
    Ok(Feed {
        splitter: splitter(args)?,
        files: args.files.clone(),
        topic: topic.map(str::to_owned),
        fixed: Fixed {
            key: args
                .key
                .as_ref()
                .filter(|key| !(args.null && key.is_empty()))
                .map(|k| k.clone().into_bytes()),
            partition: args.partition,
            headers: args.headers.iter().map(|text| header(text)).collect::<anyhow::Result<_>>()?,
            timestamp_ms,
            keeps_partition: args.keep_partition,
        },
        is_report: args.report,
        is_json: args.json,
        is_tee: args.tee,
        count_max: args.count.unwrap_or(u64::MAX),
    })
}

fn splitter(args: &Args) -> anyhow::Result<Splitter> {
    if args.json {
        return Ok(Splitter::Json);
    }
    if let Some(format) = &args.format {
        let format = InputFormat::compile(format, args.null);
        return Ok(Splitter::Format(format.map_err(|error| usage(format!("'--format': {error}")))?));
    }
    let delimiter = unescape(&args.delimiter).map_err(|error| usage(format!("'--delimiter': {error}")))?;
    let key_delimiter = match args.key_delimiter.as_deref().map(unescape) {
        Some(Ok(empty)) if empty.is_empty() => return Err(usage("'--key-delimiter' is empty")),
        Some(Ok(delimiter)) => Some(delimiter),
        Some(Err(error)) => return Err(usage(format!("'--key-delimiter': {error}"))),
        None => None,
    };
    if !delimiter.is_empty() {
        let delimited = Delimited::new(&delimiter, key_delimiter.as_deref(), args.null);
        return Ok(Splitter::Delimited(Box::new(delimited)));
    }
    Ok(Splitter::Whole { key_delimiter, empty_is_null: args.null })
}

/// `NAME=VALUE`, `NAME=` (empty) or `NAME` (null).
fn header(text: &str) -> anyhow::Result<(Vec<u8>, Option<Vec<u8>>)> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    if name.is_empty() {
        return Err(usage(format!("'--header {text}': the name is empty")));
    }
    Ok((name.as_bytes().to_vec(), value.map(|value| value.as_bytes().to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn feed_of(line: &[&str]) -> anyhow::Result<Feed> {
        let args = std::iter::once("produce").chain(line.iter().copied());
        feed(&Command::try_parse_from(args)?.args)
    }

    #[test]
    fn a_topic_must_come_from_somewhere() {
        assert!(feed_of(&["t"]).is_ok());
        assert!(feed_of(&["--json"]).is_ok_and(|feed| feed.topic.is_none()));
        assert!(feed_of(&["-", "--json", "file"]).is_ok_and(|feed| feed.files.len() == 1));
        assert!(feed_of(&["-f", "%t %v\\n"]).is_ok());
        for wrong in [&[][..], &["-"], &["a/b"], &["-f", "%v\\n"]] {
            assert!(feed_of(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn wrong_flags_are_wrong_usage_before_anything_is_sent() {
        for wrong in [
            &["t", "-D", "\\q"][..],
            &["t", "-K", ""],
            &["t", "-f", "%q"],
            &["t", "-f", "%v", "--json"],
            &["t", "-p", "-1"],
            &["t", "-H", "=x"],
            &["t", "--timestamp", "soon"],
            &["t", "-p", "1", "--keep-partition"],
            &["t", "--keep-partition"],
            &["t", "-p", "1", "--partitioner", "random"],
        ] {
            assert!(feed_of(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn headers_may_be_null_or_empty() {
        assert_eq!(header("a=b=c").unwrap(), (b"a".to_vec(), Some(b"b=c".to_vec())));
        assert_eq!(header("a=").unwrap(), (b"a".to_vec(), Some(Vec::new())));
        assert_eq!(header("a").unwrap(), (b"a".to_vec(), None));
    }
}
