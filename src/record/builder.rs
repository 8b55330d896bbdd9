//! Making a batch: append records, then build. The bytes are Kafka's to the letter; a builder is reused for
//! batch after batch with its buffers and its codec.

use bytes::Bytes;

use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use super::compression::{Codec, Compression, Compressor};
use super::control::{ControlKey, ControlType, EndMarker};
use super::error::BatchError;
use super::header::{
    BATCH_HEADER_SIZE, BatchHeader, CONTROL_BIT, DELETE_HORIZON_BIT, LOG_APPEND_TIME_BIT, LOG_OVERHEAD,
    NO_SEQUENCE, NO_TIMESTAMP, TRANSACTIONAL_BIT, TimestampType, seal,
};
use super::reader::HeaderRef;
use super::varint::{put_varlong, varlong_size};

/// Who writes a batch, for idempotent and transactional producers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerState {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Sequence of the batch's first record.
    pub base_sequence: i32,
    /// Whether the batch is part of a transaction.
    pub is_transactional: bool,
}

impl ProducerState {
    /// Nobody: neither idempotent nor transactional.
    pub const NONE: Self = Self {
        id: ProducerId::NONE,
        epoch: ProducerEpoch::NONE,
        base_sequence: NO_SEQUENCE,
        is_transactional: false,
    };
}

/// Collects records and builds one batch of them after another.
#[derive(Debug)]
pub struct BatchBuilder {
    compressor: Compressor,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    producer: ProducerState,
    log_append_time_ms: Option<i64>,
    is_control: bool,
    delete_horizon_ms: Option<i64>,
    /// The last offset delta of the batch that this one replaces, whatever records are left of it.
    last_offset_delta_kept: Option<i32>,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    last_offset_delta: i32,
    record_count: i32,
    /// Room for the header, then the records, uncompressed.
    plain: Vec<u8>,
}

