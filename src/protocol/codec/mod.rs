//! How messages become bytes and bytes messages: [`Decoder`] and [`Encoder`] know Kafka's primitive types,
//! [`Message`] is what every generated struct of the top level can do.
//!
//! Both keep the first fault and carry on harmlessly (reads yield zeros and empty collections), so that the
//! generated code is straight lines; [`Message::decode`] and [`Message::encode`] report the fault at the end.

mod decoder;
mod encoder;
mod tags;

use std::ops::RangeInclusive;

use bytes::Bytes;
use thiserror::Error;

pub use decoder::{DecodeFault, Decoder};
pub use encoder::{EncodeFault, EncodedPiece, Encoder};
pub use tags::{Tags, UnknownTags};

use super::apis::ApiKey;
use super::schema::{self, Schema};

/// Bytes that are no message of their kind: what was being read, where it went wrong, and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} version {version}, byte {position}: {fault}")]
pub struct DecodeError {
    /// Kafka's name of the message.
    pub message: &'static str,
    /// The version it was read as.
    pub version: i16,
    /// How many bytes into the decoder's input.
    pub position: usize,
    /// What is wrong there.
    pub fault: DecodeFault,
}

/// A message that cannot be written in this version: a mistake of the caller.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} version {version}: {fault}")]
pub struct EncodeError {
    /// Kafka's name of the message.
    pub message: &'static str,
    /// The version it was to be written in.
    pub version: i16,
    /// What is wrong.
    pub fault: EncodeFault,
}

/// Record batches in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records {
    /// The batches as they stand in the message.
    Inline(Bytes),
    /// Batches that stand elsewhere, in a file say: encoding leaves a gap of this length.
    Outside {
        /// How many bytes the batches have.
        len: usize,
    },
}

impl Records {
    /// How many bytes the batches have.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Outside { len } => *len,
        }
    }

    /// Whether there is no batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, if they are here.
    #[must_use]
    pub fn inline(&self) -> Option<&Bytes> {
        match self {
            Self::Inline(bytes) => Some(bytes),
            Self::Outside { .. } => None,
        }
    }
}

/// A message of the tables in `messages/*.txt`.
pub trait Message: Default {
    /// Kafka's name, without the `Data` that its Java classes end with.
    const NAME: &'static str;
    /// The API key; the record type for a log record; -1 where there is none.
    const TYPE: i16;
    /// The versions that can be read and written.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact lengths and tagged fields; `i16::MAX` where there is none.
    const FLEXIBLE_FROM: i16;
    /// The fields as a table.
    const SCHEMA: &'static Schema;

    /// Reads the fields; faults stay in the decoder. [`Message::decode`] is what callers want.
    fn read(decoder: &mut Decoder, version: i16) -> Self;

    /// Writes the fields; faults stay in the encoder. [`Message::encode`] is what callers want.
    fn write(&self, encoder: &mut Encoder, version: i16);

    /// Reads one message. Bytes after it stay in the decoder: see [`Decoder::remaining`].
    ///
    /// # Errors
    /// [`DecodeError`]: unknown version, bytes that end early, lengths that lie, null where none is allowed,
    /// text that is not UTF-8, tags out of order, more elements than a frame of this size may hold.
    fn decode(decoder: &mut Decoder, version: i16) -> Result<Self, DecodeError> {
        if !Self::VERSIONS.contains(&version) {
            decoder.fail(DecodeFault::UnsupportedVersion);
        }
        let message = Self::read(decoder, version);
        match decoder.take_fault() {
            None => Ok(message),
            Some((position, fault)) => Err(DecodeError { message: Self::NAME, version, position, fault }),
        }
    }

    /// Writes the message.
    ///
    /// # Errors
    /// [`EncodeError`]: a version that does not exist, a field that this version cannot carry and that may not
    /// be left out, null where none is allowed, text over 32,767 bytes. What was written by then is of no use.
    fn encode(&self, encoder: &mut Encoder, version: i16) -> Result<(), EncodeError> {
        if !Self::VERSIONS.contains(&version) {
            encoder.fail(EncodeFault::UnsupportedVersion);
        } else {
            self.write(encoder, version);
        }
        match encoder.take_fault() {
            None => Ok(()),
            Some(fault) => Err(EncodeError { message: Self::NAME, version, fault }),
        }
    }

