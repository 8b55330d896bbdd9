//! ONE table of Kafka's error codes: code, name, whether a client may retry, what it means.

use std::fmt;

macro_rules! error_codes {
    ($($code:literal $variant:ident $name:literal $retriable:ident $message:literal;)*) => {
        /// An error code of Kafka's protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(
                #[doc = $message]
                $variant = $code,
            )*
        }

        /// Code, name, whether a client may retry, what it means.
        const TABLE: &[(ErrorCode, &str, bool, &str)] =
            &[$((ErrorCode::$variant, $name, $retriable, $message),)*];
    };
}

const RETRIABLE: bool = true;
const FINAL: bool = false;

error_codes! {
    -1 UnknownServerError "UNKNOWN_SERVER_ERROR" FINAL "The server met an unexpected error.";
    0 None "NONE" FINAL "No error.";
    1 OffsetOutOfRange "OFFSET_OUT_OF_RANGE" FINAL "The offset is outside of the range of offsets that the log has.";
    2 CorruptMessage "CORRUPT_MESSAGE" RETRIABLE "A record batch failed its checksum, is damaged, or is otherwise invalid.";
    3 UnknownTopicOrPartition "UNKNOWN_TOPIC_OR_PARTITION" RETRIABLE "This server does not host this topic partition.";
    4 InvalidFetchSize "INVALID_FETCH_SIZE" FINAL "The fetch size is invalid.";
    5 LeaderNotAvailable "LEADER_NOT_AVAILABLE" RETRIABLE "The partition has no leader now: an election is due or under way.";
    6 NotLeaderOrFollower "NOT_LEADER_OR_FOLLOWER" RETRIABLE "This broker is not the leader, or no replica, of the partition.";
    7 RequestTimedOut "REQUEST_TIMED_OUT" RETRIABLE "The request timed out.";
    8 BrokerNotAvailable "BROKER_NOT_AVAILABLE" FINAL "The broker is not available.";
    9 ReplicaNotAvailable "REPLICA_NOT_AVAILABLE" RETRIABLE "The replica is not available for this topic partition.";
    10 MessageTooLarge "MESSAGE_TOO_LARGE" FINAL "The message is larger than the server accepts.";
    11 StaleControllerEpoch "STALE_CONTROLLER_EPOCH" FINAL "The controller moved to another broker.";
    12 OffsetMetadataTooLarge "OFFSET_METADATA_TOO_LARGE" FINAL "The metadata of an offset commit is too large.";
    13 NetworkException "NETWORK_EXCEPTION" RETRIABLE "The server disconnected before an answer came.";
    14 CoordinatorLoadInProgress "COORDINATOR_LOAD_IN_PROGRESS" RETRIABLE "The coordinator is loading its state and cannot answer yet.";
    15 CoordinatorNotAvailable "COORDINATOR_NOT_AVAILABLE" RETRIABLE "The coordinator is not available.";
    16 NotCoordinator "NOT_COORDINATOR" RETRIABLE "This is not the right coordinator.";
    17 InvalidTopicException "INVALID_TOPIC_EXCEPTION" FINAL "The topic name is invalid, or the topic cannot be used this way.";
    18 RecordListTooLarge "RECORD_LIST_TOO_LARGE" FINAL "The records of the request are larger than a segment.";
    19 NotEnoughReplicas "NOT_ENOUGH_REPLICAS" RETRIABLE "Fewer replicas are in sync than the topic demands.";
    20 NotEnoughReplicasAfterAppend "NOT_ENOUGH_REPLICAS_AFTER_APPEND" RETRIABLE "The records were appended, but fewer replicas are in sync than the topic demands.";
    21 InvalidRequiredAcks "INVALID_REQUIRED_ACKS" FINAL "acks must be -1, 0 or 1.";
    22 IllegalGeneration "ILLEGAL_GENERATION" FINAL "The group's generation is not the one given.";
    23 InconsistentGroupProtocol "INCONSISTENT_GROUP_PROTOCOL" FINAL "The member's protocol type or protocols do not fit those of the group.";
    24 InvalidGroupId "INVALID_GROUP_ID" FINAL "The group id is invalid.";
    25 UnknownMemberId "UNKNOWN_MEMBER_ID" FINAL "The coordinator does not know this member.";
    26 InvalidSessionTimeout "INVALID_SESSION_TIMEOUT" FINAL "The session timeout is outside of what the broker allows.";
    27 RebalanceInProgress "REBALANCE_IN_PROGRESS" FINAL "The group is rebalancing: rejoin.";
    28 InvalidCommitOffsetSize "INVALID_COMMIT_OFFSET_SIZE" FINAL "The offset data to commit is too large.";
    29 TopicAuthorizationFailed "TOPIC_AUTHORIZATION_FAILED" FINAL "Not authorised to access the topic.";
    30 GroupAuthorizationFailed "GROUP_AUTHORIZATION_FAILED" FINAL "Not authorised to access the group.";
    31 ClusterAuthorizationFailed "CLUSTER_AUTHORIZATION_FAILED" FINAL "Not authorised to act on the cluster.";
    32 InvalidTimestamp "INVALID_TIMESTAMP" FINAL "The timestamp of the message is out of range.";
    33 UnsupportedSaslMechanism "UNSUPPORTED_SASL_MECHANISM" FINAL "The broker does not support this SASL mechanism.";
    34 IllegalSaslState "ILLEGAL_SASL_STATE" FINAL "The request does not fit the state of the SASL exchange.";
    35 UnsupportedVersion "UNSUPPORTED_VERSION" FINAL "The server does not support this version of the API.";
    36 TopicAlreadyExists "TOPIC_ALREADY_EXISTS" FINAL "A topic with this name exists already.";
    37 InvalidPartitions "INVALID_PARTITIONS" FINAL "The number of partitions is invalid.";
    38 InvalidReplicationFactor "INVALID_REPLICATION_FACTOR" FINAL "The replication factor is below 1 or above the number of available brokers.";
    39 InvalidReplicaAssignment "INVALID_REPLICA_ASSIGNMENT" FINAL "The replica assignment is invalid.";
    40 InvalidConfig "INVALID_CONFIG" FINAL "The configuration is invalid.";
    41 NotController "NOT_CONTROLLER" RETRIABLE "This is not the active controller.";
    42 InvalidRequest "INVALID_REQUEST" FINAL "The request is malformed, or contradicts the protocol.";
    43 UnsupportedForMessageFormat "UNSUPPORTED_FOR_MESSAGE_FORMAT" FINAL "The message format of the broker cannot do this.";
    44 PolicyViolation "POLICY_VIOLATION" FINAL "The request breaks a policy of the server.";
    45 OutOfOrderSequenceNumber "OUT_OF_ORDER_SEQUENCE_NUMBER" FINAL "The broker got a sequence number out of order.";
    46 DuplicateSequenceNumber "DUPLICATE_SEQUENCE_NUMBER" FINAL "The broker got a sequence number that it has already.";
    47 InvalidProducerEpoch "INVALID_PRODUCER_EPOCH" FINAL "The producer's epoch is older than the one the broker knows.";
    48 InvalidTxnState "INVALID_TXN_STATE" FINAL "The operation does not fit the state of the transaction.";
    49 InvalidProducerIdMapping "INVALID_PRODUCER_ID_MAPPING" FINAL "The producer id does not belong to this transactional id.";
    50 InvalidTransactionTimeout "INVALID_TRANSACTION_TIMEOUT" FINAL "The transaction timeout is larger than the broker allows.";
    51 ConcurrentTransactions "CONCURRENT_TRANSACTIONS" RETRIABLE "A transaction of this transactional id is still being completed.";
    52 TransactionCoordinatorFenced "TRANSACTION_COORDINATOR_FENCED" FINAL "The transaction coordinator is no longer the current one.";
    53 TransactionalIdAuthorizationFailed "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" FINAL "Not authorised to use this transactional id.";
    54 SecurityDisabled "SECURITY_DISABLED" FINAL "Security features are disabled.";
    55 OperationNotAttempted "OPERATION_NOT_ATTEMPTED" FINAL "Not attempted, because another operation of the request failed.";
    56 KafkaStorageError "KAFKA_STORAGE_ERROR" RETRIABLE "The disk failed while the log was accessed.";
    57 LogDirNotFound "LOG_DIR_NOT_FOUND" FINAL "The log directory is not one of this broker's.";
    58 SaslAuthenticationFailed "SASL_AUTHENTICATION_FAILED" FINAL "SASL authentication failed.";
    59 UnknownProducerId "UNKNOWN_PRODUCER_ID" FINAL "The broker has no state of this producer id.";
    60 ReassignmentInProgress "REASSIGNMENT_IN_PROGRESS" FINAL "A reassignment of this partition is under way.";
    61 DelegationTokenAuthDisabled "DELEGATION_TOKEN_AUTH_DISABLED" FINAL "Delegation tokens are not enabled.";
    62 DelegationTokenNotFound "DELEGATION_TOKEN_NOT_FOUND" FINAL "The server knows no such delegation token.";
    63 DelegationTokenOwnerMismatch "DELEGATION_TOKEN_OWNER_MISMATCH" FINAL "This principal does not own the delegation token, nor may renew it.";
    64 DelegationTokenRequestNotAllowed "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED" FINAL "Delegation token requests are not allowed on this connection.";
    65 DelegationTokenAuthorizationFailed "DELEGATION_TOKEN_AUTHORIZATION_FAILED" FINAL "Delegation token authorisation failed.";
    66 DelegationTokenExpired "DELEGATION_TOKEN_EXPIRED" FINAL "The delegation token has expired.";
    67 InvalidPrincipalType "INVALID_PRINCIPAL_TYPE" FINAL "The principal type is not supported.";
    68 NonEmptyGroup "NON_EMPTY_GROUP" FINAL "The group is not empty.";
    69 GroupIdNotFound "GROUP_ID_NOT_FOUND" FINAL "The group id is not known.";
    70 FetchSessionIdNotFound "FETCH_SESSION_ID_NOT_FOUND" RETRIABLE "The fetch session is not known.";
    71 InvalidFetchSessionEpoch "INVALID_FETCH_SESSION_EPOCH" RETRIABLE "The epoch of the fetch session is invalid.";
    72 ListenerNotFound "LISTENER_NOT_FOUND" RETRIABLE "The leader has no listener of this name.";
    73 TopicDeletionDisabled "TOPIC_DELETION_DISABLED" FINAL "Deleting topics is disabled.";
    74 FencedLeaderEpoch "FENCED_LEADER_EPOCH" RETRIABLE "The leader epoch is older than the broker's.";
    75 UnknownLeaderEpoch "UNKNOWN_LEADER_EPOCH" RETRIABLE "The leader epoch is newer than the broker's.";
    76 UnsupportedCompressionType "UNSUPPORTED_COMPRESSION_TYPE" FINAL "The client cannot read the compression codec that the records have.";
    77 StaleBrokerEpoch "STALE_BROKER_EPOCH" FINAL "The broker epoch is older than the controller's.";
    78 OffsetNotAvailable "OFFSET_NOT_AVAILABLE" RETRIABLE "The leader's high watermark has not caught up since its election: ask again.";
    79 MemberIdRequired "MEMBER_ID_REQUIRED" FINAL "The member must rejoin with the member id that it is given.";
    80 PreferredLeaderNotAvailable "PREFERRED_LEADER_NOT_AVAILABLE" RETRIABLE "The preferred leader is not available.";
    81 GroupMaxSizeReached "GROUP_MAX_SIZE_REACHED" FINAL "The group has as many members as it may have.";
    82 FencedInstanceId "FENCED_INSTANCE_ID" FINAL "Another member uses this static member id.";
    83 EligibleLeadersNotAvailable "ELIGIBLE_LEADERS_NOT_AVAILABLE" RETRIABLE "No eligible leader is available.";
    84 ElectionNotNeeded "ELECTION_NOT_NEEDED" RETRIABLE "No leader election is needed.";
    85 NoReassignmentInProgress "NO_REASSIGNMENT_IN_PROGRESS" FINAL "No reassignment is under way.";
    86 GroupSubscribedToTopic "GROUP_SUBSCRIBED_TO_TOPIC" FINAL "The group is subscribed to the topic, so its offsets cannot be deleted.";
    87 InvalidRecord "INVALID_RECORD" FINAL "The broker refused the record.";
    88 UnstableOffsetCommit "UNSTABLE_OFFSET_COMMIT" RETRIABLE "Offsets of an open transaction must be completed first.";
    89 ThrottlingQuotaExceeded "THROTTLING_QUOTA_EXCEEDED" RETRIABLE "The quota is exhausted: wait before the next request.";
    90 ProducerFenced "PRODUCER_FENCED" FINAL "A newer producer with this transactional id has taken over.";
    91 ResourceNotFound "RESOURCE_NOT_FOUND" FINAL "There is no such resource.";
    92 DuplicateResource "DUPLICATE_RESOURCE" FINAL "The resource is there already, or twice in the request.";
    93 UnacceptableCredential "UNACCEPTABLE_CREDENTIAL" FINAL "The credential does not meet the demands.";
    94 InconsistentVoterSet "INCONSISTENT_VOTER_SET" FINAL "The sender and the receiver of the vote do not agree on the voters.";
    95 InvalidUpdateVersion "INVALID_UPDATE_VERSION" FINAL "The update version is invalid.";
    96 FeatureUpdateFailed "FEATURE_UPDATE_FAILED" FINAL "Features could not be updated.";
    97 PrincipalDeserializationFailure "PRINCIPAL_DESERIALIZATION_FAILURE" FINAL "The principal of a forwarded request could not be read.";
    98 SnapshotNotFound "SNAPSHOT_NOT_FOUND" FINAL "There is no such snapshot.";
    99 PositionOutOfRange "POSITION_OUT_OF_RANGE" FINAL "The position is outside of the snapshot.";
    100 UnknownTopicId "UNKNOWN_TOPIC_ID" RETRIABLE "This server does not know the topic id.";
    101 DuplicateBrokerRegistration "DUPLICATE_BROKER_REGISTRATION" FINAL "Another broker with this id is registered.";
    102 BrokerIdNotRegistered "BROKER_ID_NOT_REGISTERED" FINAL "The broker id is not registered.";
    103 InconsistentTopicId "INCONSISTENT_TOPIC_ID" RETRIABLE "The topic id in the log is not the one in the request.";
    104 InconsistentClusterId "INCONSISTENT_CLUSTER_ID" FINAL "The cluster id in the request is not this cluster's.";
    105 TransactionalIdNotFound "TRANSACTIONAL_ID_NOT_FOUND" FINAL "The transactional id is not known.";
    106 FetchSessionTopicIdError "FETCH_SESSION_TOPIC_ID_ERROR" RETRIABLE "The fetch session got topic ids and names mixed.";
    107 IneligibleReplica "INELIGIBLE_REPLICA" FINAL "A replica is not eligible for the in-sync set.";
    108 NewLeaderElected "NEW_LEADER_ELECTED" FINAL "Another leader was elected meanwhile.";
    109 OffsetMovedToTieredStorage "OFFSET_MOVED_TO_TIERED_STORAGE" FINAL "The offset has moved to tiered storage.";
    110 FencedMemberEpoch "FENCED_MEMBER_EPOCH" FINAL "The member epoch is older than the coordinator's.";
    111 UnreleasedInstanceId "UNRELEASED_INSTANCE_ID" FINAL "Another member still holds the static member id.";
    112 UnsupportedAssignor "UNSUPPORTED_ASSIGNOR" FINAL "The assignor is not supported, or not by all members.";
    113 StaleMemberEpoch "STALE_MEMBER_EPOCH" FINAL "The member epoch is stale: retry with a newer one.";
    114 MismatchedEndpointType "MISMATCHED_ENDPOINT_TYPE" FINAL "The request came to an endpoint of the wrong type.";
    115 UnsupportedEndpointType "UNSUPPORTED_ENDPOINT_TYPE" FINAL "Endpoints of this type are not supported.";
    116 UnknownControllerId "UNKNOWN_CONTROLLER_ID" FINAL "The controller id is not known.";
    117 UnknownSubscriptionId "UNKNOWN_SUBSCRIPTION_ID" FINAL "The telemetry subscription id is not known: fetch the subscription again.";
    118 TelemetryTooLarge "TELEMETRY_TOO_LARGE" FINAL "The telemetry is larger than the broker accepts.";
    119 InvalidRegistration "INVALID_REGISTRATION" FINAL "The controller found the broker's registration invalid.";
    120 TransactionAbortable "TRANSACTION_ABORTABLE" FINAL "The transaction must be aborted, then the producer may go on.";
    121 InvalidRecordState "INVALID_RECORD_STATE" FINAL "The state of the record does not allow this acknowledgement.";
    122 ShareSessionNotFound "SHARE_SESSION_NOT_FOUND" RETRIABLE "The share session is not known.";
    123 InvalidShareSessionEpoch "INVALID_SHARE_SESSION_EPOCH" RETRIABLE "The epoch of the share session is invalid.";
    124 FencedStateEpoch "FENCED_STATE_EPOCH" FINAL "The share coordinator fenced the state epoch.";
    125 InvalidVoterKey "INVALID_VOTER_KEY" FINAL "The voter's id or directory id is not the receiver's.";
    126 DuplicateVoter "DUPLICATE_VOTER" FINAL "The voter is one already.";
    127 VoterNotFound "VOTER_NOT_FOUND" FINAL "There is no such voter.";
    128 InvalidRegularExpression "INVALID_REGULAR_EXPRESSION" FINAL "The regular expression is invalid.";
    129 RebootstrapRequired "REBOOTSTRAP_REQUIRED" FINAL "The client must start again from its bootstrap servers.";
    130 StreamsInvalidTopology "STREAMS_INVALID_TOPOLOGY" FINAL "The topology is invalid.";
    131 StreamsInvalidTopologyEpoch "STREAMS_INVALID_TOPOLOGY_EPOCH" FINAL "The topology epoch is invalid.";
    132 StreamsTopologyFenced "STREAMS_TOPOLOGY_FENCED" FINAL "The topology epoch is older than the group's.";
    133 ShareSessionLimitReached "SHARE_SESSION_LIMIT_REACHED" RETRIABLE "The broker has as many share sessions as it may have.";
}

