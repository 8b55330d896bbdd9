//! One connected socket, TCP or Unix, as the connection's poll loop sees it.

use std::fs::File;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, BytesMut};
use nix::errno::Errno;
use nix::libc;
use nix::sys::sendfile::sendfile64;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, Interest};
use tokio::net::{TcpStream, UnixStream};

/// A connected stream.
#[derive(Debug)]
pub enum Socket {
    /// TCP over IPv4 or IPv6.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
}

impl Socket {
    /// Reads into the spare room of `buffer`, at most `room` bytes. `Ok(0)` is the end.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        let mut limited = buffer.limit(room);
        match self {
            Self::Tcp(stream) => pin!(stream.read_buf(&mut limited)).poll(context),
            Self::Unix(stream) => pin!(stream.read_buf(&mut limited)).poll(context),
        }
    }

    /// Writes the first of `slices`, as many as the socket takes.
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match (self, slices) {
            (Self::Tcp(stream), [one]) => Pin::new(stream).poll_write(context, one),
            (Self::Tcp(stream), many) => Pin::new(stream).poll_write_vectored(context, many),
            (Self::Unix(stream), [one]) => Pin::new(stream).poll_write(context, one),
            (Self::Unix(stream), many) => Pin::new(stream).poll_write_vectored(context, many),
        }
    }

    /// Writes `bytes` and tells the kernel that more follows at once: a header before a file range then
    /// shares a packet with it.
    pub fn poll_write_more(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_writable(context, |socket| match socket {
            Self::Tcp(stream) => SockRef::from(stream).send_with_flags(bytes, MORE_FOLLOWS),
            Self::Unix(stream) => SockRef::from(stream).send_with_flags(bytes, MORE_FOLLOWS),
        })
    }

    /// Sends up to `len` bytes of `file` from `position` without copying them through this process.
    /// `Ok(0)`: the file ends there.
    pub fn poll_send_file(
        &mut self,
        context: &mut Context<'_>,
        file: &File,
        position: u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_writable(context, |socket| {
            let mut offset = i64::try_from(position).map_err(io::Error::other)?;
            let sent = match socket {
                Self::Tcp(stream) => sendfile64(stream.as_fd(), file, Some(&mut offset), len),
                Self::Unix(stream) => sendfile64(stream.as_fd(), file, Some(&mut offset), len),
            };
            sent.map_err(|errno: Errno| errno.into())
        })
    }

    fn poll_writable(
        &mut self,
        context: &mut Context<'_>,
        mut act: impl FnMut(&Self) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match &*self {
                Self::Tcp(stream) => ready!(stream.poll_write_ready(context))?,
                Self::Unix(stream) => ready!(stream.poll_write_ready(context))?,
            }
            let done = match &*self {
                Self::Tcp(stream) => stream.try_io(Interest::WRITABLE, || act(self)),
                Self::Unix(stream) => stream.try_io(Interest::WRITABLE, || act(self)),
            };
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

const MORE_FOLLOWS: i32 = libc::MSG_MORE | libc::MSG_NOSIGNAL;
