//! Tagged fields: the ones that a version does not know are kept, so that a message leaves as it came.

use bytes::Bytes;

/// Tagged fields that this version of the message does not know, in the order of their tags.
///
/// One pointer wide, and null in all but a few messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnknownTags(Option<Box<Entries>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entries(Vec<(u32, Bytes)>);

impl UnknownTags {
    /// What an entry costs in memory, the growth of the list included.
    pub(super) const ENTRY_SIZE: usize = 2 * size_of::<(u32, Bytes)>();

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |entries| entries.0.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a field; its tag must be greater than those before.
    pub fn push(&mut self, tag: u32, value: Bytes) {
        self.0.get_or_insert_default().0.push((tag, value));
    }

    /// Tags and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Bytes)> {
        self.0.iter().flat_map(|entries| entries.0.iter().map(|(tag, value)| (*tag, value)))
    }
}

/// Where the decoder is in a struct's tagged fields.
#[derive(Debug)]
pub struct Tags {
    pub(super) left: u32,
    /// The tag whose value is being read.
    pub(super) current: Option<u32>,
    /// Where reading must stop once the tagged fields are over.
    pub(super) outer_end: usize,
}

impl Tags {
    pub(super) fn new(left: u32, outer_end: usize) -> Self {
        Self { left, current: None, outer_end }
    }
}
