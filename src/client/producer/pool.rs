//! Buffers that come back when the last view of them is gone.
//!
//! A batch's bytes are shared between the queue that may have to send them again and the socket that is
//! writing them. The buffer is reused only after both have let go: `Bytes` counts the views, so a buffer can
//! never change under a socket.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::record::{BatchBuilder, Compression};

/// The most buffers that are kept.
const KEPT_MAX: usize = 64;
/// A buffer that has grown beyond this is given back to the system.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// A shelf of empty buffers.
#[derive(Debug, Default, Clone)]
pub(super) struct Pool {
    shelf: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Builders are all of one producer, so all of one codec.
    #[allow(clippy::vec_box, reason = "builders travel in their boxes")]
    builders: Arc<Mutex<Vec<Box<BatchBuilder>>>>,
}

impl Pool {
    /// An empty buffer, used before if there is one.
    pub(super) fn take(&self) -> Vec<u8> {
        self.shelf.lock().pop().unwrap_or_default()
    }

    /// `buffer` as shared bytes; it comes back when the last view is dropped.
    pub(super) fn share(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Pooled { buffer, pool: self.clone() })
    }

    /// An empty builder, used before if there is one.
    pub(super) fn builder(&self, compression: Compression) -> Box<BatchBuilder> {
        let used = self.builders.lock().pop();
        used.unwrap_or_else(|| Box::new(BatchBuilder::new(compression)))
    }

    /// Takes a builder back that has built its batch.
    pub(super) fn put_builder(&self, builder: Box<BatchBuilder>) {
        let mut builders = self.builders.lock();
        if builders.len() < KEPT_MAX {
            builders.push(builder);
        }
    }

    fn put(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut shelf = self.shelf.lock();
        if shelf.len() < KEPT_MAX && buffer.capacity() <= KEPT_BYTES_MAX {
            shelf.push(buffer);
        }
    }
}

struct Pooled {
    buffer: Vec<u8>,
    pool: Pool,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.pool.put(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cve_2026_35554_kafka_19012_a_buffer_is_reused_only_after_the_last_view_is_gone() {
        let pool = Pool::default();
        let mut buffer = pool.take();
        buffer.extend_from_slice(b"batch of topic a");
        let for_the_queue = pool.share(buffer);
        let for_the_socket = for_the_queue.slice(9..);
        drop(for_the_queue);
        let mut other = pool.take();
        other.extend_from_slice(b"batch of topic b");
        assert_eq!(&for_the_socket[..], b"topic a");
        let address = for_the_socket.as_ptr() as usize - 9;
        drop(for_the_socket);
        let reused = pool.take();
        assert_eq!((reused.as_ptr() as usize, reused.len()), (address, 0));
    }
}
