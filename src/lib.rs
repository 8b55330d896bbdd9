//! klamm: Apache Kafka's core as one Unix program.
//!
//! The library holds everything; the binary only calls `cli`. `ARCHITECTURE.md` draws the map; which
//! module may name which is a table in `tests/it/tidy.rs`, and a test checks it.
//!
//! Ways through the house (this list may only get shorter):
//! - **produce**: `net/connection` → `server/dispatch` → `server/produce` → `replication/partition` →
//!   `storage/log` → `storage/segment` → `storage/disk`
//! - **fetch**: the same way down; the answer carries file regions, not bytes
//! - **create a topic**: `server/topics` → `controller/mod` → `controller/topics` → metadata log → image →
//!   `replication/manager` makes the partition

pub mod cli;
pub mod client;
pub mod config;
pub mod controller;
pub mod coordinator;
pub mod metadata;
pub mod net;
pub mod observe;
pub mod protocol;
pub mod record;
pub mod replication;
pub mod server;
pub mod storage;
pub mod types;
