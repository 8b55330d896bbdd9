//! The network's edge: listeners, one task a connection, frames in, pieces out; and one connection out
//! ([`outgoing`]).
//!
//! A connection reads frames of `size i32, payload`, hands each to the [`Service`] in the order of arrival,
//! and writes the answers in that order, while later requests are already being served. What this module
//! promises:
//! - no allocation follows from a declared length alone: buffers grow with the bytes that came;
//! - a frame that is none (negative, empty or oversize length, a TLS hello, HTTP) closes its connection with
//!   one log line and costs nobody else anything;
//! - at most [`Limits::unanswered_max`] requests of a connection are unanswered, and the bytes of requests
//!   and answers in memory stay within a budget per connection and one overall: beyond it a connection is
//!   not read, and TCP tells its peer;
//! - answers carry file ranges ([`Piece::File`]), which go from the page cache to the socket.

pub mod budget;
pub mod connection;
pub mod frames;
pub mod listener;
pub mod outbox;
pub mod outgoing;
pub mod quotas;
pub mod socket;

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// A stretch of an answer: bytes in memory, or a range of a file that is sent without being read here.
#[derive(Clone)]
pub enum Piece {
    /// Bytes in memory.
    Bytes(Bytes),
    /// `len` bytes of `file` from `position`. The file may be renamed or unlinked meanwhile, but not cut.
    File {
        /// The open file.
        file: Arc<File>,
        /// Where the range begins.
        position: u64,
        /// How long it is.
        len: usize,
    },
}

impl Piece {
    /// How many bytes will be sent.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File { len, .. } => *len,
        }
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::File { position, len, .. } => write!(f, "File({position}+{len})"),
        }
    }
}

/// What becomes of one request.
#[derive(Debug)]
pub enum Answer {
    /// These pieces, size prefix included, are written in the request's turn.
    Send(Vec<Piece>),
    /// The request has no answer (Produce with acks=0).
    Silence,
    /// The connection ends when the answers before this one are written. `reason` is logged.
    Close {
        /// What the peer did, for the log.
        reason: String,
    },
}

/// An answer, or the future of one.
pub enum Reply {
    /// Ready now.
    Now(Answer),
    /// Waits for something. It is polled from the start, whatever stands before it in the queue.
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(answer) => answer.fmt(f),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

/// Who is on the other end, and through which door it came.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The listener's name, `PLAINTEXT` unless configured otherwise.
    pub listener: Arc<str>,
    /// The peer's address as shown in logs.
    pub address: Arc<str>,
    /// The peer's host as shown in answers: an IP address, or nothing on a Unix socket.
    pub ip: Option<IpAddr>,
}

/// What stands behind the connections: the broker.
pub trait Service: Send + Sync + 'static {
    /// What is remembered of one connection.
    type Session: Send + 'static;

    /// A connection has been accepted.
    fn open(&self, peer: &Peer) -> Self::Session;

    /// One frame, without its size prefix. Called in the order of arrival; everything that must happen in
    /// that order happens before it returns.
    fn call(self: &Arc<Self>, session: &mut Self::Session, frame: Bytes) -> Reply;
}

/// What one connection may use. Times are measured on the broker's clock.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest frame (`socket.request.max.bytes`).
    pub request_bytes_max: usize,
    /// How many requests may wait for their answers.
    pub unanswered_max: usize,
    /// How many bytes of answers may wait in memory before the connection is no longer read.
    pub answer_bytes_max: usize,
    /// A connection on which nothing moves for this long is closed (`connections.max.idle.ms`).
    pub idle_max: Duration,
    /// The first request must be there in full this long after the connection was accepted.
    pub first_request_max: Duration,
    /// A frame that has begun must be whole this long after, and a second later for each
    /// [`frames::SLOWEST_BYTES_PER_SECOND`] received.
    pub partial_frame_max: Duration,
    /// `socket.send.buffer.bytes` where it was set; else the kernel chooses.
    pub send_buffer_bytes: Option<usize>,
    /// `socket.receive.buffer.bytes` where it was set; else the kernel chooses.
    pub receive_buffer_bytes: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes_max: 100 << 20,
            unanswered_max: 64,
            answer_bytes_max: 16 << 20,
            idle_max: Duration::from_secs(600),
            first_request_max: Duration::from_secs(30),
            partial_frame_max: Duration::from_secs(30),
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
        }
    }
}
