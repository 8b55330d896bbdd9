//! `klamm consume`: records from topics to standard output.
//!
//! Starts at the beginning and follows, unless told otherwise; shows committed records; creates no topic. With
//! `-e` it ends where the log ended when it began, exactly, whatever markers and holes stand there.

mod directory;
mod filter;
mod group;
mod positions;
mod print;
mod range;
mod source;
mod tail;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::cli::args::{Connection, Target};
use crate::cli::audit::{AuditArgs, Auditor, Side};
use crate::cli::exit::{Exit, Signals, usage};
use crate::cli::format::escape::unescape;
use crate::cli::format::output::OutputFormat;
use crate::cli::output::Output;
use crate::cli::partitions::parse_ranges;
use crate::client::{Assignment, ClientConfig, Consumer, IsolationLevel, Pulled};
use crate::types::{Clock, SystemClock, TopicName, parse_duration};

use filter::Filter;
use print::{Look, PrintError, Printer};
use range::Range;
use source::{Source, Span};
use tail::Tail;

/// Print the records of topics.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Formats (-f): %s or %v value, %k key, %h headers (%h{…} each: %k %v), %t topic, %p partition, %o offset,
%T timestamp, %S %K %H lengths and count, %e %x %y leader epoch, producer id and epoch, %i number;
encodings in braces: %k{hex} %s{base64} %v{json} %T{rfc3339} %T{strftime[%F]} %K{big32} %o{hex16}

Examples:
  klamm consume orders -e
  klamm consume orders -o -10 -e -f '%T{rfc3339} %k: %s\\n'
  klamm consume orders -o @-15m --grep 'k:^user-7$' --json
  klamm consume orders -o '@2026-01-01T00:00:00Z:@2026-01-02T00:00:00Z'
  klamm consume orders --tail 20
  klamm consume orders -g billing --json | ./bill
  klamm consume '^orders-' -g audit -e -X group.protocol=consumer
  klamm consume orders -g billing --audit audit | ./bill
  klamm consume picture -c 1 -D '' > picture.png
  klamm consume orders -e -d /var/lib/kafka")]
pub struct Args {
    /// The topics; with -g also patterns: ^orders-.*
    #[arg(required = true)]
    topics: Vec<String>,

    /// Read as a member of this consumer group: begin at its commits, commit what was written
    #[arg(short, long, value_name = "GROUP", conflicts_with_all = ["partitions", "offset", "tail"])]
    group: Option<String>,

    /// With -g, when to commit: after records are written (each is read at least once), before (at most once), or never
    #[arg(long, value_name = "WHEN", requires = "group")]
    commit: Option<CommitWhen>,

    /// Only these partitions: 0,2-4
    #[arg(short, long, value_name = "LIST")]
    partitions: Option<String>,

    /// Where to begin, and to end: beginning, end, N, -N, N:M, @TIME, @TIME:@TIME [default: beginning]
    #[arg(short, long, value_name = "RANGE", allow_hyphen_values = true)]
    offset: Vec<String>,

    /// Stop at the end as it is now
    #[arg(short, long)]
    exit: bool,

    /// Stop after so many records
    #[arg(short = 'c', long, value_name = "N")]
    count: Option<u64>,

    /// Begin with the last N records of all partitions together, in order of time
    #[arg(long, value_name = "N", conflicts_with = "offset")]
    tail: Option<usize>,

    /// Stop when nothing came for so long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    idle: Option<Duration>,

    /// Print records by a format string
    #[arg(short = 'f', long, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<String>,

    /// What to print behind each record; empty: nothing. Escapes: \n \t \r \0 \xNN
    #[arg(short = 'D', long, value_name = "DELIMITER", default_value = "\\n", conflicts_with_all = ["format", "json"])]
    delimiter: String,

    /// Print the key too, with this behind it
    #[arg(short = 'K', long, value_name = "DELIMITER", conflicts_with_all = ["format", "json"])]
    key_delimiter: Option<String>,

    /// Print NULL for a key or value that is null
    #[arg(short = 'Z', long)]
    null: bool,

    /// One JSON object a line; bytes that are not UTF-8 in base64
    #[arg(long, short_alias = 'J')]
    json: bool,

    /// Only records that match: [!][k:|v:|hk:|hv:|h:NAME=|t:]PATTERN, the value by default. All must match
    #[arg(long, value_name = "PATTERN")]
    grep: Vec<String>,

    /// Write each record at once
    #[arg(short, long)]
    unbuffered: bool,

