//! Where a client begins: a list of brokers, or the one in this process.

use std::fmt;
use std::sync::Arc;

use crate::net::outgoing::{Address, Dial, InvalidAddress};

/// Where a client begins.
#[derive(Clone)]
pub enum Bootstrap {
    /// Any of these brokers.
    Addresses(Vec<Address>),
    /// Every connection, to whichever broker, is made by this function: a broker inside this process.
    Dial(Arc<dyn Dial>),
}

impl Bootstrap {
    /// Reads `HOST:PORT,HOST:PORT,unix:PATH`.
    ///
    /// # Errors
    /// [`InvalidAddress`] for the first part that is none, or where there is no part.
    pub fn parse(list: &str) -> Result<Self, InvalidAddress> {
        let parts: Vec<&str> = list.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        if parts.is_empty() {
            return Err(InvalidAddress { given: list.to_owned(), why: "it is empty" });
        }
        parts.into_iter().map(str::parse).collect::<Result<_, _>>().map(Self::Addresses)
    }
}

impl fmt::Debug for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(addresses) => {
                for (index, address) in addresses.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{address}")?;
                }
                Ok(())
            }
            Self::Dial(_) => f.write_str("the broker in this process"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_lists_parse_and_print() {
        let list = Bootstrap::parse("a:1, [::1]:2,,unix:/x").unwrap();
        assert_eq!(list.to_string(), "a:1,[::1]:2,unix:/x");
        assert!(Bootstrap::parse(" , ").is_err());
    }
}
