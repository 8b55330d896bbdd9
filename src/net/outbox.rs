//! What is on its way out of one connection, in order: bytes are gathered into one write, file ranges are
//! sent by the kernel where that is cheaper than reading them here.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt as _;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};

use super::Piece;
use super::socket::Socket;

/// How many pieces one gathered write takes.
const SLICES_MAX: usize = 32;
/// How much one sendfile call is asked for: it blocks the thread on pages that are not in memory, so that
/// one cold reader must not ask for everything at once.
const SEND_FILE_BYTES_MAX: usize = 1 << 20;

/// How a range of a file reaches a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// `pread` into memory, and out with the pieces around it in one write.
    Copy,
    /// `sendfile`: the pages are handed over where they lie.
    SendFile,
}

/// The cheaper way for a range of `len` bytes, as measured by `cargo bench --bench transfer`.
///
/// Below 4 KiB the second system call costs more than the copy that it spares; at 16 KiB sending takes little
/// more than half of the processor time, and beyond 64 KiB four fifths.
#[must_use]
pub fn transfer(len: usize) -> Transfer {
    if len < 4 << 10 { Transfer::Copy } else { Transfer::SendFile }
}

/// Pieces in their order, and how far the first has gone.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Piece>,
    memory_bytes: usize,
}

impl Outbox {
    /// Adds the pieces of one answer.
    pub fn push(&mut self, pieces: Vec<Piece>) {
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            if let Piece::Bytes(bytes) = &piece {
                self.memory_bytes += bytes.len();
            }
            self.pieces.push_back(piece);
        }
    }

    /// Whether everything is out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The bytes of memory that wait to be sent.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Writes until everything is out (`Ready`) or the socket is full; `moved` counts the bytes.
    ///
    /// # Errors
    /// The socket's, the file's, or `UnexpectedEof` where a file is shorter than was promised: the answer
    /// cannot be completed and the connection has to end.
    pub fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut Socket,
        moved: &mut u64,
    ) -> Poll<io::Result<()>> {
        while !self.pieces.is_empty() {
            self.read_short_ranges()?;
            let sent = match (self.pieces.front(), self.pieces.get(1)) {
                (Some(Piece::File { file, position, len }), _) => {
                    let len = (*len).min(SEND_FILE_BYTES_MAX);
                    ready!(socket.poll_send_file(context, file, *position, len))?
                }
                (Some(Piece::Bytes(bytes)), Some(Piece::File { .. })) => {
                    ready!(socket.poll_write_more(context, bytes))?
                }
                _ => ready!(self.poll_gathered(context, socket))?,
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            *moved += sent as u64;
            self.advance(sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Turns the ranges at the front that are cheaper to copy into bytes.
    fn read_short_ranges(&mut self) -> io::Result<()> {
        for piece in self.pieces.iter_mut().take(SLICES_MAX) {
            if let Piece::File { file, position, len } = piece {
                if transfer(*len) == Transfer::SendFile {
                    return Ok(());
                }
                let bytes = read_range(file, *position, *len)?;
                self.memory_bytes += bytes.len();
                *piece = Piece::Bytes(bytes);
            }
        }
        Ok(())
    }

    fn poll_gathered(&self, context: &mut Context<'_>, socket: &mut Socket) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            let Piece::Bytes(bytes) = piece else { break };
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        socket.poll_write(context, &slices[..count])
    }

    fn advance(&mut self, mut sent: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let step = sent.min(piece.len());
            match piece {
                Piece::Bytes(bytes) => {
                    bytes.advance(step);
                    self.memory_bytes -= step;
                }
                Piece::File { position, len, .. } => {
                    *position += step as u64;
                    *len -= step;
                }
            }
            sent -= step;
            if !piece.is_empty() {
                break;
            }
            self.pieces.pop_front();
        }
        assert!(sent == 0, "no more was sent than was there");
    }
}

fn read_range(file: &File, position: u64, len: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, position)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn bytes_and_file_ranges_arrive_in_order() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
        file.write_all(&content).unwrap();
        let file = Arc::new(file);
        let range = |position: usize, len: usize| Piece::File {
            file: Arc::clone(&file),
            position: position as u64,
            len,
        };
        let mut outbox = Outbox::default();
        outbox.push(vec![
            Piece::Bytes(Bytes::from_static(b"head")),
            range(1_000_000, 600_000),
            Piece::Bytes(Bytes::from_static(b"between")),
            range(8, 100),
            range(0, 0),
            Piece::Bytes(Bytes::from_static(b"tail")),
        ]);
        let expected =
            [b"head", &content[1_000_000..1_600_000], b"between", &content[8..108], b"tail"].concat();

        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let reader = tokio::spawn(async move {
            let mut received = Vec::new();
            theirs.read_to_end(&mut received).await.unwrap();
            received
        });
        let mut socket = Socket::Unix(ours);
        let mut moved = 0;
        std::future::poll_fn(|context| outbox.poll_send(context, &mut socket, &mut moved)).await.unwrap();
        assert_eq!((moved, outbox.memory_bytes()), (expected.len() as u64, 0));
        drop(socket);
        assert!(reader.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn a_file_that_is_shorter_than_promised_ends_the_connection() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        for len in [10, 100_000] {
            let mut outbox = Outbox::default();
            outbox.push(vec![Piece::File { file: Arc::clone(&file), position: 0, len }]);
            let mut socket = Socket::Unix(UnixStream::pair().unwrap().0);
            let sent = std::future::poll_fn(|context| outbox.poll_send(context, &mut socket, &mut 0)).await;
            assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
