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
    per_ip_max: u32,
    per_ip_overrides: HashMap<IpAddr, u32>,
    per_ip: Mutex<HashMap<IpAddr, u32>>,
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
        let shared = Shared {
            places: Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))),
            per_ip_max,
            per_ip_overrides: overrides,
            per_ip: Mutex::new(HashMap::new()),
        };
        Self { shared: Arc::new(shared) }
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
        let max = *self.shared.per_ip_overrides.get(&ip).unwrap_or(&self.shared.per_ip_max);
        let mut per_ip = self.shared.per_ip.lock();
        let count = per_ip.entry(ip).or_insert(0);
        if *count >= max {
            if *count == 0 {
                per_ip.remove(&ip);
            }
            return Err(TooManyFromAddress { max });
        }
        *count += 1;
        drop(per_ip);
        place.address = Some((Arc::clone(&self.shared), ip));
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((shared, ip)) = self.address.take() else { return };
        let mut per_ip = shared.per_ip.lock();
        if let Some(count) = per_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                per_ip.remove(&ip);
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
}
