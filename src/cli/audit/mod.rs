//! `klamm audit`: whether what was produced was consumed, by the counts that both ends write.
//!
//! `produce --audit` and `consume --audit` count records by topic and by the minute of their timestamps (`tally.rs`) and
//! write the counts to a monitoring topic (`auditor.rs`). This command reads that topic and holds the two ends against
//! each other (`judge.rs`).

mod auditor;
mod judge;
mod tally;

use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::cli::args::Connection;
use crate::cli::exit::{Exit, block_on, usage};
use crate::cli::output::{Output, Table};
use crate::cli::queries::{EARLIEST, LATEST, offsets_at};
use crate::client::{
    Assignment, Cluster, Consumer, ConsumerOptions, Fetched, IsolationLevel, Pulled, Reading,
};
use crate::record::BatchError;
use crate::types::{Clock as _, SystemClock, TopicName, TopicPartition, parse_duration, parse_time};

pub use auditor::{AuditArgs, Auditor};
pub use tally::{Side, Tally};

use judge::{Book, Row, Verdict};
use tally::{Count, VERSION};

/// Hold what was consumed against what was produced.
///
/// Both ends count: 'klamm produce --audit TOPIC' what was acknowledged, 'klamm consume --audit TOPIC' what was read, by
/// topic and by the minute of the records' own timestamps, and write their counts to TOPIC every ten seconds and at their
/// end. This command reads them all and says for each minute and each name that consumes whether it had the same records.
///
/// missing N: so many at least were not consumed. more N: so many more were consumed than produced: read more than once,
/// or produced by somebody who does not count. exchanged: as many, but not the same ones. not known: producers do not
/// know whether some of theirs were written. as many: where records are is not known, so that only numbers were compared.
/// not produced: from before any producer counted. not consumed: nobody counts what is consumed of the topic. open: the
/// minute has ended too short a time ago.
///
/// Exit code 3: something is missing, more or exchanged. 1: something could not be judged.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm produce orders --audit audit < orders.txt
  klamm consume orders -g billing --audit audit | ./bill
  klamm audit audit
  klamm audit audit --topic orders --from -1h --json")]
pub struct Args {
    /// The topic that counts are written to
    topic: String,

    /// Only counts of this topic; may be repeated
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,

    /// Only what was consumed under this name; may be repeated
    #[arg(long = "consumer", value_name = "NAME")]
    consumers: Vec<String>,

    /// Only minutes from this time on: ISO 8601, epoch milliseconds, -15m
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,

    /// Only minutes before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,

    /// A minute is open until so long after its end
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration)]
    grace: Duration,

    /// Minutes that are the same, too
    #[arg(long)]
    all: bool,

    /// One JSON object a line, a line a minute
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Which rows are wanted.
struct Wish<'a> {
    args: &'a Args,
    from: i64,
    until: i64,
}

impl Wish<'_> {
    fn holds(&self, row: &Row) -> bool {
        let Args { topics, consumers, .. } = self.args;
        (topics.is_empty() || topics.contains(&row.topic))
            && (consumers.is_empty() || row.consumer.as_ref().is_none_or(|name| consumers.contains(name)))
            && (self.from..self.until).contains(&row.bucket)
    }
}

/// Runs the command.
///
/// # Errors
/// Wrong usage, or counts that cannot be read.
pub fn run(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    let topic = TopicName::new(&args.topic).map_err(|error| usage(error.to_string()))?;
    let now_ms = SystemClock::new().now_ms();
    let time = |flag: &str, text: &Option<String>, otherwise: i64| match text {
        Some(text) => parse_time(text, now_ms).map_err(|error| usage(format!("'--{flag}': {error}"))),
        None => Ok(otherwise),
    };
    let (from, until) = (time("from", &args.from, i64::MIN)?, time("until", &args.until, i64::MAX)?);
    block_on(0, async {
        let cluster = args.connection.cluster(output).await?;
        let book = read(&cluster, &topic, output).await?;
        let grace_ms = i64::try_from(args.grace.as_millis()).unwrap_or(i64::MAX);
        for silent in book.silent(now_ms) {
            let side = if silent.side == Side::Produced { "produces" } else { "consumes" };
            output.warn(format_args!(
                "{} (session {}), which {side}, did not end in order: what it counted after {} is not known",
                silent.name,
                silent.session,
                time_of(silent.last_at)
            ));
        }
        let wish = Wish { args, from, until };
        let rows: Vec<Row> = book.rows(now_ms, grace_ms).into_iter().filter(|row| wish.holds(row)).collect();
        show(&rows, args, output)
    })
}

/// Reads all counts that are there now.
async fn read(cluster: &Cluster, topic: &TopicName, output: &mut Output) -> anyhow::Result<Book> {
    let metadata = cluster.topic(topic.as_str(), false).await?;
    let partitions: Vec<TopicPartition> =
        metadata.partitions.iter().map(|one| TopicPartition::new(topic.clone(), one.partition)).collect();
    let starts = offsets_at(cluster, &partitions, EARLIEST, 0).await;
    let mut assignments = Vec::new();
    for (partition, end) in offsets_at(cluster, &partitions, LATEST, 0).await {
        let offset = |found: crate::cli::queries::FoundOffset| found.offset.map_or(0, |offset| offset.0);
        let start = match starts.get(&partition) {
            Some(start) => start.clone().map(offset)?,
            None => 0,
        };
        assignments.push(Assignment { partition, start, start_epoch: None, end: Some(end.map(offset)?) });
    }
    let options = ConsumerOptions { isolation: IsolationLevel::ReadUncommitted, ..Default::default() };
    let mut consumer = Consumer::start(cluster, &options, assignments);
    let (mut book, mut strange) = (Book::default(), 0u64);
    while let Some(pulled) = consumer.next().await {
        match pulled {
            Pulled::Data(fetched) => strange += take(&mut book, &fetched)?,
            Pulled::Ended(_) => {}
            Pulled::Jumped { partition, from, to } => output.warn(format_args!(
                "{partition}: counts at offsets {from}-{} are not there any more",
                to.saturating_sub(1)
            )),
            Pulled::Failed(partition, error) => anyhow::bail!("{partition}: {error}"),
        }
    }
    if strange > 0 {
        output.warn(format_args!(
            "{strange} records of {topic} are no counts of version {VERSION}: passed over"
        ));
    }
    Ok(book)
}

