//! Log compaction against a plain map: random workloads, crashes at every call of the swap, and a real broker.

mod broker;
mod crash;
mod edges;
mod workload;
mod world;
