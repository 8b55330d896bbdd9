//! ONE table of Kafka's APIs: key, name, stable versions, who listens, who may ask, who answers. What the
//! messages say themselves (flexible versions, versions that are not stable yet) is taken from them.

use std::fmt;
use std::ops::RangeInclusive;

use super::codec::Message;
use super::messages;

/// On which listeners an API is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listeners {
    /// Brokers' only.
    Broker,
    /// Controllers' only.
    Controller,
    /// Both.
    Both,
}

/// A row of the table.
#[derive(Debug)]
pub struct Api {
    /// The key.
    pub key: ApiKey,
    /// Kafka's name, `Produce`.
    pub name: &'static str,
    /// Lowest version.
    pub lowest: i16,
    /// Highest stable version.
    pub highest: i16,
    /// Highest version, those included that Kafka does not call stable yet.
    pub highest_unstable: i16,
    /// First version with compact lengths and tagged fields; `i16::MAX` where there is none.
    pub flexible_from: i16,
    /// Where it is served.
    pub listeners: Listeners,
    /// Whether only brokers and controllers of the cluster may ask (they need ClusterAction).
    pub cluster_action: bool,
    /// Whether a broker forwards it to the active controller.
    pub forwarded: bool,
}

impl Api {
    /// The stable versions.
    #[must_use]
    pub fn versions(&self) -> RangeInclusive<i16> {
        self.lowest..=self.highest
    }

    /// The lowest version that ApiVersions announces. Produce says 0, although less than 3 is refused:
    /// librdkafka before 2.11 takes a higher minimum for a broker that knows no compression, in silence.
    #[must_use]
    pub fn lowest_announced(&self) -> i16 {
        if self.key == ApiKey::Produce { 0 } else { self.lowest }
    }

    /// The header version of a request: 2 where the request is flexible, else 1.
    #[must_use]
    pub fn request_header_version(&self, version: i16) -> i16 {
        if version >= self.flexible_from { 2 } else { 1 }
    }

    /// The header version of a response: 1 where it is flexible, else 0; that of ApiVersions is always 0, for
    /// who asks does not know yet what the server understands.
    #[must_use]
    pub fn response_header_version(&self, version: i16) -> i16 {
        if version >= self.flexible_from && self.key != ApiKey::ApiVersions { 1 } else { 0 }
    }
}

const ANYONE: bool = false;
const CLUSTER: bool = true;
const HERE: bool = false;
const FORWARDED: bool = true;

macro_rules! apis {
    ($($key:literal $name:ident $module:ident::$request:ident $lowest:literal..=$highest:literal
        $listeners:ident $who:ident $answers:ident;)*) => {
        /// The key of an API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        #[allow(missing_docs, reason = "the names are Kafka's")]
        pub enum ApiKey {
            $($name = $key,)*
        }

        /// Every API, in the order of the keys.
        pub static TABLE: &[Api] = &[$(
            Api {
                key: ApiKey::$name,
                name: stringify!($name),
                lowest: $lowest,
                highest: $highest,
                highest_unstable: *<messages::$module::$request as Message>::VERSIONS.end(),
                flexible_from: <messages::$module::$request as Message>::FLEXIBLE_FROM,
                listeners: Listeners::$listeners,
                cluster_action: $who,
                forwarded: $answers,
            },
        )*];
    };
}

