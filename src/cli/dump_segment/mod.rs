//! `klamm dump-segment`: what the files of a log directory hold, in Kafka's own lines.
//!
//! Reads only. Damage is said on stderr with file and position, the rest is dumped all the same, and the exit
//! code is 3.

mod decode;
mod files;
mod indexes;
mod java_json;
mod java_text;
mod json;
mod lines;
mod range;
mod summary;
mod text;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use crate::cli::dump_segment::decode::DecoderClass;
use crate::cli::dump_segment::decode::RecordDecoder;
use crate::cli::dump_segment::files::Dump;
use crate::cli::dump_segment::lines::RecordOptions;
use crate::cli::dump_segment::range::{Bound, Range};
use crate::cli::exit::{Exit, usage};
use crate::cli::output::Output;
use crate::storage::{Disk, RealDisk};
use crate::types::{Clock, SystemClock};

/// Show what the files of a log directory hold.
///
/// Reads Kafka's files, klamm's or Apache Kafka's: .log, .index, .timeindex, .txnindex, .snapshot, metadata
/// snapshots, checkpoints, partition.metadata, meta.properties, quorum-state. A folder stands for all files in
/// it. The default output is that of kafka-dump-log, whose options are accepted. Nothing is locked or written; a
/// directory may be in use.
///
/// Damage (a checksum that does not fit, a batch that cannot be read, an index entry that points elsewhere) is
/// said on stderr, and the exit code is 3.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm dump-segment /var/lib/klamm/orders-0/00000000000000000000.log --print-data-log
  klamm dump-segment /var/lib/klamm/orders-0 --summary
  klamm dump-segment /var/lib/klamm/orders-0 --deep-iteration --from 1000 --to 1010
  klamm dump-segment /var/lib/klamm/orders-0 --print-data-log --json --from @-15m | jq .value
  klamm dump-segment /backup/orders-0/*.log --print-data-log --skip-record-metadata --json |
    klamm produce --json orders
  klamm dump-segment --cluster-metadata-decoder --files /var/lib/klamm/__cluster_metadata-0/00000000000000000000.log")]
pub struct Args {
    /// Files, or folders of files
    #[arg(value_name = "PATH", required_unless_present = "files")]
    paths: Vec<PathBuf>,

    /// The same, separated by commas
    #[arg(long, value_name = "FILE,…", value_delimiter = ',')]
    files: Vec<PathBuf>,

    /// One JSON object a line: batches, or their records with --deep-iteration or --print-data-log
    #[arg(long)]
    json: bool,

    /// A table of segments instead of their content
    #[arg(long, conflicts_with_all = ["deep_iteration", "print_data_log"])]
    summary: bool,

    /// Only records from this offset or time on
    #[arg(long, value_name = "OFFSET|@TIME", allow_hyphen_values = true)]
    from: Option<String>,

    /// Only records before this offset or time
    #[arg(long, value_name = "OFFSET|@TIME", allow_hyphen_values = true)]
    to: Option<String>,

    #[command(flatten)]
    kafka: KafkaOptions,
}

/// The options of kafka-dump-log.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Options of kafka-dump-log")]
struct KafkaOptions {
    /// Show records too
    #[arg(long)]
    deep_iteration: bool,

    /// Show records with keys and values
    #[arg(long)]
    print_data_log: bool,

    /// Show nothing of a record but key and value; leaves control records out
    #[arg(long)]
    skip_record_metadata: bool,

    /// Stop after so many bytes of each log
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<u64>,

    /// Compare indexes with their logs, show nothing of them
    #[arg(long)]
    verify_index_only: bool,

    /// Check indexes as a broker does at start-up, no more
    #[arg(long)]
    index_sanity_check: bool,

    /// Accepted, and not needed: batches of any size are read
    #[arg(long, value_name = "BYTES", hide_short_help = true)]
    max_message_size: Option<u64>,

    /// How keys are read: StringDecoder, IntegerDecoder, LongDecoder or hex
    #[arg(long, value_name = "CLASS", num_args = 0..=1, default_missing_value = "string")]
    key_decoder_class: Option<DecoderClass>,

    /// How values are read: StringDecoder, IntegerDecoder, LongDecoder or hex
    #[arg(long, value_name = "CLASS", num_args = 0..=1, default_missing_value = "string")]
    value_decoder_class: Option<DecoderClass>,

    /// The log is one of __consumer_offsets
    #[arg(long, group = "decoder")]
    offsets_decoder: bool,

    /// The log is one of __transaction_state
    #[arg(long, group = "decoder")]
    transaction_log_decoder: bool,

    /// The log or snapshot is one of __cluster_metadata
    #[arg(long, group = "decoder")]
    cluster_metadata_decoder: bool,

    /// The log is one of __share_group_state
    #[arg(long, group = "decoder")]
    share_group_state_decoder: bool,

    /// The log is one of __remote_log_metadata
    #[arg(long, group = "decoder")]
    remote_log_metadata_decoder: bool,
}

impl KafkaOptions {
    fn decoder(&self) -> RecordDecoder {
        if self.offsets_decoder {
            RecordDecoder::Coordinator { family: "group_records" }
        } else if self.transaction_log_decoder {
            RecordDecoder::Coordinator { family: "transaction_records" }
        } else if self.share_group_state_decoder {
            RecordDecoder::Coordinator { family: "share_state_records" }
        } else if self.cluster_metadata_decoder {
            RecordDecoder::ClusterMetadata
        } else if self.remote_log_metadata_decoder {
            RecordDecoder::RemoteLogMetadata
        } else {
            RecordDecoder::Plain {
                key: self.key_decoder_class.unwrap_or_default(),
                value: self.value_decoder_class.unwrap_or_default(),
            }
        }
    }

    fn records(&self) -> RecordOptions {
        let decoder = self.decoder();
        let any_class = self.key_decoder_class.is_some() || self.value_decoder_class.is_some();
        let is_plain = matches!(decoder, RecordDecoder::Plain { .. });
        RecordOptions {
            contents: self.print_data_log || any_class || !is_plain,
            skip_metadata: self.skip_record_metadata,
            decoder,
        }
    }
}

/// Dumps every file that the arguments name.
///
/// # Errors
/// Wrong usage, or stdout that takes no more. What is wrong with a file is said, and shows in the exit.
pub fn run(args: Args, output: &mut Output) -> anyhow::Result<Exit> {
    let now_ms = SystemClock::new().now_ms();
    let bound = |text: &Option<String>| {
        text.as_deref().map(|text| Bound::parse(text, now_ms)).transpose().map_err(usage)
    };
    let range = Range { from: bound(&args.from)?, to: bound(&args.to)? };
    let paths: Vec<PathBuf> = args.paths.into_iter().chain(args.files).collect();
    if args.summary {
        return summary::run(&paths, args.json, output);
    }
    Dump::new(RealDisk::new(), &args.kafka, args.json, range, output).run(&paths)
}

/// Dumps a file or folder on `disk` with everything in it, records and their contents too, which are read by what the
/// folder's topic is.
///
/// # Errors
/// Stdout that takes no more.
pub fn dump_all(disk: Arc<dyn Disk>, path: &Path, json: bool, output: &mut Output) -> anyhow::Result<Exit> {
    let is_of = |topic: &str| path.to_string_lossy().contains(topic);
    let options = KafkaOptions {
        print_data_log: true,
        offsets_decoder: is_of("__consumer_offsets"),
        transaction_log_decoder: is_of("__transaction_state"),
        share_group_state_decoder: is_of("__share_group_state"),
        cluster_metadata_decoder: is_of("__cluster_metadata"),
        ..KafkaOptions::default()
    };
    Dump::new(disk, &options, json, Range::default(), output).run(&[path.to_owned()])
}
