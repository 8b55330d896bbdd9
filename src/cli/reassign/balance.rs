//! Evening out a layout, one move at a time. Every move makes what it evens out strictly more even, so each pass ends.

use super::planner::Layout;

/// Spreads partitions over racks that could be in more of them than they are.
pub(super) fn racks(layout: &mut Layout<'_>, planned: &[usize]) {
    for &index in planned {
        loop {
            let replicas = layout.replicas[index].clone();
            let now = layout.racks_of(&replicas);
            // The last one first: leaders stay where they are.
            let better = (0..replicas.len()).rev().find_map(|place| {
                let mut rest = replicas.clone();
                rest.remove(place);
                let taker = layout.best_taker(index, &rest).filter(|taker| !replicas.contains(taker))?;
                let mut after = replicas.clone();
                after[place] = taker;
                (layout.racks_of(&after) > now).then_some(after)
            });
            match better {
                Some(after) if now < layout.racks().min(replicas.len()) => layout.set(index, after),
                _ => break,
            }
        }
    }
}

/// Evens out the replicas of each topic, then all of them.
pub(super) fn replicas(layout: &mut Layout<'_>, planned: &[usize]) {
    let mut rest = planned;
    while let [first, ..] = rest {
        let topic = &layout.placed[*first].partition.topic;
        let same = rest.iter().take_while(|&&index| layout.placed[index].partition.topic == *topic).count();
        let (of_topic, others) = rest.split_at(same);
        even_out(layout, of_topic, |layout, id| layout.of_topic(*first, id), |_, _, _, _| true);
        rest = others;
    }
    // A topic that is spread evenly stays so where its share of the busier broker is the larger one.
    let keeps_topic =
        |layout: &Layout<'_>, index, from, to| layout.of_topic(index, from) > layout.of_topic(index, to);
    even_out(layout, planned, |layout, id| layout.load(id), keeps_topic);
}

/// Moves replicas from brokers that have more to such that have at least two fewer, the smallest logs first.
fn even_out(
    layout: &mut Layout<'_>,
    among: &[usize],
    amount: impl Fn(&Layout<'_>, i32) -> i64,
    allows: impl Fn(&Layout<'_>, usize, i32, i32) -> bool,
) {
    while let Some((index, after)) = next_move(layout, among, &amount, &allows) {
        layout.set(index, after);
    }
}

fn next_move(
    layout: &Layout<'_>,
    among: &[usize],
    amount: &impl Fn(&Layout<'_>, i32) -> i64,
    allows: &impl Fn(&Layout<'_>, usize, i32, i32) -> bool,
) -> Option<(usize, Vec<i32>)> {
    let mut takers = layout.takers();
    takers.sort_by_key(|&id| (amount(layout, id), layout.load(id), id));
    for &from in takers.iter().rev() {
        for &to in &takers {
            if amount(layout, from) - amount(layout, to) < 2 {
                break;
            }
            let candidates = among.iter().copied().filter(|&index| {
                let replicas = &layout.replicas[index];
                replicas.contains(&from) && !replicas.contains(&to) && allows(layout, index, from, to)
            });
            let moves = candidates.filter_map(|index| {
                let before = &layout.replicas[index];
                let after: Vec<i32> = before.iter().map(|&id| if id == from { to } else { id }).collect();
                (layout.racks_of(&after) >= layout.racks_of(before)).then_some((index, after))
            });
            // What is on its way already costs nothing more to send elsewhere.
            let cost = |(index, after): &(usize, Vec<i32>)| {
                let one = &layout.placed[*index];
                let is_copied = !one.replicas.contains(&to) && one.replicas.contains(&from);
                (if is_copied { one.size_bytes } else { 0 }, after.first() == Some(&to), *index)
            };
            if let Some(found) = moves.min_by_key(cost) {
                return Some(found);
            }
        }
    }
    None
}

/// Evens out who is the preferred leader of how many, by the order of replicas alone.
pub(super) fn leaders(layout: &mut Layout<'_>, among: &[usize]) {
    while let Some((index, after)) = next_leader(layout, among) {
        layout.set(index, after);
    }
}

fn next_leader(layout: &Layout<'_>, among: &[usize]) -> Option<(usize, Vec<i32>)> {
    let takers = layout.takers();
    let gain = |index: usize| {
        let replicas = &layout.replicas[index];
        let (place, &least) = replicas
            .iter()
            .enumerate()
            .filter(|(_, id)| takers.contains(id))
            .min_by_key(|(_, id)| layout.leads(**id))?;
        let gain = layout.leads(*replicas.first()?) - layout.leads(least);
        (gain >= 2).then_some((gain, index, place))
    };
    let (_, index, place) = among
        .iter()
        .filter_map(|&index| gain(index))
        .max_by_key(|(gain, index, _)| (*gain, std::cmp::Reverse(*index)))?;
    let mut after = layout.replicas[index].clone();
    after.swap(0, place);
    Some((index, after))
}