    /// Kafka's JSON form: camelCase names, bytes in base64, record batches as an empty string, tagged fields
    /// left out where they have their default. Fields that the version does not carry are left out.
    fn to_json(&self, version: i16) -> serde_json::Value {
        let mut encoder = Encoder::lenient();
        self.write(&mut encoder, version);
        schema::json_of_encoded(Self::SCHEMA, encoder.into_bytes_with_empty_gaps(), version)
    }
}

/// A request: knows its API and what answers it.
pub trait Request: Message {
    /// The API.
    const KEY: ApiKey;
    /// What answers it, in the same version.
    type Response: Message;
}

/// The message as bytes, where no records stand outside.
///
/// # Errors
/// As [`Message::encode`]; and [`EncodeFault::RecordsOutside`].
pub fn encode_to_bytes<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut encoder = Encoder::new();
    message.encode(&mut encoder, version)?;
    encoder.into_bytes().map_err(|fault| EncodeError { message: M::NAME, version, fault })
}

/// A message that is all that the decoder still holds.
///
/// # Errors
/// As [`Message::decode`]; and [`DecodeFault::TrailingBytes`].
pub fn decode_whole<M: Message>(decoder: &mut Decoder, version: i16) -> Result<M, DecodeError> {
    let message = M::decode(decoder, version)?;
    match decoder.remaining() {
        0 => Ok(message),
        left => {
            let fault = DecodeFault::TrailingBytes { left };
            Err(DecodeError { message: M::NAME, version, position: decoder.position(), fault })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::alter_partition_request::AlterPartitionRequest;
    use crate::protocol::messages::api_versions_request::ApiVersionsRequest;
    use crate::protocol::messages::consumer_group_member_metadata_value::ConsumerGroupMemberMetadataValue;
    use crate::protocol::messages::create_topics_response::CreateTopicsResponse;
    use crate::protocol::messages::fetch_request::FetchRequest;
    use crate::protocol::messages::list_offsets_request::ListOffsetsRequest;
    use crate::protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
    use crate::protocol::messages::partition_change_record::PartitionChangeRecord;
    use crate::protocol::messages::produce_request::{
        PartitionProduceData, ProduceRequest, TopicProduceData,
    };
    use crate::types::Uuid;

    fn produce(records: Records) -> ProduceRequest {
        let partition = PartitionProduceData { index: 3, records: Some(records), ..Default::default() };
        let topic =
            TopicProduceData { name: "orders".into(), partition_data: vec![partition], ..Default::default() };
        ProduceRequest { acks: -1, topic_data: vec![topic], ..Default::default() }
    }

    #[test]
    fn defaults_are_kafkas() {
        let fetch = FetchRequest::default();
        assert_eq!((fetch.replica_id, fetch.max_bytes, fetch.session_epoch), (-1, i32::MAX, -1));
        assert_eq!(fetch.cluster_id, None);
        let change = PartitionChangeRecord::default();
        assert_eq!((change.leader, change.isr, change.directories), (-2, None, None));
        // Nullable without a default of null: empty, not null.
        assert_eq!(MetadataRequest::default().topics, Some(Vec::new()));
        assert_eq!(MetadataRequestTopic::default().name, Some("".into()));
    }

    #[test]
    fn a_field_that_the_version_has_not_is_an_error_unless_it_may_be_left_out() {
        let mut request = ListOffsetsRequest { isolation_level: 1, timeout_ms: 500, ..Default::default() };
        let fault = encode_to_bytes(&request, 1).unwrap_err().fault;
        assert_eq!(fault, EncodeFault::FieldNotInVersion { field: "isolationLevel" });
        // `timeoutMs` is ignorable.
        request.isolation_level = 0;
        let bytes = encode_to_bytes(&request, 1).unwrap();
        let read: ListOffsetsRequest = decode_whole(&mut Decoder::new(bytes), 1).unwrap();
        assert_eq!(read.timeout_ms, 0);
    }

    #[test]
    fn a_tagged_field_that_the_version_has_not_is_an_error_too() {
        let mut request = FetchRequest::default();
        request.replica_state.replica_id = 7;
        let fault = encode_to_bytes(&request, 14).unwrap_err().fault;
        assert_eq!(fault, EncodeFault::FieldNotInVersion { field: "replicaState" });
        assert!(encode_to_bytes(&request, 15).is_ok());
    }

    #[test]
    fn versions_that_do_not_exist_are_not_written() {
        for version in [-1, 1, 4] {
            let error = encode_to_bytes(&AlterPartitionRequest::default(), version).unwrap_err();
            assert_eq!(error.fault, EncodeFault::UnsupportedVersion);
            assert_eq!(error.message, "AlterPartitionRequest");
        }
    }

    #[test]
    fn null_where_none_is_allowed_is_not_written() {
        let request = MetadataRequest { topics: None, ..Default::default() };
        assert_eq!(encode_to_bytes(&request, 0).unwrap_err().fault, EncodeFault::Null { field: "topics" });
        assert!(encode_to_bytes(&request, 1).is_ok());
    }

    #[test]
    fn text_that_could_not_be_read_back_is_not_written() {
        let request =
            ApiVersionsRequest { client_software_name: "x".repeat(32768).into(), ..Default::default() };
        let fault = encode_to_bytes(&request, 3).unwrap_err().fault;
        assert_eq!(fault, EncodeFault::TooLong { length: 32768 });
    }

    #[test]
    fn large_records_are_shared_and_small_ones_copied() {
        for (len, pieces) in [(100, 1), (5000, 3)] {
            let batch = Bytes::from(vec![7; len]);
            let mut encoder = Encoder::new();
            produce(Records::Inline(batch.clone())).encode(&mut encoder, 9).unwrap();
            let encoded = encoder.finish();
            assert_eq!(encoded.len(), pieces);
            let shared = encoded
                .iter()
                .any(|piece| matches!(piece, EncodedPiece::Bytes(bytes) if bytes.as_ptr() == batch.as_ptr()));
            assert_eq!(shared, len == 5000);
        }
    }

    #[test]
    fn decoded_records_share_the_frame() {
        let bytes = encode_to_bytes(&produce(Records::Inline(Bytes::from_static(b"batch"))), 9).unwrap();
        let frame = bytes.as_ptr_range();
        let read: ProduceRequest = decode_whole(&mut Decoder::new(bytes), 9).unwrap();
        let records =
            read.topic_data[0].partition_data[0].records.as_ref().and_then(Records::inline).unwrap();
        assert!(frame.contains(&records.as_ptr()));
        assert!(frame.contains(&read.topic_data[0].name.as_bytes().as_ptr()));
    }

    #[test]
    fn records_outside_are_no_plain_bytes() {
        let error = encode_to_bytes(&produce(Records::Outside { len: 9 }), 9).unwrap_err();
        assert_eq!(error.fault, EncodeFault::RecordsOutside);
    }

    #[test]
    fn unknown_tagged_fields_leave_as_they_came() {
        // Tag 0 is known from version 15 on; in version 12 it is kept with the others.
        let mut request = FetchRequest { cluster_id: Some("c".into()), ..Default::default() };
        request.unknown_tags.push(1, Bytes::from_static(b"one"));
        request.unknown_tags.push(9, Bytes::from_static(b"nine"));
        let bytes = encode_to_bytes(&request, 12).unwrap();
        assert!(bytes.ends_with(b"\x03\x00\x02\x02c\x01\x03one\x09\x04nine"));
        assert_eq!(decode_whole::<FetchRequest>(&mut Decoder::new(bytes), 12).unwrap(), request);
    }

    #[test]
    fn a_null_struct_in_a_tagged_field_is_a_zero_as_in_kafkas_group_records() {
        let member = ConsumerGroupMemberMetadataValue { classic_member_metadata: None, ..Default::default() };
        let bytes = encode_to_bytes(&member, 0).unwrap();
        assert!(bytes.ends_with(b"\x01\x00\x01\x00"));
        let read: ConsumerGroupMemberMetadataValue = decode_whole(&mut Decoder::new(bytes), 0).unwrap();
        assert_eq!(read, member);
        assert!(read.to_json(0)["classicMemberMetadata"].is_null());
    }

    #[test]
    fn json_leaves_out_what_the_version_cannot_carry_and_shows_no_records() {
        let mut request = produce(Records::Outside { len: 9 });
        request.topic_data[0].topic_id = Uuid::ONE;
        let json = request.to_json(12);
        assert_eq!(
            json.to_string(),
            r#"{"transactionalId":null,"acks":-1,"timeoutMs":0,"topicData":[{"name":"orders","partitionData":[{"index":3,"records":""}]}]}"#
        );
        assert_eq!(request.to_json(13)["topicData"][0]["topicId"], "AAAAAAAAAAAAAAAAAAAAAQ");
    }

    #[test]
    fn faults_say_message_version_position_and_field() {
        let bytes = Bytes::from_static(b"\0\0\0\0\0\0\0\x01\0\x09oops");
        let error = decode_whole::<CreateTopicsResponse>(&mut Decoder::new(bytes), 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "CreateTopicsResponse version 2, byte 10: name claims 9, 4 bytes are left"
        );
    }
}
