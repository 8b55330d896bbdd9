//! What broke systems like this one, row by row: anomalies that Jepsen looks for, Kafka's own system tests, known
//! bugs, CVEs, limits and malformed input. A row is *shown* by a test whose name contains its id, or it *waits* for
//! a part of klamm that is not built yet. Never neither, never both: a new part takes its rows off the list by
//! bringing their tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The parts that rows wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// The transaction coordinator.
    Transactions,
    /// More than one voter in the metadata quorum, and its simulator.
    Quorum,
    /// More than one replica of a partition.
    Replication,
    /// Principals, SASL, TLS, ACLs.
    Security,
    /// Client quotas.
    Quotas,
}

enum Standing {
    /// A test in the tree has the id in its name.
    Shown,
    /// Not before this part is built.
    Waits(Part),
}

use Part::{Quorum, Quotas, Replication, Security, Transactions};
use Standing::{Shown, Waits};

/// Id as it stands in test names, what must hold, and how it stands.
const ROWS: &[(&str, &str, Standing)] = &[
    // Jepsen's Kafka workload: what its checker looks for in a history.
    ("s1_2_lost_write", "an acknowledged value below the highest read index was read by someone", Shown),
    ("s1_2_unseen", "an acknowledged value is polled by the end of the final polls", Shown),
    ("s1_2_g1a", "nobody reads a value of an aborted transaction", Waits(Transactions)),
    ("s1_2_precommitted_read", "a transaction does not read its own uncommitted write", Waits(Transactions)),
    ("s1_2_inconsistent_offsets", "two readers agree on the value at an offset", Shown),
    ("s1_2_duplicate", "a value stands at one offset only", Shown),
    ("s1_2_nonmonotonic_poll", "reads of one assigned consumer do not go back", Shown),
    ("s1_2_poll_skip", "reads of one assigned consumer do not jump over known values", Shown),
    ("s1_2_int_nonmonotonic_poll", "the same inside one transaction: not back", Waits(Transactions)),
    ("s1_2_int_poll_skip", "the same inside one transaction: no jump", Waits(Transactions)),
    ("s1_2_nonmonotonic_send", "sends of one producer stand in their order", Shown),
    ("s1_2_int_nonmonotonic_send", "sends of one transaction stand in their order", Waits(Transactions)),
    ("s1_2_int_send_skip", "recorded but allowed: writes of transactions interleave", Waits(Transactions)),
    ("s1_2_g0", "recorded but allowed: no isolation between writers", Waits(Transactions)),
    ("s1_2_torn_transaction", "a transaction is seen whole or not at all", Waits(Transactions)),
    (
        "s1_2_consume_counts",
        "in a read-process-write loop each message is consumed once",
        Waits(Transactions),
    ),
    (
        "redpanda_21_10_1",
        "pause, kill and membership changes lose, double and reorder nothing",
        Waits(Replication),
    ),
    (
        "bufstream_0_1_0",
        "a delayed EndTxn 5 is fenced, not applied to the next transaction",
        Waits(Transactions),
    ),
    (
        "nats_2_12_1_a",
        "unsynced pages of all nodes are lost: what was synced before the answer is there",
        Shown,
    ),
    ("nats_2_12_1_b", "unsynced pages of one node are lost while others pause", Waits(Replication)),
    ("nats_2_12_1_c", "bit flips and truncation in one replica's files never spread", Waits(Replication)),
    // Apache Kafka's own system tests.
    (
        "s1_3_replication_test",
        "clean and hard bounces under load: every acknowledged record is consumed",
        Waits(Replication),
    ),
    ("s1_3_replication_replica_failure_test", "a producer makes progress once the ISR shrinks", Shown),
    (
        "s1_3_reassign_partitions_test",
        "a shuffle of all assignments under load with bounces",
        Waits(Replication),
    ),
    (
        "s1_3_transactions_test",
        "copying in transactions with bounces: equal sets, no doubles",
        Waits(Transactions),
    ),
    ("s1_3_round_trip_fault_test", "round trips through partitions, pauses, latency", Waits(Replication)),
    ("s1_3_network_degrade_test", "the tools that degrade the network do so", Waits(Replication)),
    (
        "s1_3_log_dir_failure_test",
        "one directory fails: leadership moves, the broker stays up, the other serves",
        Shown,
    ),
    ("s1_3_snapshot_test", "controller snapshots are loaded and fetched", Shown),
    (
        "s1_3_quorum_reconfiguration_test",
        "a controller added, the active one removed, under load",
        Waits(Quorum),
    ),
    ("s1_3_truncation_test", "a consumer notices truncation after an unclean election", Shown),
    ("s1_3_log_compaction_test", "the last record per key is the same before and after cleaning", Shown),
    ("s1_3_consumer_test", "rebalances under bounces, static members", Shown),
    ("s1_3_quota_test", "quotas hold clients to their rates", Waits(Quotas)),
    (
        "s1_3_consumer_protocol_migration_test",
        "a group moves between the classic and the consumer protocol",
        Shown,
    ),
    ("s1_3_group_mode_transactions_test", "transactions with groups and bounces", Waits(Transactions)),
    ("s1_3_trogdor_faults", "stopped processes, unreadable files, a failing file system", Waits(Replication)),
    ("s1_3_raft_event_simulation_test", "Kafka's scenarios and invariants of the quorum, simulated", Shown),
    // What the replication protocol must survive.
    ("kip_101", "truncation by leader epoch, not by high watermark", Shown),
    ("kip_279", "truncation converges after fast double fail-over", Shown),
    ("kip_320", "consumers and followers are fenced by leader epoch and notice truncation", Shown),
    ("kip_903", "a broker with an emptied disk does not get back into the ISR by an old request", Shown),
    ("kip_966", "eligible leader replicas, unclean shutdown, last known leader", Shown),
    ("kip_890_a_late_marker", "a marker of an older epoch is fenced by the log", Shown),
    ("kip_890", "no hanging, late or torn transactions", Waits(Transactions)),
    ("kip_853", "the quorum changes by directory id, with pre-vote and resignation", Shown),
    // Bugs of Apache Kafka and Redpanda.
    ("kafka_1211", "follower bounce and leader kill between high watermark steps", Shown),
    ("kafka_6361_the_answer", "a leader answers with the largest epoch not younger than asked", Shown),
    ("kafka_6361", "three leader changes inside one fetch round: logs converge", Shown),
    ("kafka_7415", "the epoch's start is stored when a leader becomes one", Shown),
    ("kafka_14139", "a wiped follower must not re-enter the ISR by an old AlterPartition", Shown),
    ("kafka_15221", "eligibility for the ISR is judged on one consistent replica state", Shown),
    (
        "kafka_18106",
        "an unclean restart of the last ISR member while an eligible replica has the data",
        Shown,
    ),
    ("kafka_18635", "detection of an unclean restart cannot be off in silence", Shown),
    ("kafka_19522", "a fenced last known leader is not elected", Shown),
    ("kafka_15375", "a start that failed writes no clean-shutdown marker", Shown),
    ("kafka_10778", "after a failed append nothing more is appended to that directory", Shown),
    ("kafka_16541", "the leader epoch checkpoint is never seen torn", Shown),
    ("kafka_9835", "a read at the end that races an append stays below the high watermark", Shown),
    (
        "kafka_9807",
        "a read_committed fetch that races the high watermark stays below the last stable offset",
        Shown,
    ),
    ("kafka_13194", "the cleaner stops at the last stable offset and the high watermark", Shown),
    ("kafka_14055", "markers go only after their data", Shown),
    ("kafka_8335", "coordinator batches do not pin empty batches for ever", Shown),
    ("kafka_5413", "an offset gap beyond 2^31 does not overflow a relative offset: the segment rolls", Shown),
    ("kafka_6264", "an offset gap beyond 2^31 does not overflow a relative offset: cleaning splits", Shown),
    ("kafka_7104", "the offsets in a fetch response are one snapshot", Shown),
    ("kafka_2143", "a replica ahead of a migrating leader does not truncate to 0", Shown),
    ("kafka_18723", "a receiver refuses corrupt batches and mixed epochs", Shown),
    ("kafka_15489", "a leader cut off from the majority resigns", Shown),
    (
        "kafka_14616",
        "a topic deleted and created again while a broker was down: the old folder goes first",
        Shown,
    ),
    ("kafka_14402", "a late Produce opens no hanging transaction", Waits(Transactions)),
    ("kafka_9777", "a transaction's end racing the next one's start loses no marker", Waits(Transactions)),
    ("kafka_9144", "the coordinator epoch does not go back when producer state expires", Shown),
    ("kafka_17507", "WriteTxnMarkers answers after the offsets are there", Waits(Transactions)),
    (
        "kafka_18575",
        "adding a partition while the last transaction completes is CONCURRENT_TRANSACTIONS",
        Waits(Transactions),
    ),
    ("kafka_18464", "an empty abort does not fence its own producer", Waits(Transactions)),
    ("redpanda_6018", "a transaction begun survives the coordinator's re-election", Waits(Transactions)),
    ("redpanda_5090", "a new leader serves only after it has applied everything", Waits(Replication)),
    ("redpanda_5355", "what is remembered of a producer does not outlive its records", Shown),
    ("redpanda_9571", "a commit that timed out but succeeded is not followed by the old offset", Shown),
    // CVEs, by the lesson for us.
    ("cve_2022_34917", "lengths are bounded by the bytes that are left before anything is allocated", Shown),
    ("cve_2023_34455", "a declared uncompressed length allocates nothing", Shown),
    (
        "cve_2024_56128",
        "SCRAM: the client's final nonce is compared with the server's first",
        Waits(Security),
    ),
    ("cve_2021_38153", "secrets are compared in constant time", Waits(Security)),
    ("cve_2017_12610", "authzid is empty or the user's name", Waits(Security)),
    ("cve_2018_1288", "a consumer cannot fetch as a replica", Waits(Security)),
    ("cve_2018_17196", "a batch is authorised by what it says of its producer", Waits(Security)),
    ("cve_2024_27309", "removing one of several ACLs leaves the others", Waits(Security)),
    (
        "cve_2023_25194",
        "remote configuration names no code: login modules, JNDI, LDAP (also CVE-2025-27818, -27819)",
        Shown,
    ),
    ("cve_2025_27817", "a client configuration reads no URL: OAUTHBEARER", Waits(Security)),
    (
        "cve_2024_31141",
        "a client configuration reads no file or variable through a provider",
        Waits(Security),
    ),
    (
        "cve_2026_35554",
        "the producer owns its buffers until the socket is done with them (also KAFKA-19012)",
        Shown,
    ),
    ("cve_2019_12399", "sensitive values are not shown", Shown),
    // Limits.
    ("s1_8_sasl_receive_size", "512 KiB before authentication", Waits(Security)),
    ("s1_8_before_auth", "only ApiVersions and SASL are parsed before authentication", Waits(Security)),
    ("s1_8_failed_authentication_delay", "a failed authentication is answered late", Waits(Security)),
    ("s1_8_scram_iterations", "4,096 to 16,384 iterations", Waits(Security)),
    ("s1_8_acl_wildcard", "hosts and wildcards in ACLs", Waits(Security)),
    ("s1_8_negative_and_largest_sizes", "a frame's size that is negative or beyond all limits", Shown),
    ("s1_8_sizes_that_are_none", "sizes are refused when their four bytes are there", Shown),
    ("kafka_4090", "a TLS hello on a plain port is named and ends at four bytes", Shown),
    ("s1_8_a_declared_size", "a declared size allocates next to nothing", Shown),
    ("s1_8_an_idle_connection", "an idle connection ends after connections.max.idle.ms", Shown),
    ("s1_8_a_connection_that_asks_nothing", "the first request has a deadline", Shown),
    ("s1_8_half_a_frame_is_closed", "half a frame does not hold a connection for ever", Shown),
    ("s1_8_bytes_that_are_no_frame", "malformed and empty frames cost their connection and no other", Shown),
    ("s1_8_large_frames_share_the_budget", "bytes in flight are budgeted, per connection and overall", Shown),
    ("s1_8_no_more_requests_are_taken", "at most 64 unanswered requests a connection", Shown),
    ("s1_8_an_address_beyond_its_quota", "max.connections, and per address", Shown),
    ("s1_8_10000_idle_connections", "10,000 idle connections are carried, and the next is served", Shown),
    ("s1_8_a_frame_full_of_the_smallest_elements", "elements are counted: no amplification", Shown),
    ("s1_8_topic_partitions_come_a_page", "DescribeTopicPartitions answers a page of partitions", Shown),
    ("s1_8_names_that_would_leave_the_directory", "no ../ and no NUL in topic names on the wire", Shown),
    ("s1_8_topic_names_that_could_reach", "names are [a-zA-Z0-9._-]{1,249}, not . or ..", Shown),
    ("s1_8_group_id", "../ and NUL in a group's id reach no path", Shown),
    ("s1_8_transactional_id", "no ../ or NUL in transactional ids", Waits(Transactions)),
    ("s1_8_names_that_collide", "a.b and a_b collide", Shown),
    ("s1_8_folder_names_on_their_way_out", "directory names stay within 255 with their suffixes", Shown),
    ("s1_8_a_topic_named_like_a_deleted_one", "a topic called x.<uuid>-delete lives on", Shown),
    // Decompression.
    ("s1_8_decompression_bombs", "inflating stops at the cap, in a fixed window", Shown),
    ("s1_8_a_zstd_frame", "a zstd window above 2^27 is refused", Shown),
    ("s1_8_pieces_that_end_early_or_go_on", "bytes behind the last record are refused", Shown),
    ("s1_8_nested_compression", "a compressed batch inside a record is only bytes", Shown),
    // What Apache Kafka answers to a bad Produce; all of it over the wire in `each_kind_of_bad_batch`.
    (
        "s1_8_each_kind_of_bad_batch",
        "each bad batch gets the code that Kafka gives, the transactional bit without an id too",
        Shown,
    ),
    ("s1_8_counts_and_deltas", "count, last offset delta: INVALID_RECORD", Shown),
    ("s1_8_offset_deltas", "offset deltas that disagree name the record", Shown),
    ("s1_8_a_clients_control_bit", "a client's control bit: INVALID_RECORD", Shown),
    ("s1_8_old_magics", "an old magic: INVALID_RECORD", Shown),
    ("s1_8_no_batch_and_two_batches", "no batch, two batches, no records: INVALID_RECORD", Shown),
    ("s1_8_a_base_offset", "a base offset other than 0: INVALID_RECORD", Shown),
    ("s1_8_a_wrong_crc", "a wrong CRC: CORRUPT_MESSAGE", Shown),
    ("s1_8_acks", "acks=5: INVALID_REQUIRED_ACKS", Shown),
    ("s1_8_timestamps_beyond_the_limit", "message.timestamp.after.max.ms: INVALID_TIMESTAMP", Shown),
    ("s1_8_codecs_that_do_not_exist_and_garbage", "INVALID_RECORD with a message, not -1", Shown),
    ("s1_8_a_max_timestamp_that_lies", "is rewritten with a new CRC", Shown),
    (
        "s1_8_another_codec_than_the_topics",
        "compression.type other than the batch's codec recompresses",
        Shown,
    ),
    ("s1_8_log_append_time", "LogAppendTime rewrites header and CRC", Shown),
    // Malformed requests.
    ("s1_8_a_request_that_is_none", "costs its connection and no other", Shown),
    ("s1_8_duplicate_tags", "a tag given twice is refused", Shown),
    ("s1_8_unsorted_tags", "tags out of order are refused", Shown),
    ("s1_8_a_tag_length", "a tag longer than the frame is refused", Shown),
    ("s1_8_text_that_is_not_utf8", "is refused", Shown),
    ("s1_8_null_where_none_is_allowed", "is refused", Shown),
    ("s1_8_an_unknown_version_of_api_versions", "is answered in version 0 with error 35", Shown),
];

