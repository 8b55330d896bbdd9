//! How many connections there may be: in all (`max.connections`) and from one address
//! (`max.connections.per.ip` and its overrides).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits, and what counts against them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConnectionQuotas {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    places: Arc<Semaphore>,
    addresses: Mutex<Addresses>,
}

#[derive(Debug)]
struct Addresses {
    max: usize,
    per_ip_max: u32,
    overrides: HashMap<IpAddr, u32>,
    count: HashMap<IpAddr, u32>,
}

/// A place among the connections; free again when dropped.
#[derive(Debug)]
pub struct Place {
    _place: OwnedSemaphorePermit,
    address: Option<(Arc<Shared>, IpAddr)>,
}

/// The address has as many connections as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyFromAddress {
    /// How many it may have.
    pub max: u32,
}

impl ConnectionQuotas {
    /// Room for `max` connections, `per_ip_max` from each address that has no row in `overrides`.
    #[must_use]
    pub fn new(max: usize, per_ip_max: u32, overrides: HashMap<IpAddr, u32>) -> Self {
        let max = max.min(Semaphore::MAX_PERMITS);
        let addresses = Addresses { max, per_ip_max, overrides, count: HashMap::new() };
        let shared = Shared { places: Arc::new(Semaphore::new(max)), addresses: Mutex::new(addresses) };
        Self { shared: Arc::new(shared) }
    }

    /// Other limits from now on. Connections that are there stay, and their places are given up only by a later
    /// call.
    pub fn set_limits(&self, max: usize, per_ip_max: u32, overrides: HashMap<IpAddr, u32>) {
        let max = max.min(Semaphore::MAX_PERMITS);
        let mut addresses = self.shared.addresses.lock();
        (addresses.per_ip_max, addresses.overrides) = (per_ip_max, overrides);
        if max > addresses.max {
            self.shared.places.add_permits(max - addresses.max);
            addresses.max = max;
        } else {
            // Places that are taken cannot be taken away: the limit stays that much higher.
            addresses.max -= self.shared.places.forget_permits(addresses.max - max);
        }
    }

    /// Waits until there is room for one more connection. Nothing is accepted meanwhile: the peer waits in
    /// the kernel's backlog, as it does before Kafka.
    pub async fn place(&self) -> Place {
        let places = Arc::clone(&self.shared.places);
        match places.acquire_owned().await {
            Ok(place) => Place { _place: place, address: None },
            Err(_) => unreachable!("the semaphore is never closed"),
        }
    }

    /// Counts the connection that took `place` for its address.
    ///
    /// # Errors
    /// [`TooManyFromAddress`]: the connection is to be closed.
    pub fn admit(&self, mut place: Place, ip: Option<IpAddr>) -> Result<Place, TooManyFromAddress> {
        let Some(ip) = ip else { return Ok(place) };
        let mut addresses = self.shared.addresses.lock();
        let max = *addresses.overrides.get(&ip).unwrap_or(&addresses.per_ip_max);
        let count = addresses.count.get(&ip).copied().unwrap_or(0);
        if count >= max {
            return Err(TooManyFromAddress { max });
        }
        addresses.count.insert(ip, count + 1);
        drop(addresses);
        place.address = Some((Arc::clone(&self.shared), ip));
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((shared, ip)) = self.address.take() else { return };
        let mut addresses = shared.addresses.lock();
        if let Some(count) = addresses.count.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                addresses.count.remove(&ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_has_its_own_limit_and_gives_places_back() {
        let (home, away): (IpAddr, IpAddr) = ("127.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap());
        let quotas = ConnectionQuotas::new(10, 2, HashMap::from([(away, 0)]));
        let first = quotas.admit(quotas.place().await, Some(home)).unwrap();
        let _second = quotas.admit(quotas.place().await, Some(home)).unwrap();
        assert!(quotas.admit(quotas.place().await, Some(home)).is_err());
        assert_eq!(
            quotas.admit(quotas.place().await, Some(away)).unwrap_err(),
            TooManyFromAddress { max: 0 }
        );
        assert!(quotas.admit(quotas.place().await, None).is_ok(), "a Unix socket has no address");
        drop(first);
        assert!(quotas.admit(quotas.place().await, Some(home)).is_ok());
    }

    #[tokio::test]
    async fn limits_change_while_connections_are_there() {
        let home: IpAddr = "127.0.0.1".parse().unwrap();
        let quotas = ConnectionQuotas::new(3, 1, HashMap::new());
        let _first = quotas.admit(quotas.place().await, Some(home)).unwrap();
        quotas.set_limits(2, 5, HashMap::new());
        let second = quotas.admit(quotas.place().await, Some(home)).unwrap();
        assert_eq!(quotas.shared.places.available_permits(), 0);
        quotas.set_limits(1, 5, HashMap::new());
        drop(second);
        quotas.set_limits(1, 5, HashMap::new());
        assert_eq!(quotas.shared.places.available_permits(), 0, "the one place is taken");
        quotas.set_limits(4, 5, HashMap::new());
        assert_eq!(quotas.shared.places.available_permits(), 3);
    }
}
