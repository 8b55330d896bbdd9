//! Every test that looks at klamm from outside one module. One binary, so that it links once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

mod admin;
mod admin_commands;
mod adoption;
mod allocation;
mod batches;
mod command_line;
mod compaction;
mod config_describe;
mod config_table;
mod connections;
mod controller;
mod crashes;
mod dump_segment;
mod failed_directories;
mod failures;
mod fetches;
mod golden;
mod group_commands;
mod group_memory;
mod groups;
mod harness;
mod history;
mod hostile_messages;
mod kafka_metadata;
mod kill;
mod limits;
mod manual;
mod message_tables;
mod metadata_records;
mod moves;
mod oracle;
mod pipes;
mod power_cuts;
mod produces;
mod quorum;
mod random;
mod random_message;
mod retention;
mod serving;
mod snapshots;
mod storage;
mod tidy;
mod transcripts;
mod verify;