apis! {
    0 Produce produce_request::ProduceRequest 3..=13 Broker ANYONE HERE;
    1 Fetch fetch_request::FetchRequest 4..=18 Both ANYONE HERE;
    2 ListOffsets list_offsets_request::ListOffsetsRequest 1..=11 Broker ANYONE HERE;
    3 Metadata metadata_request::MetadataRequest 0..=13 Broker ANYONE HERE;
    8 OffsetCommit offset_commit_request::OffsetCommitRequest 2..=10 Broker ANYONE HERE;
    9 OffsetFetch offset_fetch_request::OffsetFetchRequest 1..=10 Broker ANYONE HERE;
    10 FindCoordinator find_coordinator_request::FindCoordinatorRequest 0..=6 Broker ANYONE HERE;
    11 JoinGroup join_group_request::JoinGroupRequest 0..=9 Broker ANYONE HERE;
    12 Heartbeat heartbeat_request::HeartbeatRequest 0..=4 Broker ANYONE HERE;
    13 LeaveGroup leave_group_request::LeaveGroupRequest 0..=5 Broker ANYONE HERE;
    14 SyncGroup sync_group_request::SyncGroupRequest 0..=5 Broker ANYONE HERE;
    15 DescribeGroups describe_groups_request::DescribeGroupsRequest 0..=6 Broker ANYONE HERE;
    16 ListGroups list_groups_request::ListGroupsRequest 0..=5 Broker ANYONE HERE;
    17 SaslHandshake sasl_handshake_request::SaslHandshakeRequest 0..=1 Both ANYONE HERE;
    18 ApiVersions api_versions_request::ApiVersionsRequest 0..=4 Both ANYONE HERE;
    19 CreateTopics create_topics_request::CreateTopicsRequest 2..=7 Both ANYONE FORWARDED;
    20 DeleteTopics delete_topics_request::DeleteTopicsRequest 1..=6 Both ANYONE FORWARDED;
    21 DeleteRecords delete_records_request::DeleteRecordsRequest 0..=2 Broker ANYONE HERE;
    22 InitProducerId init_producer_id_request::InitProducerIdRequest 0..=5 Broker ANYONE HERE;
    23 OffsetForLeaderEpoch offset_for_leader_epoch_request::OffsetForLeaderEpochRequest 2..=4 Broker ANYONE HERE;
    24 AddPartitionsToTxn add_partitions_to_txn_request::AddPartitionsToTxnRequest 0..=5 Broker ANYONE HERE;
    25 AddOffsetsToTxn add_offsets_to_txn_request::AddOffsetsToTxnRequest 0..=4 Broker ANYONE HERE;
    26 EndTxn end_txn_request::EndTxnRequest 0..=5 Broker ANYONE HERE;
    27 WriteTxnMarkers write_txn_markers_request::WriteTxnMarkersRequest 1..=2 Broker CLUSTER HERE;
    28 TxnOffsetCommit txn_offset_commit_request::TxnOffsetCommitRequest 0..=5 Broker ANYONE HERE;
    29 DescribeAcls describe_acls_request::DescribeAclsRequest 1..=3 Both ANYONE HERE;
    30 CreateAcls create_acls_request::CreateAclsRequest 1..=3 Both ANYONE FORWARDED;
    31 DeleteAcls delete_acls_request::DeleteAclsRequest 1..=3 Both ANYONE FORWARDED;
    32 DescribeConfigs describe_configs_request::DescribeConfigsRequest 1..=4 Both ANYONE HERE;
    33 AlterConfigs alter_configs_request::AlterConfigsRequest 0..=2 Both ANYONE FORWARDED;
    34 AlterReplicaLogDirs alter_replica_log_dirs_request::AlterReplicaLogDirsRequest 1..=2 Broker ANYONE HERE;
    35 DescribeLogDirs describe_log_dirs_request::DescribeLogDirsRequest 1..=5 Broker ANYONE HERE;
    36 SaslAuthenticate sasl_authenticate_request::SaslAuthenticateRequest 0..=2 Both ANYONE HERE;
    37 CreatePartitions create_partitions_request::CreatePartitionsRequest 0..=3 Both ANYONE FORWARDED;
    38 CreateDelegationToken create_delegation_token_request::CreateDelegationTokenRequest 1..=3 Both ANYONE FORWARDED;
    39 RenewDelegationToken renew_delegation_token_request::RenewDelegationTokenRequest 1..=2 Both ANYONE FORWARDED;
    40 ExpireDelegationToken expire_delegation_token_request::ExpireDelegationTokenRequest 1..=2 Both ANYONE FORWARDED;
    41 DescribeDelegationToken describe_delegation_token_request::DescribeDelegationTokenRequest 1..=3 Both ANYONE HERE;
    42 DeleteGroups delete_groups_request::DeleteGroupsRequest 0..=2 Broker ANYONE HERE;
    43 ElectLeaders elect_leaders_request::ElectLeadersRequest 0..=2 Both ANYONE FORWARDED;
    44 IncrementalAlterConfigs incremental_alter_configs_request::IncrementalAlterConfigsRequest 0..=1 Both ANYONE FORWARDED;
    45 AlterPartitionReassignments alter_partition_reassignments_request::AlterPartitionReassignmentsRequest 0..=1 Both ANYONE FORWARDED;
    46 ListPartitionReassignments list_partition_reassignments_request::ListPartitionReassignmentsRequest 0..=0 Both ANYONE FORWARDED;
    47 OffsetDelete offset_delete_request::OffsetDeleteRequest 0..=0 Broker ANYONE HERE;
    48 DescribeClientQuotas describe_client_quotas_request::DescribeClientQuotasRequest 0..=1 Broker ANYONE HERE;
    49 AlterClientQuotas alter_client_quotas_request::AlterClientQuotasRequest 0..=1 Both ANYONE FORWARDED;
    50 DescribeUserScramCredentials describe_user_scram_credentials_request::DescribeUserScramCredentialsRequest 0..=0 Both ANYONE HERE;
    51 AlterUserScramCredentials alter_user_scram_credentials_request::AlterUserScramCredentialsRequest 0..=0 Both ANYONE FORWARDED;
    52 Vote vote_request::VoteRequest 0..=2 Controller CLUSTER HERE;
    53 BeginQuorumEpoch begin_quorum_epoch_request::BeginQuorumEpochRequest 0..=1 Controller CLUSTER HERE;
    54 EndQuorumEpoch end_quorum_epoch_request::EndQuorumEpochRequest 0..=1 Controller CLUSTER HERE;
    55 DescribeQuorum describe_quorum_request::DescribeQuorumRequest 0..=2 Both CLUSTER FORWARDED;
    56 AlterPartition alter_partition_request::AlterPartitionRequest 2..=3 Controller CLUSTER HERE;
    57 UpdateFeatures update_features_request::UpdateFeaturesRequest 0..=2 Both CLUSTER FORWARDED;
    58 Envelope envelope_request::EnvelopeRequest 0..=0 Controller CLUSTER HERE;
    59 FetchSnapshot fetch_snapshot_request::FetchSnapshotRequest 0..=1 Controller ANYONE HERE;
    60 DescribeCluster describe_cluster_request::DescribeClusterRequest 0..=2 Both ANYONE HERE;
    61 DescribeProducers describe_producers_request::DescribeProducersRequest 0..=0 Broker ANYONE HERE;
    62 BrokerRegistration broker_registration_request::BrokerRegistrationRequest 0..=4 Controller CLUSTER HERE;
    63 BrokerHeartbeat broker_heartbeat_request::BrokerHeartbeatRequest 0..=2 Controller CLUSTER HERE;
    64 UnregisterBroker unregister_broker_request::UnregisterBrokerRequest 0..=0 Both ANYONE FORWARDED;
    65 DescribeTransactions describe_transactions_request::DescribeTransactionsRequest 0..=0 Broker ANYONE HERE;
    66 ListTransactions list_transactions_request::ListTransactionsRequest 0..=2 Broker ANYONE HERE;
    67 AllocateProducerIds allocate_producer_ids_request::AllocateProducerIdsRequest 0..=0 Controller CLUSTER FORWARDED;
    68 ConsumerGroupHeartbeat consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest 0..=1 Broker ANYONE HERE;
    69 ConsumerGroupDescribe consumer_group_describe_request::ConsumerGroupDescribeRequest 0..=1 Broker ANYONE HERE;
    70 ControllerRegistration controller_registration_request::ControllerRegistrationRequest 0..=0 Controller ANYONE HERE;
    71 GetTelemetrySubscriptions get_telemetry_subscriptions_request::GetTelemetrySubscriptionsRequest 0..=0 Broker ANYONE HERE;
    72 PushTelemetry push_telemetry_request::PushTelemetryRequest 0..=0 Broker ANYONE HERE;
    73 AssignReplicasToDirs assign_replicas_to_dirs_request::AssignReplicasToDirsRequest 0..=0 Controller ANYONE HERE;
    74 ListConfigResources list_config_resources_request::ListConfigResourcesRequest 0..=1 Broker ANYONE HERE;
    75 DescribeTopicPartitions describe_topic_partitions_request::DescribeTopicPartitionsRequest 0..=0 Broker ANYONE HERE;
    76 ShareGroupHeartbeat share_group_heartbeat_request::ShareGroupHeartbeatRequest 1..=1 Broker ANYONE HERE;
    77 ShareGroupDescribe share_group_describe_request::ShareGroupDescribeRequest 1..=1 Broker ANYONE HERE;
    78 ShareFetch share_fetch_request::ShareFetchRequest 1..=2 Broker ANYONE HERE;
    79 ShareAcknowledge share_acknowledge_request::ShareAcknowledgeRequest 1..=2 Broker ANYONE HERE;
    80 AddRaftVoter add_raft_voter_request::AddRaftVoterRequest 0..=1 Both ANYONE FORWARDED;
    81 RemoveRaftVoter remove_raft_voter_request::RemoveRaftVoterRequest 0..=0 Both ANYONE FORWARDED;
    82 UpdateRaftVoter update_raft_voter_request::UpdateRaftVoterRequest 0..=0 Controller ANYONE HERE;
    83 InitializeShareGroupState initialize_share_group_state_request::InitializeShareGroupStateRequest 0..=0 Broker CLUSTER HERE;
    84 ReadShareGroupState read_share_group_state_request::ReadShareGroupStateRequest 0..=0 Broker CLUSTER HERE;
    85 WriteShareGroupState write_share_group_state_request::WriteShareGroupStateRequest 0..=1 Broker CLUSTER HERE;
    86 DeleteShareGroupState delete_share_group_state_request::DeleteShareGroupStateRequest 0..=0 Broker CLUSTER HERE;
    87 ReadShareGroupStateSummary read_share_group_state_summary_request::ReadShareGroupStateSummaryRequest 0..=1 Broker CLUSTER HERE;
    88 StreamsGroupHeartbeat streams_group_heartbeat_request::StreamsGroupHeartbeatRequest 0..=0 Broker ANYONE HERE;
    89 StreamsGroupDescribe streams_group_describe_request::StreamsGroupDescribeRequest 0..=0 Broker ANYONE HERE;
    90 DescribeShareGroupOffsets describe_share_group_offsets_request::DescribeShareGroupOffsetsRequest 0..=1 Broker ANYONE HERE;
    91 AlterShareGroupOffsets alter_share_group_offsets_request::AlterShareGroupOffsetsRequest 0..=0 Broker ANYONE HERE;
    92 DeleteShareGroupOffsets delete_share_group_offsets_request::DeleteShareGroupOffsetsRequest 0..=0 Broker ANYONE HERE;
}

