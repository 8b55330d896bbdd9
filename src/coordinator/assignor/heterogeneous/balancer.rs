//! Takes a topic's subscribers in turn, from the least and from the most loaded end. Loads change by one for
//! each member that is taken: those at the end take turns, and the next level joins them when all have had one.

/// The subscribers of one topic, sorted by load:
///
/// ```text
///   least loaded ..least_end)      most_start.. most loaded ..most_end) excluded
///                 ^next_least            ^next_most
/// ```
///
/// Members before `least_end` have `least_load` partitions, or one more where they had their turn; members of
/// `most_start..most_end` have `most_load`, or one less.
#[derive(Default)]
pub(super) struct Balancer {
    members: Vec<usize>,
    least_end: usize,
    least_load: isize,
    next_least: usize,
    most_start: usize,
    most_end: usize,
    most_load: isize,
    /// One more than the index of the next.
    next_most: usize,
}

impl Balancer {
    /// Begins with these subscribers (there must be one), and says how far their loads are apart.
    pub(super) fn start(&mut self, subscribers: &[usize], loads: &[usize]) -> usize {
        self.members.clear();
        self.members.extend_from_slice(subscribers);
        self.members.sort_by_key(|member| (loads[*member], *member));
        let (least, most) = (self.load_at(0, loads), self.load_at(self.members.len() - 1, loads));
        self.least_end = 0;
        self.least_load = least - 1;
        self.next_least = 0;
        self.most_start = self.members.len();
        self.most_end = self.members.len();
        self.most_load = most + 1;
        self.next_most = self.members.len();
        most.abs_diff(least)
    }

    /// The next member to be given a partition.
    pub(super) fn next_least_loaded(&mut self, loads: &[usize]) -> usize {
        if self.next_least >= self.least_end {
            self.least_load += 1;
            while self.least_end < self.members.len()
                && self.load_at(self.least_end, loads) == self.least_load
            {
                self.least_end += 1;
            }
            self.next_least = 0;
        }
        self.next_least += 1;
        self.members[self.next_least - 1]
    }

    /// The next member to give a partition away, if any is left.
    pub(super) fn next_most_loaded(&mut self, loads: &[usize]) -> Option<usize> {
        if self.next_most <= self.most_start {
            let all_excluded = self.most_end <= self.most_start && self.most_start > 0;
            self.most_load =
                if all_excluded { self.load_at(self.most_start - 1, loads) } else { self.most_load - 1 };
            while self.most_start > 0 && self.load_at(self.most_start - 1, loads) == self.most_load {
                self.most_start -= 1;
            }
            self.next_most = self.most_end;
        }
        self.next_most = self.next_most.checked_sub(1)?;
        Some(self.members[self.next_most])
    }

    /// The member that was just to give has nothing of this topic: it is not asked again.
    pub(super) fn exclude_most_loaded(&mut self) {
        self.most_end -= 1;
        self.members.swap(self.next_most, self.most_end);
    }

    /// Whether the most loaded that are left have at most one more than the least loaded.
    pub(super) fn is_balanced(&self) -> bool {
        self.most_load - self.least_load <= 1
    }

    fn load_at(&self, at: usize, loads: &[usize]) -> isize {
        isize::try_from(loads[self.members[at]]).unwrap_or(isize::MAX)
    }
}
