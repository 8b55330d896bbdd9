//! Control records: their key says what they are, and no application ever sees them.
//!
//! Key: version i16, type i16. The value of an end marker: version i16, coordinator epoch i32. The values of
//! the quorum's control records are messages of the protocol; here they are bytes.

use bytes::Bytes;

/// The version of every control key written so far.
pub const CONTROL_KEY_VERSION: i16 = 0;

const END_MARKER_VERSION: i16 = 0;

/// What a control record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ControlType {
    /// The producer's transaction was aborted.
    Abort,
    /// The producer's transaction was committed.
    Commit,
    /// A leader of the quorum took office.
    LeaderChange,
    /// First record of a metadata snapshot.
    SnapshotHeader,
    /// Last record of a metadata snapshot.
    SnapshotFooter,
    /// The version of the quorum's protocol.
    KRaftVersion,
    /// The set of voters.
    KRaftVoters,
    /// A type from a later Kafka: read past.
    Unknown(i16),
}

impl ControlType {
    /// The number in the key.
    #[must_use]
    pub fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::LeaderChange => 2,
            Self::SnapshotHeader => 3,
            Self::SnapshotFooter => 4,
            Self::KRaftVersion => 5,
            Self::KRaftVoters => 6,
            Self::Unknown(id) => id,
        }
    }

    /// The type of this number.
    #[must_use]
    pub fn from_id(id: i16) -> Self {
        match id {
            0 => Self::Abort,
            1 => Self::Commit,
            2 => Self::LeaderChange,
            3 => Self::SnapshotHeader,
            4 => Self::SnapshotFooter,
            5 => Self::KRaftVersion,
            6 => Self::KRaftVoters,
            id => Self::Unknown(id),
        }
    }
}

/// The key of a control record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlKey {
    /// 0 so far; later versions only append.
    pub version: i16,
    /// What the record says.
    pub kind: ControlType,
}

impl ControlKey {
    /// A key of the version written here.
    #[must_use]
    pub fn new(kind: ControlType) -> Self {
        Self { version: CONTROL_KEY_VERSION, kind }
    }

    /// Reads a key; `None` below four bytes or at a negative version.
    #[must_use]
    pub fn parse(key: &[u8]) -> Option<Self> {
        let [v0, v1, t0, t1] = *key.first_chunk::<4>()?;
        let version = i16::from_be_bytes([v0, v1]);
        (version >= 0).then(|| Self { version, kind: ControlType::from_id(i16::from_be_bytes([t0, t1])) })
    }

    /// The four bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 4] {
        let ([v0, v1], [t0, t1]) = (self.version.to_be_bytes(), self.kind.id().to_be_bytes());
        [v0, v1, t0, t1]
    }
}

/// The value of an abort or commit marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndMarker {
    /// Fences older transaction coordinators.
    pub coordinator_epoch: i32,
}

impl EndMarker {
    /// Reads a value; `None` below six bytes or at a negative version.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let [v0, v1, epoch @ ..] = *value.first_chunk::<6>()?;
        (i16::from_be_bytes([v0, v1]) >= 0).then(|| Self { coordinator_epoch: i32::from_be_bytes(epoch) })
    }

    /// The six bytes.
    #[must_use]
    pub fn to_bytes(self) -> Bytes {
        let mut out = Vec::with_capacity(6);
        out.extend(END_MARKER_VERSION.to_be_bytes());
        out.extend(self.coordinator_epoch.to_be_bytes());
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_markers_round_trip() {
        for id in -1..9 {
            let key = ControlKey::new(ControlType::from_id(id));
            assert_eq!(key.kind.id(), id);
            assert_eq!(ControlKey::parse(&key.to_bytes()), Some(key));
        }
        let marker = EndMarker { coordinator_epoch: 77 };
        assert_eq!(EndMarker::parse(&marker.to_bytes()), Some(marker));
        assert_eq!(EndMarker::parse(&[0; 5]), None);
        assert_eq!(ControlKey::parse(&[0xff, 0xff, 0, 0]), None);
        assert_eq!(ControlKey::parse(&[0; 3]), None);
    }
}
