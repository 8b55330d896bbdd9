//! What one step of a shard works with: what it may look at, and where its effects go.

use std::sync::Arc;

use crate::config::GroupSettings;
use crate::metadata::Image;
use crate::types::Uuid;

use super::exchange::Effects;
use super::timers::Timers;

/// Two clocks: stamps may jump with the machine's clock, timers may not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch: for what is written down.
    pub wall_ms: i64,
    /// Milliseconds that never go back: for what is due.
    pub timer_ms: i64,
}

/// What a step may look at.
pub struct Surroundings<'a> {
    /// Time.
    pub now: Now,
    /// What the cluster has agreed on.
    pub image: &'a Arc<Image>,
    /// The broker's settings for groups.
    pub settings: &'a GroupSettings,
    /// The largest batch that the log takes.
    pub record_bytes_max: usize,
    /// Draws an id that nobody has had.
    pub draw_id: &'a mut dyn FnMut() -> Uuid,
}

/// What the functions of a group work with.
pub struct Step<'a> {
    /// Time.
    pub now: Now,
    /// What the cluster has agreed on.
    pub image: &'a Arc<Image>,
    /// The broker's settings for groups.
    pub settings: &'a GroupSettings,
    /// The largest batch that the log takes.
    pub record_bytes_max: usize,
    /// Draws an id that nobody has had.
    pub draw_id: &'a mut dyn FnMut() -> Uuid,
    /// The shard's timers.
    pub timers: &'a mut Timers,
    /// Records and answers.
    pub effects: &'a mut Effects,
}
