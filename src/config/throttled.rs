//! Which replicas of a topic are throttled: `partition:broker` pairs, or `*` for all.

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum ThrottledReplicas {
    /// None.
    #[default]
    None,
    /// All of the topic.
    All,
    /// Partition and broker.
    Listed(Vec<(i32, i32)>),
}

impl ThrottledReplicas {
    /// Of the items of the setting, which were checked when it was set.
    pub(super) fn of(items: &[String]) -> Self {
        if items.is_empty() {
            return Self::None;
        }
        if items.iter().any(|item| item.trim() == "*") {
            return Self::All;
        }
        let pair = |item: &String| {
            let (partition, broker) = item.trim().split_once(':')?;
            Some((partition.parse().ok()?, broker.parse().ok()?))
        };
        Self::Listed(items.iter().filter_map(pair).collect())
    }

    /// Whether the replica of `partition` on `broker` is one of them.
    #[must_use]
    pub fn contains(&self, partition: i32, broker: i32) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Listed(pairs) => pairs.contains(&(partition, broker)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_name_single_replicas_and_a_star_all() {
        let of =
            |text: &[&str]| ThrottledReplicas::of(&text.iter().map(ToString::to_string).collect::<Vec<_>>());
        let listed = of(&["0:1", "2:3"]);
        assert!(listed.contains(0, 1) && listed.contains(2, 3) && !listed.contains(0, 3));
        assert!(of(&["*"]).contains(7, 7) && !of(&[]).contains(0, 0));
    }
}
