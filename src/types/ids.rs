//! Integers with a meaning: two of them never fit in each other's place by accident.

use std::fmt;
use std::ops::{Add, Sub};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }

        impl From<$name> for $inner {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}

number! {
    /// The position of a record in its partition. Grows by one a record; never reused.
    Offset(i64)
}

number! {
    /// Counts the leaders of a partition (or of the quorum). A batch carries the epoch it was appended in.
    LeaderEpoch(i32)
}

number! {
    /// A node's `node.id`, 0 or more.
    BrokerId(i32)
}

number! {
    /// Names a producer across its sequence of batches (KIP-98).
    ProducerId(i64)
}

number! {
    /// Fences older incarnations of one producer id.
    ProducerEpoch(i16)
}

impl Offset {
    /// The first offset of a partition that never lost a record.
    pub const ZERO: Self = Self(0);
    /// Kafka's "no such offset", -1.
    pub const UNKNOWN: Self = Self(-1);

    /// The offset after this one; stays at `i64::MAX` there.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Add<i64> for Offset {
    type Output = Self;
    fn add(self, count: i64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl Sub for Offset {
    type Output = i64;
    fn sub(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

impl LeaderEpoch {
    /// Kafka's "epoch not known", -1.
    pub const UNKNOWN: Self = Self(-1);
}

impl BrokerId {
    /// Kafka's "no broker", -1.
    pub const NONE: Self = Self(-1);
}

impl ProducerId {
    /// Kafka's "no producer id", -1: the batch is not idempotent.
    pub const NONE: Self = Self(-1);
}

impl ProducerEpoch {
    /// Kafka's "no producer epoch", -1.
    pub const NONE: Self = Self(-1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_saturate_instead_of_wrapping() {
        assert_eq!(Offset(i64::MAX).next(), Offset(i64::MAX));
        assert_eq!(Offset(7) - Offset(3), 4);
        assert_eq!(Offset(7) + 3, Offset(10));
    }
}