impl BatchBuilder {
    /// An empty batch with base offset 0, leader epoch -1 and no producer: what a client sends.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        Self {
            compressor: Compressor::new(compression),
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch::UNKNOWN,
            producer: ProducerState::NONE,
            log_append_time_ms: None,
            is_control: false,
            delete_horizon_ms: None,
            last_offset_delta_kept: None,
            base_timestamp_ms: NO_TIMESTAMP,
            max_timestamp_ms: NO_TIMESTAMP,
            last_offset_delta: -1,
            record_count: 0,
            plain: vec![0; BATCH_HEADER_SIZE],
        }
    }

    /// Sets where the batch stands in its log.
    #[must_use]
    pub fn at(mut self, base_offset: Offset, leader_epoch: LeaderEpoch) -> Self {
        (self.base_offset, self.leader_epoch) = (base_offset, leader_epoch);
        self
    }

    /// Sets who writes it.
    #[must_use]
    pub fn by(mut self, producer: ProducerState) -> Self {
        self.producer = producer;
        self
    }

    /// Sets the broker's time as the timestamp of all records.
    #[must_use]
    pub fn log_append_time(mut self, now_ms: i64) -> Self {
        self.log_append_time_ms = Some(now_ms);
        self
    }

    /// Makes it a control batch; [`BatchBuilder::append_control`] fills it.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.is_control = true;
        self
    }

    /// Changes who writes the next batch of a reused builder.
    pub fn set_producer(&mut self, producer: ProducerState) {
        self.producer = producer;
    }

    /// Changes where the next batch of a reused builder stands.
    pub fn set_position(&mut self, base_offset: Offset, leader_epoch: LeaderEpoch) {
        (self.base_offset, self.leader_epoch) = (base_offset, leader_epoch);
    }

    /// Makes the next batch of a reused builder take the place of the one with this header: its offsets, producer,
    /// epoch and flags stay, whatever records are appended. With a delete horizon, that is set, too.
    pub fn replace(&mut self, header: &BatchHeader, delete_horizon_ms: Option<i64>) {
        self.clear();
        (self.base_offset, self.leader_epoch) = (header.base_offset, header.leader_epoch);
        self.producer = ProducerState {
            id: header.producer_id,
            epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            is_transactional: header.is_transactional(),
        };
        let is_stamped = header.timestamp_type() == TimestampType::LogAppendTime;
        self.log_append_time_ms = is_stamped.then_some(header.max_timestamp_ms);
        self.is_control = header.is_control();
        self.delete_horizon_ms = delete_horizon_ms;
        self.last_offset_delta_kept = Some(header.last_offset_delta);
    }

    /// Appends a record at the next offset and returns its offset delta.
    pub fn append<'h>(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = HeaderRef<'h>, IntoIter: Clone>,
    ) -> i32 {
        let offset_delta = self.last_offset_delta + 1;
        self.append_at(offset_delta, timestamp_ms, key, value, headers);
        offset_delta
    }

    /// Appends a record at `offset_delta`, which must be beyond the last one's: a batch with holes, as
    /// compaction leaves them.
    pub fn append_at<'h>(
        &mut self,
        offset_delta: i32,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = HeaderRef<'h>, IntoIter: Clone>,
    ) {
        assert!(offset_delta > self.last_offset_delta, "offsets grow within a batch");
        if self.record_count == 0 {
            self.base_timestamp_ms = self.delete_horizon_ms.unwrap_or(timestamp_ms);
        }
        let timestamp_delta = timestamp_ms.wrapping_sub(self.base_timestamp_ms);
        let headers = headers.into_iter();
        let header_count = headers.clone().count();
        let size = 1
            + varlong_size(timestamp_delta)
            + varlong_size(i64::from(offset_delta))
            + nullable_size(key)
            + nullable_size(value)
            + varlong_size(header_count as i64)
            + headers.clone().map(|h| nullable_size(Some(h.key)) + nullable_size(h.value)).sum::<usize>();
        let out = &mut self.plain;
        out.reserve(size + 5);
        put_varlong(out, size as i64);
        out.push(0);
        put_varlong(out, timestamp_delta);
        put_varlong(out, i64::from(offset_delta));
        put_nullable(out, key);
        put_nullable(out, value);
        put_varlong(out, header_count as i64);
        for header in headers {
            put_nullable(out, Some(header.key));
            put_nullable(out, header.value);
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
        self.last_offset_delta = offset_delta;
        self.record_count += 1;
    }

    /// Appends a control record whose value is an encoded message.
    pub fn append_control(&mut self, timestamp_ms: i64, kind: ControlType, value: &[u8]) -> i32 {
        assert!(self.is_control, "control records stand in control batches");
        self.append(timestamp_ms, Some(&ControlKey::new(kind).to_bytes()), Some(value), [])
    }

    /// The marker that ends a producer's transaction, as one batch.
    ///
    /// # Errors
    /// None is known to happen; the type is that of [`BatchBuilder::build`].
    pub fn end_marker(
        id: ProducerId,
        epoch: ProducerEpoch,
        timestamp_ms: i64,
        commit: bool,
        coordinator_epoch: i32,
    ) -> Result<Bytes, BatchError> {
        let producer = ProducerState { id, epoch, base_sequence: NO_SEQUENCE, is_transactional: true };
        let mut builder = Self::new(Compression::NONE).by(producer).control();
        let kind = if commit { ControlType::Commit } else { ControlType::Abort };
        builder.append_control(timestamp_ms, kind, &EndMarker { coordinator_epoch }.to_bytes());
        builder.build()
    }

    /// Records so far.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Whether nothing was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the batch if it were built now and not compressed: never too low for incompressible data by
    /// more than the codec's framing.
    #[must_use]
    pub fn size_estimate(&self) -> usize {
        self.plain.len()
    }

    /// Bytes that [`BatchBuilder::append`] would add for such a record, its headers left out; never too low.
    #[must_use]
    pub fn record_size_max(key: Option<&[u8]>, value: Option<&[u8]>) -> usize {
        const OVERHEAD_MAX: usize = 5 + 1 + 10 + 5 + 5;
        OVERHEAD_MAX + nullable_size(key) + nullable_size(value)
    }

    /// Finishes the batch and leaves the builder empty, for the next one with the same settings.
    ///
    /// # Errors
    /// `Inflate` where a codec fails; none is known to.
    pub fn build(&mut self) -> Result<Bytes, BatchError> {
        let mut out = Vec::new();
        self.build_into(&mut out)?;
        Ok(out.into())
    }

    /// [`BatchBuilder::build`] without a copy where nothing is compressed: the builder hands out its own
    /// buffer and goes on with `spare`, whose bytes are forgotten.
    ///
    /// # Errors
    /// As [`BatchBuilder::build`].
    pub fn build_with(&mut self, mut spare: Vec<u8>) -> Result<Vec<u8>, BatchError> {
        spare.clear();
        if self.compressor.compression().codec() != Codec::None {
            self.build_into(&mut spare)?;
            return Ok(spare);
        }
        let header = self.header(self.plain.len()).to_bytes();
        self.plain[..BATCH_HEADER_SIZE].copy_from_slice(&header);
        seal(&mut self.plain);
        spare.resize(BATCH_HEADER_SIZE, 0);
        let batch = std::mem::replace(&mut self.plain, spare);
        self.clear();
        Ok(batch)
    }

    /// [`BatchBuilder::build`], appended to `out`.
    ///
    /// # Errors
    /// As [`BatchBuilder::build`].
    pub fn build_into(&mut self, out: &mut Vec<u8>) -> Result<(), BatchError> {
        let at = out.len();
        if self.compressor.compression().codec() == Codec::None || self.record_count == 0 {
            out.extend_from_slice(&self.plain);
        } else {
            out.resize(at + BATCH_HEADER_SIZE, 0);
            self.compressor.compress_into(&self.plain[BATCH_HEADER_SIZE..], out)?;
        }
        let batch = &mut out[at..];
        let header = self.header(batch.len()).to_bytes();
        batch[..BATCH_HEADER_SIZE].copy_from_slice(&header);
        seal(batch);
        self.clear();
        Ok(())
    }

    /// Forgets the records; settings and buffers stay.
    pub fn clear(&mut self) {
        self.plain.truncate(BATCH_HEADER_SIZE);
        (self.base_timestamp_ms, self.max_timestamp_ms) = (NO_TIMESTAMP, NO_TIMESTAMP);
        (self.last_offset_delta, self.record_count) = (-1, 0);
    }

    fn header(&self, size: usize) -> BatchHeader {
        let mut attributes = i16::from(self.compressor.compression().codec().id());
        let bits = [
            (self.log_append_time_ms.is_some(), LOG_APPEND_TIME_BIT),
            (self.producer.is_transactional, TRANSACTIONAL_BIT),
            (self.is_control, CONTROL_BIT),
            (self.delete_horizon_ms.is_some(), DELETE_HORIZON_BIT),
        ];
        for (_, bit) in bits.into_iter().filter(|(is_set, _)| *is_set) {
            attributes |= bit;
        }
        BatchHeader {
            base_offset: self.base_offset,
            length: (size - LOG_OVERHEAD) as i32,
            leader_epoch: self.leader_epoch,
            crc: 0,
            attributes,
            last_offset_delta: self.last_offset_delta_kept.unwrap_or(self.last_offset_delta),
            base_timestamp_ms: self.base_timestamp_ms,
            max_timestamp_ms: self.log_append_time_ms.unwrap_or(self.max_timestamp_ms),
            producer_id: self.producer.id,
            producer_epoch: self.producer.epoch,
            base_sequence: self.producer.base_sequence,
            record_count: self.record_count,
        }
    }
}

fn nullable_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varlong_size(bytes.len() as i64) + bytes.len())
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_varlong(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => put_varlong(out, -1),
    }
}
