//! Storage from outside: whole logs and log directories on a real file system.

mod basics;
mod world;
