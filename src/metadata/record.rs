//! Metadata records and the frame they stand in.
//!
//! The value of a log record: frame version (unsigned varint, 1), record type (unsigned varint), version of
//! the record (unsigned varint), then the message. Keys are not used.

use bytes::Bytes;
use thiserror::Error;

use crate::protocol::messages;
use crate::protocol::{DecodeError, Decoder, EncodeError, Encoder, Message};

const FRAME_VERSION: u32 = 1;

/// The `metadata.version` from which on a registration names directories (3.7-IV2).
pub const LEVEL_DIRECTORIES: i16 = 17;
/// From which on a partition names the replicas that may lead (4.0-IV1).
pub const LEVEL_ELIGIBLE_REPLICAS: i16 = 23;
/// From which on a broker says which of its directories take nothing new (4.3-IV0).
pub const LEVEL_CORDONED_DIRECTORIES: i16 = 30;
/// From which on records may stand in transactions (3.6-IV1).
pub const LEVEL_TRANSACTIONS: i16 = 13;
/// From which on controllers register (3.7-IV0).
pub const LEVEL_CONTROLLER_REGISTRATION: i16 = 15;
/// The lowest and the highest that is read and written here (3.3-IV3 and 4.3-IV0).
pub const LEVELS: std::ops::RangeInclusive<i16> = 7..=30;

/// Bytes that are no metadata record.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The frame itself is damaged, or not of version 1.
    #[error("the frame of the metadata record cannot be read: {0}")]
    Frame(String),
    /// A record type that Kafka 4.3 does not have.
    #[error("metadata record type {0} is not known: the directory was written by a newer version")]
    UnknownType(u32),
    /// The message is damaged, or of a newer version.
    #[error(transparent)]
    Message(#[from] DecodeError),
    /// Bytes follow the message.
    #[error("{count} bytes follow the metadata record {name}")]
    Trailing {
        /// The record's name.
        name: &'static str,
        /// How many.
        count: usize,
    },
}

macro_rules! metadata_records {
    ($($variant:ident = $module:ident :: $record:ident,)*) => {
        /// A record of the metadata log, of any type that Kafka 4.3 has.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each variant is the message of its name")]
        pub enum MetadataRecord {
            $($variant(messages::$module::$record),)*
        }

        $(impl From<messages::$module::$record> for MetadataRecord {
            fn from(record: messages::$module::$record) -> Self {
                Self::$variant(record)
            }
        })*

        impl MetadataRecord {
            /// Kafka's name of the record's type.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <messages::$module::$record as Message>::NAME,)*
                }
            }

            fn type_key(&self) -> i16 {
                match self {
                    $(Self::$variant(_) => <messages::$module::$record as Message>::TYPE,)*
                }
            }

            fn highest_version(&self) -> i16 {
                match self {
                    $(Self::$variant(_) => *<messages::$module::$record as Message>::VERSIONS.end(),)*
                }
            }

            fn encode_message(&self, encoder: &mut Encoder, version: i16) -> Result<(), EncodeError> {
                match self {
                    $(Self::$variant(record) => record.encode(encoder, version),)*
                }
            }

            fn decode_message(decoder: &mut Decoder, type_key: u32, version: i16) -> Result<Self, RecordError> {
                $(if type_key == <messages::$module::$record as Message>::TYPE as u32 {
                    return Ok(Self::$variant(Message::decode(decoder, version)?));
                })*
                Err(RecordError::UnknownType(type_key))
            }

            #[cfg(test)]
            fn one_of_each() -> Vec<Self> {
                vec![$(Self::$variant(messages::$module::$record::default()),)*]
            }
        }
    };
}