    /// Also records of transactions that are open or were taken back
    #[arg(long)]
    uncommitted: bool,

    /// Also the markers that end transactions
    #[arg(long)]
    control_records: bool,

    #[command(flatten)]
    audit: AuditArgs,

    #[command(flatten)]
    connection: Connection,
}

/// Runs the command.
///
/// # Errors
/// Wrong usage, no broker, no such topic or partition, records that do not fit the format.
pub fn run(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    let mut config = args.connection.client_config(output)?;
    if args.uncommitted {
        config.consumer.isolation = IsolationLevel::ReadUncommitted;
    }
    let mut printer = printer(args)?;
    let group = args.group.as_deref();
    let auditor = Auditor::start(&args.audit, Side::Consumed, group, &args.connection, &config.client)?;
    printer.tally = auditor.as_ref().map(Auditor::tally);
    let outcome = match group {
        Some(group) => group::run(args, group, config, &mut printer, output),
        None => read(args, config, &mut printer, output),
    };
    // Whatever happened: what was read counts.
    let counted = auditor.map_or(Ok(()), Auditor::close);
    let exit = outcome?;
    counted?;
    Ok(exit)
}

/// Reads without a group.
fn read(
    args: &Args,
    config: ClientConfig,
    printer: &mut Printer,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let clock: Arc<dyn Clock> = SystemClock::new();
    for name in &config.only_in_groups {
        output.warn(format_args!("{name} has no effect without '-g GROUP'"));
    }
    let wish = wish(args, clock.now_ms())?;
    if printer.is_done() {
        return Ok(Exit::Done);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _inside = runtime.enter();
    let source = match args.connection.target()? {
        Target::Cluster(list) => runtime.block_on(Source::cluster(&list, config))?,
        Target::Dir(dir) => Source::directory(&dir, config.consumer.isolation, Arc::clone(&clock))?,
    };
    let interrupt = Interrupt::listen(&runtime, false);
    let mut work =
        Work { runtime: &runtime, source, clock, interrupt, idle: args.idle, failed: false, output };
    let outcome = work.run(&wish, printer);
    let flushed = work.output.flush_all();
    let (is_interrupted, failed) = (work.interrupt.is_set(), work.failed);
    runtime.shutdown_timeout(Duration::ZERO);
    outcome?;
    flushed?;
    Ok(if is_interrupted { Exit::Interrupted } else { Exit::failed_if(failed) })
}

/// What is to be read.
struct Wish {
    topics: Vec<TopicName>,
    /// Inclusive ranges; none means all.
    partitions: Vec<(i32, i32)>,
    range: Range,
    ends: bool,
    tail: Option<usize>,
}

fn wish(args: &Args, now_ms: i64) -> anyhow::Result<Wish> {
    let range =
        Range::parse_all(&args.offset, now_ms).map_err(|error| usage(format!("'--offset': {error}")))?;
    let partitions = match &args.partitions {
        Some(list) => parse_ranges(list).map_err(|error| usage(format!("'--partitions': {error}")))?,
        None => Vec::new(),
    };
    let mut topics = Vec::with_capacity(args.topics.len());
    for name in &args.topics {
        let topic = TopicName::new(name).map_err(|error| usage(error.to_string()))?;
        // Named twice, it is still read once.
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    Ok(Wish { topics, partitions, ends: args.exit || range.end.is_some(), range, tail: args.tail })
}

fn printer(args: &Args) -> anyhow::Result<Printer> {
    let look = if args.json {
        Look::Json
    } else if let Some(format) = &args.format {
        let format = OutputFormat::compile(format, args.null);
        Look::Format(format.map_err(|error| usage(format!("'--format': {error}")))?)
    } else {
        let bytes =
            |flag: &str, text: &str| unescape(text).map_err(|error| usage(format!("'--{flag}': {error}")));
        let delimiter = bytes("delimiter", &args.delimiter)?;
        let key = args.key_delimiter.as_deref().map(|text| bytes("key-delimiter", text)).transpose()?;
        Look::Format(OutputFormat::delimited(&delimiter, key.as_deref(), args.null))
    };
    let filters = args.grep.iter().map(|text| Filter::parse(text)).collect::<Result<_, _>>();
    let filters = filters.map_err(|error| usage(format!("'--grep': {error}")))?;
    let mut printer = Printer::new(look, filters, args.count.unwrap_or(u64::MAX));
    printer.is_unbuffered = args.unbuffered;
    printer.reading.shows_control = args.control_records;
    Ok(printer)
}

/// When a group's commits are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CommitWhen {
    After,
    Before,
    Never,
}

/// Set by SIGINT, and by SIGTERM and SIGHUP where they are to be heard. A second one ends the process at once.
#[derive(Default)]
struct Interrupt {
    is_set: AtomicBool,
    /// It was not SIGINT: whoever stops us in order shall hear that we did.
    is_orderly: AtomicBool,
    set: Notify,
}

impl Interrupt {
    fn listen(runtime: &Runtime, hears_terminate: bool) -> Arc<Self> {
        let interrupt = Arc::<Self>::default();
        let listening = Arc::clone(&interrupt);
        runtime.spawn(async move {
            let signals = if hears_terminate { Signals::all() } else { Signals::interrupts() };
            let Ok(mut signals) = signals else { return };
            listening.is_orderly.store(signals.next().await == Exit::Done, Ordering::Relaxed);
            listening.raise();
            // Whoever asks again does not want to wait for a reader, or a broker, that does nothing.
            signals.next().await;
            std::process::exit(Exit::Interrupted.code().into());
        });
        interrupt
    }

    fn raise(&self) {
        self.is_set.store(true, Ordering::Relaxed);
        self.set.notify_one();
    }

    fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }
}

