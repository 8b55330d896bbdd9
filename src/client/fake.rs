//! A broker for tests that answers from a script, in this process.

pub(super) use crate::net::outgoing::fake::{Asked, Reply};

use crate::net::outgoing::fake;

use super::address::Bootstrap;

/// The broker.
pub(super) struct Fake;

impl Fake {
    pub(super) fn bootstrap(script: impl Fn(Asked) -> Reply + Send + Sync + 'static) -> Bootstrap {
        Bootstrap::Dial(fake::Fake::dialled(script))
    }
}