metadata_records! {
    RegisterBroker = register_broker_record::RegisterBrokerRecord,
    UnregisterBroker = unregister_broker_record::UnregisterBrokerRecord,
    Topic = topic_record::TopicRecord,
    Partition = partition_record::PartitionRecord,
    Config = config_record::ConfigRecord,
    PartitionChange = partition_change_record::PartitionChangeRecord,
    FenceBroker = fence_broker_record::FenceBrokerRecord,
    UnfenceBroker = unfence_broker_record::UnfenceBrokerRecord,
    RemoveTopic = remove_topic_record::RemoveTopicRecord,
    DelegationToken = delegation_token_record::DelegationTokenRecord,
    UserScramCredential = user_scram_credential_record::UserScramCredentialRecord,
    FeatureLevel = feature_level_record::FeatureLevelRecord,
    ClientQuota = client_quota_record::ClientQuotaRecord,
    ProducerIds = producer_ids_record::ProducerIdsRecord,
    BrokerRegistrationChange = broker_registration_change_record::BrokerRegistrationChangeRecord,
    AccessControlEntry = access_control_entry_record::AccessControlEntryRecord,
    RemoveAccessControlEntry = remove_access_control_entry_record::RemoveAccessControlEntryRecord,
    NoOp = no_op_record::NoOpRecord,
    ZkMigrationState = zk_migration_state_record::ZkMigrationStateRecord,
    RemoveUserScramCredential = remove_user_scram_credential_record::RemoveUserScramCredentialRecord,
    BeginTransaction = begin_transaction_record::BeginTransactionRecord,
    EndTransaction = end_transaction_record::EndTransactionRecord,
    AbortTransaction = abort_transaction_record::AbortTransactionRecord,
    RemoveDelegationToken = remove_delegation_token_record::RemoveDelegationTokenRecord,
    RegisterController = register_controller_record::RegisterControllerRecord,
    ClearElr = clear_elr_record::ClearElrRecord,
}

impl MetadataRecord {
    /// Reads the value of one log record, all of it.
    ///
    /// # Errors
    /// [`RecordError`]; nothing panics, whatever the bytes are.
    pub fn decode(value: Bytes) -> Result<Self, RecordError> {
        let mut decoder = Decoder::new(value);
        let frame_version = decoder.unsigned_varint();
        let type_key = decoder.unsigned_varint();
        let version = decoder.unsigned_varint();
        if let Some((position, fault)) = decoder.take_fault() {
            return Err(RecordError::Frame(format!("{fault} at byte {position}")));
        }
        if frame_version != FRAME_VERSION {
            return Err(RecordError::Frame(format!("its version is {frame_version}, not {FRAME_VERSION}")));
        }
        let version = i16::try_from(version).unwrap_or(i16::MAX);
        let record = Self::decode_message(&mut decoder, type_key, version)?;
        match decoder.remaining() {
            0 => Ok(record),
            count => Err(RecordError::Trailing { name: record.name(), count }),
        }
    }

    /// The value of a log record, in the version that a cluster at this `metadata.version` reads.
    ///
    /// # Errors
    /// Text beyond what the protocol carries.
    pub fn encode(&self, metadata_version: i16) -> Result<Bytes, EncodeError> {
        let version = self.written_version(metadata_version);
        if self.names_more_than(metadata_version) {
            return self.without_what_is_newer_than(metadata_version).encode(metadata_version);
        }
        let mut encoder = Encoder::with_capacity(64);
        encoder.unsigned_varint(FRAME_VERSION);
        encoder.unsigned_varint(u32::from(self.type_key().unsigned_abs()));
        encoder.unsigned_varint(u32::from(version.unsigned_abs()));
        self.encode_message(&mut encoder, version)?;
        encoder.into_bytes().map_err(|fault| EncodeError { message: self.name(), version, fault })
    }

    /// Whether it says what records at this level have no field for.
    fn names_more_than(&self, level: i16) -> bool {
        let (directories, replicas, cordoned) =
            (level < LEVEL_DIRECTORIES, level < LEVEL_ELIGIBLE_REPLICAS, level < LEVEL_CORDONED_DIRECTORIES);
        match self {
            Self::RegisterBroker(record) => {
                directories && !record.log_dirs.is_empty() || cordoned && record.cordoned_log_dirs.is_some()
            }
            Self::Partition(record) => {
                let has_eligible =
                    record.eligible_leader_replicas.is_some() || record.last_known_elr.is_some();
                directories && !record.directories.is_empty() || replicas && has_eligible
            }
            Self::PartitionChange(record) => {
                let has_eligible =
                    record.eligible_leader_replicas.is_some() || record.last_known_elr.is_some();
                directories && record.directories.is_some() || replicas && has_eligible
            }
            _ => false,
        }
    }

