//! The mistakes that can be put back, by the name of what they were in Kafka.

use crate::quorum::log::Flaw as QuorumFlaw;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A new follower cuts its log at its high watermark (KAFKA-1211, KIP-101).
    TruncatesToHighWatermark,
    /// A follower looks once for where its log leaves its leader's (KAFKA-6361, KIP-279).
    AsksOnce,
    /// A leader that writes nothing leaves no trace of its epoch (KAFKA-7415).
    NotesNoEpochStart,
    /// A leader answers, and counts, whoever fetches in another epoch (KIP-320).
    IgnoresLeaderEpochs,
    /// Nobody looks which life of a broker it is (KAFKA-14139, KIP-903).
    IgnoresBrokerEpochs,
    /// The life is read from the metadata of now, the offset from a fetch of then (KAFKA-15221).
    MixesReplicaStates,
    /// A broker that stopped uncleanly stays in sync and eligible (KIP-966, KAFKA-18106, KAFKA-18635).
    TrustsUncleanStops,
    /// Records count as committed with fewer replicas than `min.insync.replicas` (KIP-966).
    CommitsBelowMinIsr,
    /// The last known leader leads again before it is unfenced (KAFKA-19522).
    ElectsFenced,
    /// A start that fails leaves the mark of a clean stop (KAFKA-15375).
    MarksFailedStarts,
    /// The leader epochs are lost in a power cut, and nobody reads them from the batches (KAFKA-16541).
    LosesEpochs,
    /// A consumer reads up to the end of the log (KAFKA-9835).
    ReadsToTheEnd,
    /// A replica ahead of its leader begins anew at nothing (KAFKA-2143).
    BeginsAnewWhenAhead,
    /// Bytes are stored without a look at their CRC and epoch (KAFKA-18723).
    StoresWhatComes,
    /// A leader counts its own proposal before it is decided (KIP-497).
    ShrinksAlone,
    /// A replica of a deleted topic serves the new one of the same name (KAFKA-14616).
    KeepsStrays,
    /// A leader that no majority hears goes on (KAFKA-15489).
    NeverResigns,
    /// An answer is given before the quorum has agreed on it.
    AnswersBeforeAgreed,
    /// A mistake in the quorum's own log.
    Quorum(QuorumFlaw),
}
