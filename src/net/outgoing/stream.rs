//! Sockets of any kind as two halves that do not share a lock.

use std::fmt;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::address::Address;

/// Makes connections to a broker that has no address, because it runs in this process.
pub trait Dial: Send + Sync {
    /// One end of a fresh connection; the broker has the other.
    ///
    /// # Errors
    /// What the system says, or that the broker is gone.
    fn dial(&self) -> io::Result<UnixStream>;
}

/// What is read from a broker.
pub(super) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// What is written to a broker.
pub(super) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// What is connected to.
pub enum Target<'a> {
    /// A broker with an address.
    Address(&'a Address),
    /// The broker in this process.
    Dial(&'a dyn Dial),
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Dial(_) => f.write_str("the broker in this process"),
        }
    }
}

/// Connects to `target`.
pub(super) async fn connect(target: &Target<'_>) -> io::Result<(ReadHalf, WriteHalf)> {
    match target {
        Target::Dial(dial) => Ok(split_unix(dial.dial()?)),
        Target::Address(Address::Unix(path)) => Ok(split_unix(UnixStream::connect(path).await?)),
        Target::Address(Address::Tcp { host, port }) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            // Requests are written whole: waiting for more would only delay them.
            stream.set_nodelay(true)?;
            let (read, write) = stream.into_split();
            Ok((Box::new(read), Box::new(write)))
        }
    }
}

/// The two halves of a Unix socket.
pub(super) fn split_unix(stream: UnixStream) -> (ReadHalf, WriteHalf) {
    let (read, write) = stream.into_split();
    (Box::new(read), Box::new(write))
}