/// Takes counts; returns how many records are none.
fn take(book: &mut Book, fetched: &Fetched) -> anyhow::Result<u64> {
    let mut strange = 0;
    let read = fetched.read(&mut Reading::default(), |_, record| {
        let count = record.value.and_then(|value| serde_json::from_slice::<Count>(value).ok());
        match count.filter(|count| count.audit == VERSION) {
            Some(count) => book.take(count),
            None => strange += 1,
        }
        Ok::<_, (i64, BatchError)>(ControlFlow::Continue(()))
    });
    let _ = read.map_err(|(offset, error)| {
        anyhow::anyhow!("{}-{}: offset {offset}: {error}", fetched.topic, fetched.partition)
    })?;
    Ok(strange)
}

fn show(rows: &[Row], args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    for row in rows {
        if args.json {
            output.json(&as_json(row))?;
        } else if args.all || !matches!(row.verdict, Verdict::Same | Verdict::AsMany | Verdict::NotProduced) {
            output.line(in_words(row))?;
        }
    }
    if !args.json {
        output.table(&summary(rows))?;
    }
    if rows.is_empty() {
        output.warn("no counts are there to compare");
    }
    let any = |holds: fn(Verdict) -> bool| rows.iter().any(|row| holds(row.verdict));
    Ok(match (any(Verdict::is_difference), any(Verdict::is_unjudged)) {
        (true, _) => Exit::Damage,
        (false, is_unjudged) => Exit::failed_if(is_unjudged),
    })
}

fn time_of(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| format!("{time:.0}"))
}

fn in_words(row: &Row) -> String {
    let difference = match row.verdict {
        Verdict::Missing(count) | Verdict::More(count) => format!(" {count}"),
        _ => String::new(),
    };
    let mut words = format!("{}{difference}: {} {}", row.verdict.name(), row.topic, time_of(row.bucket));
    match &row.consumer {
        Some(consumer) => words += &format!(": {consumer} consumed {} of {}", row.consumed, row.produced),
        None => words += &format!(": {} were produced", row.produced),
    }
    if row.unknown > 0 {
        words += &format!(", and {} more may have been produced or not", row.unknown);
    }
    if row.twice > 0 {
        words += &format!("; {} at least were read more than once", row.twice);
    }
    if row.late > 0 {
        words += &format!("; {} were read late", row.late);
    }
    words
}

fn as_json(row: &Row) -> serde_json::Value {
    let difference = i128::from(row.consumed) - i128::from(row.produced);
    json!({
        "topic": row.topic,
        "bucket": time_of(row.bucket),
        "bucket_ms": row.bucket,
        "consumer": row.consumer,
        "produced": row.produced,
        "unknown": row.unknown,
        "consumed": row.consumed,
        "difference": i64::try_from(difference).unwrap_or(i64::MAX),
        "read_twice_at_least": row.twice,
        "late": row.late,
        "verdict": row.verdict.name(),
    })
}

fn summary(rows: &[Row]) -> Table {
    let mut table = Table::new([
        "TOPIC",
        "CONSUMER",
        ">MINUTES",
        ">PRODUCED",
        ">CONSUMED",
        ">SAME",
        ">MISSING",
        ">MORE",
        ">OTHER",
        ">OPEN",
    ]);
    let mut ends: Vec<(&str, Option<&str>)> =
        rows.iter().map(|row| (row.topic.as_str(), row.consumer.as_deref())).collect();
    ends.sort_unstable();
    ends.dedup();
    for (topic, consumer) in ends {
        let of = |row: &&Row| row.topic == topic && row.consumer.as_deref() == consumer;
        let of: Vec<&Row> = rows.iter().filter(of).collect();
        let sum = |count: fn(&Row) -> u64| of.iter().map(|row| count(row)).sum::<u64>();
        let minutes = |holds: fn(Verdict) -> bool| of.iter().filter(|row| holds(row.verdict)).count() as u64;
        let cells = [
            of.len() as u64,
            sum(|row| row.produced),
            sum(|row| row.consumed),
            minutes(|verdict| matches!(verdict, Verdict::Same | Verdict::AsMany)),
            sum(|row| if let Verdict::Missing(count) = row.verdict { count } else { 0 }),
            sum(|row| if let Verdict::More(count) = row.verdict { count } else { 0 }),
            minutes(|verdict| verdict == Verdict::Exchanged || verdict.is_unjudged()),
            minutes(|verdict| verdict == Verdict::Open),
        ];
        let names = [topic.to_owned(), consumer.unwrap_or_default().to_owned()];
        table.row(names.into_iter().chain(cells.iter().map(ToString::to_string)));
    }
    table
}