impl ApiKey {
    /// The number on the wire.
    #[must_use]
    pub const fn key(self) -> i16 {
        self as i16
    }

    /// The API of this number, if Kafka 4.3 has one.
    #[must_use]
    pub fn from_key(key: i16) -> Option<Self> {
        find(key).map(|api| api.key)
    }

    /// Its row.
    #[must_use]
    pub fn api(self) -> &'static Api {
        match find(self.key()) {
            Some(api) => api,
            None => unreachable!("every key has its row"),
        }
    }

    /// Kafka's name, `Produce`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.api().name
    }
}

/// The name.
impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The row of a key.
#[must_use]
pub fn find(key: i16) -> Option<&'static Api> {
    TABLE.binary_search_by_key(&key, |api| api.key.key()).ok().map(|index| &TABLE[index])
}

/// The header version of a request ([`Api::request_header_version`]).
#[must_use]
pub fn request_header_version(key: ApiKey, version: i16) -> i16 {
    key.api().request_header_version(version)
}

/// The header version of a response ([`Api::response_header_version`]).
#[must_use]
pub fn response_header_version(key: ApiKey, version: i16) -> i16 {
    key.api().response_header_version(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::schema::Kind;

    #[test]
    fn rows_agree_with_the_messages() {
        for api in TABLE {
            for kind in [Kind::Request, Kind::Response] {
                let schema = messages::find(kind, api.key.key(), None).unwrap();
                assert_eq!(schema.name, format!("{}{kind:?}", api.name));
                assert_eq!(schema.lowest, api.lowest, "{}", schema.name);
                assert_eq!(schema.highest, api.highest_unstable, "{}", schema.name);
                assert_eq!(schema.flexible_from, api.flexible_from, "{}", schema.name);
            }
            assert!(api.lowest <= api.highest && api.highest <= api.highest_unstable);
        }
        let requests = messages::ALL.iter().filter(|entry| entry.schema.kind == Kind::Request).count();
        assert_eq!(requests, TABLE.len());
    }

    #[test]
    fn header_versions_are_kafkas() {
        assert_eq!(request_header_version(ApiKey::Produce, 8), 1);
        assert_eq!(request_header_version(ApiKey::Produce, 9), 2);
        assert_eq!(response_header_version(ApiKey::Produce, 9), 1);
        assert_eq!(request_header_version(ApiKey::ApiVersions, 3), 2);
        assert_eq!(response_header_version(ApiKey::ApiVersions, 3), 0);
        assert_eq!(request_header_version(ApiKey::SaslHandshake, 1), 1);
        assert_eq!(response_header_version(ApiKey::SaslHandshake, 1), 0);
    }

    #[test]
    fn keys_are_found_by_number() {
        assert_eq!(ApiKey::from_key(18), Some(ApiKey::ApiVersions));
        for absent in [-1, 4, 7, 93, i16::MAX] {
            assert_eq!(ApiKey::from_key(absent), None);
        }
        for api in TABLE {
            assert_eq!(ApiKey::from_key(api.key.key()), Some(api.key));
        }
    }

    #[test]
    fn produce_is_announced_from_zero() {
        assert_eq!(ApiKey::Produce.api().lowest_announced(), 0);
        assert_eq!(ApiKey::Fetch.api().lowest_announced(), 4);
    }
}
