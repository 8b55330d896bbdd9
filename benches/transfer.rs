//! How a range of a cached file reaches a socket the cheapest: read and written, or sent by the kernel.
//! `net::outbox::transfer` chooses by what this shows. `cargo bench --bench transfer`.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::thread;

use divan::Bencher;
use divan::counter::BytesCount;
use nix::sys::sendfile::sendfile64;

const FILE_BYTES: usize = 64 << 20;
const SIZES: &[usize] = &[1 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 256 << 10, 1 << 20];

fn main() {
    divan::main();
}

/// A cached file, and a socket whose other end discards what comes.
fn setup() -> (File, TcpStream) {
    let mut file = tempfile::tempfile().unwrap();
    for _ in 0..FILE_BYTES >> 20 {
        file.write_all(&[7; 1 << 20]).unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    ours.set_nodelay(true).unwrap();
    let (mut theirs, _) = listener.accept().unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while theirs.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    (file, ours)
}

/// Positions that walk through the file, so that no range is in the CPU's cache from the time before.
fn positions(len: usize) -> impl FnMut() -> u64 {
    let mut position = 0;
    move || {
        position = (position + len) % (FILE_BYTES - len);
        position as u64
    }
}

#[divan::bench(args = SIZES)]
fn read_and_write(bencher: Bencher<'_, '_>, len: usize) {
    let (file, mut socket) = setup();
    let mut position = positions(len);
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        let mut bytes = vec![0; len + 100];
        file.read_exact_at(&mut bytes[100..], position()).unwrap();
        socket.write_all(&bytes).unwrap();
    });
}

#[divan::bench(args = SIZES)]
fn header_and_sendfile(bencher: Bencher<'_, '_>, len: usize) {
    let (file, socket) = setup();
    let header = [0; 100];
    let mut position = positions(len);
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        let more = nix::libc::MSG_MORE;
        socket2::SockRef::from(&socket).send_with_flags(&header, more).unwrap();
        let mut offset = i64::try_from(position()).unwrap();
        let mut left = len;
        while left > 0 {
            left -= sendfile64(&socket, &file, Some(&mut offset), left).unwrap();
        }
    });
}