impl ErrorCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The code of this number, if Kafka has one.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        // The table begins at -1 and has no holes: a test says so.
        let index = usize::try_from(code.checked_add(1)?).ok()?;
        TABLE.get(index).map(|row| row.0)
    }

    /// The code of this number; a number that Kafka does not have counts as an unknown server error.
    #[must_use]
    pub fn from_wire(code: i16) -> Self {
        Self::from_code(code).unwrap_or(Self::UnknownServerError)
    }

    /// Kafka's name: `OFFSET_OUT_OF_RANGE`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Whether a client may send the same request again.
    #[must_use]
    pub fn is_retriable(self) -> bool {
        self.row().2
    }

    /// What it means, in a sentence.
    #[must_use]
    pub fn message(self) -> &'static str {
        self.row().3
    }

    /// Whether it is no error.
    #[must_use]
    pub fn is_ok(self) -> bool {
        self == Self::None
    }

    /// Every code.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (Self, &'static str, bool, &'static str) {
        &TABLE[(self.code() + 1) as usize]
    }
}

/// The name.
impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> Self {
        code.code()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_code_from_minus_one_on_in_order() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(usize::try_from(row.0.code() + 1).unwrap(), index, "{}", row.1);
        }
        assert_eq!(TABLE.len(), 135);
    }

    #[test]
    fn codes_are_found_by_number() {
        assert_eq!(ErrorCode::from_code(1), Some(ErrorCode::OffsetOutOfRange));
        assert_eq!(ErrorCode::from_code(-1), Some(ErrorCode::UnknownServerError));
        assert_eq!(ErrorCode::from_code(0), Some(ErrorCode::None));
        for absent in [-2, 134, i16::MIN, i16::MAX] {
            assert_eq!(ErrorCode::from_code(absent), None);
            assert_eq!(ErrorCode::from_wire(absent), ErrorCode::UnknownServerError);
        }
    }

    #[test]
    fn names_are_kafkas() {
        assert_eq!(ErrorCode::OffsetOutOfRange.to_string(), "OFFSET_OUT_OF_RANGE");
        assert!(ErrorCode::NotLeaderOrFollower.is_retriable());
        assert!(!ErrorCode::InvalidRecord.is_retriable());
    }
}
