//! The known name that is most like a wrong one.

/// How many single-character insertions, deletions, replacements and swaps of neighbours lead from one
/// name to the other.
#[must_use]
pub fn edit_distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, &l) in left.iter().enumerate() {
        let mut row = Vec::with_capacity(right.len() + 1);
        row.push(i + 1);
        for (j, &r) in right.iter().enumerate() {
            let mut cost = (last[j] + usize::from(l != r)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && l == right[j - 1] && left[i - 1] == r {
                cost = cost.min(before_last[j - 1] + 1);
            }
            row.push(cost);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

/// The name among `known` with the fewest edits to `name`, and how many they are. Names longer than any
/// key are not compared.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<(&'a str, usize)> {
    if name.len() > 200 {
        return None;
    }
    known.map(|candidate| (candidate, edit_distance(name, candidate))).min_by_key(|(_, edits)| *edits)
}

/// [`nearest`], but only where it is near enough to be what was meant.
pub fn suggest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    nearest(name, known).filter(|(_, edits)| *edits <= (name.len() / 3).max(2)).map(|(known, _)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (left, right, edits) in [
            ("", "", 0),
            ("abc", "", 3),
            ("log.dir", "log.dirs", 1),
            ("form", "from", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edit_distance(left, right), edits, "{left} {right}");
            assert_eq!(edit_distance(right, left), edits, "{right} {left}");
        }
    }

    #[test]
    fn a_typo_finds_its_key_and_nonsense_finds_none() {
        let known = ["retention.ms", "retention.bytes"];
        assert_eq!(suggest("retenton.ms", known.into_iter()), Some("retention.ms"));
        assert_eq!(suggest("zookeeper.connect", known.into_iter()), None);
    }
}
