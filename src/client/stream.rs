//! Sockets of any kind as two halves that do not share a lock.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::address::{Address, Bootstrap};

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

/// Connects to `address`, or as `bootstrap` wants it.
pub(super) async fn connect(bootstrap: &Bootstrap, address: &Address) -> io::Result<(ReadHalf, WriteHalf)> {
    match (bootstrap, address) {
        (Bootstrap::Dial(dial), _) => Ok(split_unix(dial.dial()?)),
        (_, Address::Unix(path)) => Ok(split_unix(UnixStream::connect(path).await?)),
        (_, Address::Tcp { host, port }) => {
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
