//! Which cluster a node belongs to, and what its quorum is started with.

use crate::config::{BrokerConfig, ControllerAddress, ListenAddress, QuorumConfig};
use crate::controller::MemberOptions;
use crate::controller::quorum::{Endpoint, QuorumSettings};
use crate::server::start::{StartError, random_id};
use crate::storage::LogDirectories;
use crate::types::Uuid;

/// The cluster's id: that of the directories; else the one asked for; else, with several voters, one that each of
/// them makes of the same list; else, alone, a new one. Who is to join others must be told which.
pub fn id(directories: &LogDirectories, config: &BrokerConfig) -> Result<String, StartError> {
    let found = directories.all().iter().find_map(|directory| directory.meta()?.cluster_id);
    match (found, config.cluster_id.clone()) {
        (Some(found), Some(asked)) if found != asked => Err(StartError::ClusterId { found, asked }),
        (Some(known), _) | (None, Some(known)) => Ok(known),
        (None, None) => match &config.quorum {
            Some(quorum) if quorum.voters.is_empty() => Err(StartError::NoClusterId),
            Some(quorum) => Ok(of_voters(&quorum.voters).to_string()),
            None => Ok(random_id().to_string()),
        },
    }
}

/// An id that depends on the set of voters alone, not on the order in which they are listed.
fn of_voters(voters: &[(i32, ControllerAddress)]) -> Uuid {
    let mut names: Vec<String> =
        voters.iter().map(|(id, address)| format!("{id}@{}:{}", address.host, address.port)).collect();
    names.sort_unstable();
    let text = names.join(",");
    let mut salt = 0_u64;
    loop {
        let halves = [hash(&text, 2 * salt), hash(&text, 2 * salt + 1)];
        let mut bytes = [0; 16];
        for (half, hash) in bytes.chunks_exact_mut(8).zip(halves) {
            half.copy_from_slice(&hash.to_be_bytes());
        }
        let id = Uuid::from_random_bytes(bytes);
        if !id.is_reserved() && !id.to_string().starts_with('-') {
            return id;
        }
        salt += 1;
    }
}

/// FNV-1a, mixed once more so that every bit counts.
fn hash(text: &str, salt: u64) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// What the quorum's thread is started with.
pub fn member(quorum: &QuorumConfig, config: &BrokerConfig) -> MemberOptions {
    let endpoint = |address: &ControllerAddress| Endpoint {
        name: String::new(),
        host: address.host.clone(),
        port: address.port,
    };
    let own = config.advertised_listeners.iter().filter(|advertised| advertised.controller);
    let own = own.filter_map(|advertised| match &advertised.address {
        ListenAddress::Tcp { host, port } => {
            Some(Endpoint { name: advertised.name.clone(), host: host.clone(), port: *port })
        }
        ListenAddress::Unix(_) => None,
    });
    let name = config.text("controller.listener.names").unwrap_or_default();
    let name = name.split(',').next().unwrap_or_default().trim().to_ascii_uppercase();
    MemberOptions {
        voters: quorum
            .voters
            .iter()
            .map(|(id, address)| (*id, Endpoint { name: name.clone(), ..endpoint(address) }))
            .collect(),
        bootstrap: quorum.bootstrap.iter().map(endpoint).collect(),
        endpoints: if quorum.is_controller { own.collect() } else { Vec::new() },
        settings: QuorumSettings {
            election_timeout_ms: quorum.election_timeout_ms,
            fetch_timeout_ms: quorum.fetch_timeout_ms,
            election_backoff_ms_max: quorum.election_backoff_ms_max,
            request_timeout_ms: quorum.request_timeout_ms,
            retry_backoff_ms: quorum.retry_backoff_ms,
            fetch_bytes_max: quorum.fetch_bytes_max,
            joins: quorum.joins,
            ..QuorumSettings::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voters_that_list_each_other_in_any_order_make_the_same_cluster() {
        let voter = |id: i32| (id, ControllerAddress { host: "h".to_owned(), port: 9000 + id as u16 });
        let id = of_voters(&[voter(1), voter(2), voter(3)]);
        assert_eq!(id, of_voters(&[voter(3), voter(1), voter(2)]));
        assert_ne!(id, of_voters(&[voter(1), voter(2)]));
        assert!(!id.is_reserved());
    }
}
