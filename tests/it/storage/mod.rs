//! Storage from outside: whole logs and log directories on a real file system.

mod basics;
mod directories;
pub mod hostile;
mod kafka_directories;
mod lifetime;
mod model;
mod producers;
mod world;
