//! Consumer groups through the shard that serves them: step by step, and by the thousand with members that do
//! what clients do.

mod classic;
mod consumers;
mod conversions;
mod mistakes;
mod protocol;
mod simulation;
mod world;