/// The names of all tests and functions in `src/`, `tests/` and `fuzz/`, Python's included, this file left out.
fn function_names() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("tests"), root.join("fuzz")];
    let mut names = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path != this_file() && path.extension().is_some_and(|e| e == "rs" || e == "py") {
                names.extend(functions_in(&fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(names.len() > 100, "no functions were found");
    names
}

fn this_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/failures.rs")
}

fn functions_in(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| {
        let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("async ");
        let rest = line.strip_prefix("fn ").or_else(|| line.strip_prefix("def "))?;
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        Some(rest[..end].to_string())
    })
}

/// Whether `name` contains `id` as whole words: `kip_966` is not in `kip_9667_x`.
fn names_row(name: &str, id: &str) -> bool {
    name.match_indices(id).any(|(at, _)| {
        let before = &name[..at];
        let after = &name[at + id.len()..];
        (before.is_empty() || before.ends_with('_')) && !after.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// The longest id that a function's name contains.
fn row_of(name: &str) -> Option<&'static str> {
    ROWS.iter().map(|(id, ..)| *id).filter(|id| names_row(name, id)).max_by_key(|id| id.len())
}

#[test]
fn every_row_is_shown_by_a_test_or_waits_for_a_part_that_is_not_built() {
    let names = function_names();
    let shown: BTreeMap<&str, &String> =
        names.iter().filter_map(|name| Some((row_of(name)?, name))).collect();
    let mut findings = Vec::new();
    for (id, promise, standing) in ROWS {
        match (standing, shown.get(id)) {
            (Shown, None) => findings.push(format!("{id}: no test has it in its name ({promise})")),
            (Waits(part), Some(test)) => {
                findings.push(format!("{id}: {test} shows it, and it waits for {part:?}"));
            }
            (Shown, Some(_)) | (Waits(_), None) => {}
        }
    }
    assert!(findings.is_empty(), "{} row(s):\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn every_row_stands_once() {
    let mut seen = BTreeMap::new();
    for (id, promise, _) in ROWS {
        assert!(id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{id}");
        assert!(seen.insert(id, promise).is_none(), "{id} stands twice");
    }
}
