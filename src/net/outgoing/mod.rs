//! One connection out: to a broker, a controller or a voter, over TCP or a Unix socket.
//!
//! Requests pipeline, answers come in the order of the requests, frames are bounded: an announced size is
//! not believed before its bytes are there. Every call ends: it is answered, or fails with a
//! [`ConnectionError`]; a connection that broke stays broken, and whoever owns it makes another.

mod address;
mod connection;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod options;
mod stream;
mod versions;

pub use address::{Address, InvalidAddress};
pub use connection::{Connection, Pending, Written};
pub use error::ConnectionError;
pub use options::ConnectionOptions;
pub use stream::{Dial, Target};
pub use versions::ApiVersions;
