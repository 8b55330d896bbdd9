//! Which version of each API a broker and we have in common.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::protocol::messages::api_versions_response::ApiVersionsResponse;
use crate::protocol::{ApiKey, Request};

use super::error::ConnectionError;

/// What one broker said about itself.
#[derive(Debug, Clone, Default)]
pub struct ApiVersions {
    ranges: BTreeMap<i16, RangeInclusive<i16>>,
    finalized_features: BTreeMap<String, (i16, i16)>,
}

impl ApiVersions {
    /// Reads the broker's answer.
    #[must_use]
    pub fn new(response: &ApiVersionsResponse) -> Self {
        let ranges = response.api_keys.iter().map(|api| (api.api_key, api.min_version..=api.max_version));
        let features = response
            .finalized_features
            .iter()
            .map(|f| (f.name.to_string(), (f.min_version_level, f.max_version_level)));
        Self { ranges: ranges.collect(), finalized_features: features.collect() }
    }

    /// The versions of `key` the broker offers; `None` where it does not know the API.
    #[must_use]
    pub fn range(&self, key: ApiKey) -> Option<RangeInclusive<i16>> {
        self.ranges.get(&key.key()).cloned()
    }

    /// Every API key the broker offers, ours or not, with its versions.
    pub fn ranges(&self) -> impl Iterator<Item = (i16, &RangeInclusive<i16>)> {
        self.ranges.iter().map(|(&key, range)| (key, range))
    }

    /// The cluster's finalised feature levels: name, lowest, highest.
    pub fn finalized_features(&self) -> impl Iterator<Item = (&str, i16, i16)> {
        self.finalized_features.iter().map(|(name, &(min, max))| (name.as_str(), min, max))
    }

    /// The highest version of `R` that both know and that is at most `at_most`.
    ///
    /// # Errors
    /// [`ConnectionError::UnsupportedVersion`] where there is none.
    pub fn choose<R: Request>(&self, at_most: i16, peer: &Arc<str>) -> Result<i16, ConnectionError> {
        let ours = R::KEY.api().versions();
        let theirs = self.range(R::KEY);
        let common = theirs.as_ref().and_then(|theirs| {
            let highest = *ours.end().min(theirs.end()).min(&at_most);
            (highest >= *ours.start().max(theirs.start())).then_some(highest)
        });
        common.ok_or_else(|| ConnectionError::UnsupportedVersion {
            peer: Arc::clone(peer),
            api: R::KEY,
            theirs: theirs.map_or_else(|| "it has none".to_owned(), |range| in_words(&range)),
            ours: in_words(&ours),
        })
    }
}

fn in_words(range: &RangeInclusive<i16>) -> String {
    format!("it has versions {} to {}", range.start(), range.end())
}