struct Work<'a> {
    runtime: &'a Runtime,
    source: Source,
    clock: Arc<dyn Clock>,
    interrupt: Arc<Interrupt>,
    idle: Option<Duration>,
    /// A partition could not be read to its end.
    failed: bool,
    output: &'a mut Output,
}

impl Work<'_> {
    fn run(&mut self, wish: &Wish, printer: &mut Printer) -> anyhow::Result<()> {
        let found = self.runtime.block_on(self.source.partitions(&wish.topics, &wish.partitions))?;
        if let Some(count) = wish.tail {
            return self.tail(wish, &found, count, printer);
        }
        let mut assignments = Vec::new();
        for Span { partition, earliest, latest, start, end } in
            self.runtime.block_on(self.source.spans(found, &wish.range))?
        {
            let start = if start < earliest {
                self.output
                    .warn(format_args!("{partition}: offset {start} is no more: it begins at {earliest}"));
                earliest
            } else if start > latest {
                anyhow::bail!("{partition}: offset {start} is not there yet: it ends at {latest}");
            } else {
                start
            };
            let end = end.or(wish.ends.then_some(latest));
            assignments.push(Assignment { partition, start, start_epoch: None, end });
        }
        let mut consumer = self.source.start(assignments)?;
        self.print_all(&mut consumer, printer)
    }

    /// Prints what comes until everything ended, enough came, or nobody wants more.
    fn print_all(&mut self, consumer: &mut Consumer, printer: &mut Printer) -> anyhow::Result<()> {
        while let Some(pulled) = self.next(consumer)? {
            if let Pulled::Data(fetched) = &pulled {
                printer.print(fetched, self.output).map_err(|error| explain(error, fetched))?;
                if printer.is_done() {
                    return Ok(());
                }
            }
            self.say(pulled);
        }
        Ok(())
    }

    /// What comes next; `None` where there is, or shall be, no more. Before a wait the reader gets all there is.
    fn next(&mut self, consumer: &mut Consumer) -> anyhow::Result<Option<Pulled>> {
        if self.interrupt.is_set() {
            return Ok(None);
        }
        if let Some(pulled) = consumer.try_next() {
            return Ok(Some(pulled));
        }
        self.output.flush_all()?;
        let patience = self.idle.unwrap_or(Duration::MAX);
        let (clock, interrupt) = (Arc::clone(&self.clock), Arc::clone(&self.interrupt));
        Ok(self.runtime.block_on(async {
            tokio::select! {
                biased;
                pulled = consumer.next() => pulled,
                () = interrupt.set.notified() => None,
                () = clock.wait(patience), if patience != Duration::MAX => None,
            }
        }))
    }

    fn say(&mut self, pulled: Pulled) {
        match pulled {
            Pulled::Data(_) | Pulled::Ended(_) => {}
            Pulled::Jumped { partition, from, to } => {
                self.output.warn(format_args!(
                    "{partition}: offset {from} is not there any more; reading goes on at {to}"
                ));
            }
            Pulled::Failed(partition, error) => {
                self.failed = true;
                self.output.error(format_args!("{partition}: {error}"));
            }
        }
    }

    /// The last records of all partitions, then what follows.
    fn tail(
        &mut self,
        wish: &Wish,
        found: &[crate::types::TopicPartition],
        count: usize,
        printer: &mut Printer,
    ) -> anyhow::Result<()> {
        let back = Range::before_end(i64::try_from(count).unwrap_or(i64::MAX));
        let spans = self.runtime.block_on(self.source.spans(found.to_vec(), &back))?;
        let mut tail = Tail::new(count);
        let bounds = |span: &Span| (span.partition.clone(), (span.earliest, span.latest));
        let bounds: std::collections::BTreeMap<_, _> = spans.iter().map(bounds).collect();
        let mut round: Vec<Assignment> = spans
            .iter()
            .map(|span| Assignment {
                partition: span.partition.clone(),
                start: span.start,
                start_epoch: None,
                end: Some(span.latest),
            })
            .collect();
        while !round.is_empty() && !self.interrupt.is_set() {
            tail.begin(round.iter().map(|assignment| assignment.partition.clone()));
            self.collect(&mut tail, round.clone(), printer)?;
            round.retain_mut(|assignment| {
                let &(earliest, latest) = bounds.get(&assignment.partition).unwrap_or(&(0, 0));
                match tail.further_back(assignment, earliest, latest) {
                    Some(start) => {
                        assignment.start = start;
                        true
                    }
                    None => false,
                }
            });
        }
        for fetched in tail.into_fetched() {
            printer.print(&fetched, self.output).map_err(|error| explain(error, &fetched))?;
        }
        if wish.ends || printer.is_done() {
            return Ok(());
        }
        let follow = spans.into_iter().map(|span| Assignment {
            partition: span.partition,
            start: span.latest,
            start_epoch: None,
            end: None,
        });
        let mut consumer = self.source.start(follow.collect())?;
        self.print_all(&mut consumer, printer)
    }

    fn collect(
        &mut self,
        tail: &mut Tail,
        round: Vec<Assignment>,
        printer: &mut Printer,
    ) -> anyhow::Result<()> {
        let mut consumer = self.source.start(round)?;
        while let Some(pulled) = self.next(&mut consumer)? {
            if let Pulled::Data(fetched) = &pulled {
                let Printer { filters, reading, .. } = printer;
                let topic = Arc::clone(&fetched.topic);
                let wanted = |record: &crate::record::RecordRef<'_>| {
                    filters.iter().all(|filter| filter.holds(&topic, record))
                };
                let taken = tail.take(fetched, reading, wanted);
                taken.map_err(|error| explain(error.into(), fetched))?;
            }
            self.say(pulled);
        }
        Ok(())
    }
}