    /// The record for a cluster that keeps track of less: of no directories, no eligible replicas.
    fn without_what_is_newer_than(&self, level: i16) -> Self {
        let mut older = self.clone();
        match &mut older {
            Self::RegisterBroker(record) => {
                record.cordoned_log_dirs = None;
                if level < LEVEL_DIRECTORIES {
                    record.log_dirs = Vec::new();
                }
            }
            Self::Partition(record) => {
                (record.eligible_leader_replicas, record.last_known_elr) = (None, None);
                if level < LEVEL_DIRECTORIES {
                    record.directories = Vec::new();
                }
            }
            Self::PartitionChange(record) => {
                (record.eligible_leader_replicas, record.last_known_elr) = (None, None);
                if level < LEVEL_DIRECTORIES {
                    record.directories = None;
                }
            }
            _ => {}
        }
        older
    }

    /// Changes of a registration go in the lowest version that can say them, everything else in the highest
    /// that the cluster's level allows.
    fn written_version(&self, metadata_version: i16) -> i16 {
        match self {
            Self::BrokerRegistrationChange(change) if change.cordoned_log_dirs.is_some() => 3,
            Self::BrokerRegistrationChange(change) if !change.log_dirs.is_empty() => 2,
            Self::BrokerRegistrationChange(change) if change.in_controlled_shutdown != 0 => 1,
            Self::BrokerRegistrationChange(_) => 0,
            Self::RegisterBroker(_) if metadata_version < LEVEL_DIRECTORIES => 2,
            Self::RegisterBroker(_) if metadata_version < LEVEL_CORDONED_DIRECTORIES => 3,
            Self::Partition(_) | Self::PartitionChange(_) if metadata_version < LEVEL_DIRECTORIES => 0,
            Self::Partition(_) | Self::PartitionChange(_) if metadata_version < LEVEL_ELIGIBLE_REPLICAS => 1,
            other => other.highest_version(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Bytes {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn every_type_comes_back_as_it_was() {
        for record in MetadataRecord::one_of_each() {
            for level in LEVELS {
                let bytes = record.encode(level).unwrap();
                assert_eq!(MetadataRecord::decode(bytes).unwrap(), record);
            }
        }
    }

    #[test]
    fn a_record_that_kafka_wrote_is_read() {
        let bytes = hex("010c00116d657461646174612e76657273696f6e001e00");
        let record = MetadataRecord::decode(bytes.clone()).unwrap();
        let MetadataRecord::FeatureLevel(feature) = &record else { panic!("{record:?}") };
        assert_eq!((feature.name.as_str(), feature.feature_level), ("metadata.version", 30));
        assert_eq!(record.encode(30).unwrap(), bytes);
    }

    #[test]
    fn a_level_without_directories_gets_records_without_them() {
        let record = MetadataRecord::from(messages::partition_record::PartitionRecord {
            directories: vec![crate::types::Uuid::ONE],
            ..Default::default()
        });
        let written = MetadataRecord::decode(record.encode(LEVEL_DIRECTORIES - 1).unwrap()).unwrap();
        let MetadataRecord::Partition(written) = written else { panic!("{written:?}") };
        assert!(written.directories.is_empty());
        let written = MetadataRecord::decode(record.encode(LEVEL_DIRECTORIES).unwrap()).unwrap();
        assert_eq!(written, record);
    }

    #[test]
    fn what_is_no_record_is_said_to_be_none() {
        for (bytes, word) in [
            ("", "frame"),
            ("000c00", "version is 0"),
            ("01ff0100", "type 255"),
            ("010c63", "FeatureLevelRecord"),
            ("010c00", "FeatureLevelRecord"),
            ("01140000ff", "1 bytes follow"),
            ("01ffffffffffffff", "frame"),
        ] {
            let error = MetadataRecord::decode(hex(bytes)).unwrap_err().to_string();
            assert!(error.contains(word), "{bytes}: {error}");
        }
    }
}
