//! Kafka's 128-bit ids: topics, directories, clusters.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

/// 16 bytes, printed as 22 characters of unpadded URL-safe base64, as Kafka does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

/// The text is not 22 characters of URL-safe base64.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not an id: 22 characters of URL-safe base64 are expected")]
pub struct InvalidUuid(pub String);

impl Uuid {
    /// All zeros: "no id".
    pub const ZERO: Self = Self([0; 16]);
    /// The topic id of `__cluster_metadata`; as a directory id, "one, not known which".
    pub const ONE: Self = Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    /// A random version-4 id from 16 random bytes. As in Kafka, the caller draws again where the text
    /// would begin with `-` or the id is reserved ([`Uuid::is_reserved`]).
    #[must_use]
    pub fn from_random_bytes(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// Kafka keeps the ids whose first 15 bytes are zero and whose value is below 100 for itself.
    #[must_use]
    pub fn is_reserved(self) -> bool {
        self.0[..15].iter().all(|&b| b == 0) && self.0[15] < 100
    }

    /// Whether this is the "no id" of Kafka's messages.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = InvalidUuid;

    fn from_str(text: &str) -> Result<Self, InvalidUuid> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidUuid(text.to_owned()))?;
        bytes.try_into().map(Self).map_err(|_| InvalidUuid(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_topic_id_prints_as_kafka_prints_it() {
        assert_eq!(Uuid::ONE.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!("AAAAAAAAAAAAAAAAAAAAAQ".parse(), Ok(Uuid::ONE));
        assert!("AAAAAAAAAAAAAAAAAAAAA".parse::<Uuid>().is_err());
        assert!(Uuid::ONE.is_reserved());
    }
}