fn explain(error: PrintError, fetched: &crate::client::Fetched) -> anyhow::Error {
    let (topic, partition) = (&fetched.topic, fetched.partition);
    match error {
        PrintError::Output(error) => error.into(),
        PrintError::Damaged { offset, source } => {
            anyhow::anyhow!("{topic}-{partition}: the batch at offset {offset} is damaged: {source}")
        }
        PrintError::Format { offset, why } => {
            anyhow::anyhow!(
                "{topic}-{partition}: the record at offset {offset} does not fit the format: {why}"
            )
        }
    }
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

    fn parse(line: &[&str]) -> anyhow::Result<(Wish, Printer)> {
        let args = Command::try_parse_from(std::iter::once("consume").chain(line.iter().copied()))?.args;
        Ok((wish(&args, 0)?, printer(&args)?))
    }

    #[test]
    fn flags_come_to_what_they_say() {
        let (wish, printer) = parse(&["a", "b", "-p", "0,2-4", "-o", "-5", "-e", "-c", "3"]).unwrap();
        assert_eq!((wish.topics.len(), wish.partitions, wish.ends), (2, vec![(0, 0), (2, 4)], true));
        assert_eq!(printer.count_max, 3);
        assert!(parse(&["a", "-o", "1:5"]).unwrap().0.ends);
        assert!(!parse(&["a"]).unwrap().0.ends);
    }

    #[test]
    fn wrong_flags_are_wrong_usage_before_anything_is_read() {
        for wrong in [
            &[][..],
            &["a/b"],
            &["a", "-o", "soon"],
            &["a", "-p", "x"],
            &["a", "-f", "%q"],
            &["a", "-f", "%s", "--json"],
            &["a", "-D", "\\q"],
            &["a", "--grep", "("],
            &["a", "--tail", "5", "-o", "1"],
            &["a", "--idle", "soon"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
