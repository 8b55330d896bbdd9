//! The broker: owns the parts, serves requests, starts and stops in order.
//!
//! A request goes from `net` through one table ([`dispatch`]) to one handler, which answers at once or with a
//! future. Handlers decide little: what layers below call an error becomes a Kafka code in [`error_map`], what
//! the cluster has to agree on is asked of the controller.

mod administration;
mod api_versions;
mod authorized;
mod broker;
mod call;
mod cleaner;
mod cluster;
mod configs;
mod delete_records;
mod describe_topics;
mod dispatch;
mod error_map;
mod fetch;
mod flusher;
mod groups;
mod housekeeping;
mod intake;
mod isr;
mod leader_epochs;
mod leader_hints;
mod lifecycle;
mod lifeline;
mod list_offsets;
mod log_dirs;
mod lone_controller;
mod metadata;
mod mover;
mod nearest;
mod node;
mod produce;
mod producers;
mod quorum;
mod reassignments;
mod session;
mod sources;
mod standing;
mod start;
mod topics;
mod whereabouts;

pub use broker::{Broker, Ready, StopError};
pub use start::{BrokerOptions, StartError};
