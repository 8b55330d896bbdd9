//! Assignors against Kafka's results, and against what must hold of any assignment.

use std::collections::BTreeSet;

use super::*;

fn topic(number: u8) -> Uuid {
    Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number])
}

fn numbers(list: &str) -> Vec<i32> {
    list.split(',').filter(|number| !number.is_empty()).map(|number| number.parse().unwrap()).collect()
}

/// `1=0,1 2=3`
fn partitions(text: &str) -> Partitions {
    let topics = text.split(' ').filter(|topic| !topic.is_empty());
    let pairs = topics.flat_map(|entry| {
        let (id, list) = entry.split_once('=').unwrap();
        let id = topic(id.parse().unwrap());
        numbers(list).into_iter().map(move |partition| (id, partition))
    });
    pairs.collect()
}

/// A line of the table: assignor, whether homogeneous, topics with their counts, members with instance id,
/// subscription and what they have, and what Kafka 4.3.1 made of it.
fn check(line: &str) {
    let columns: Vec<&str> = line.split('\t').collect();
    let [assignor, homogeneous, topics, members, expected] = columns[..] else { panic!("{line}") };
    let members: Vec<Vec<&str>> = members.split("; ").map(|member| member.splitn(4, '/').collect()).collect();
    let had: Vec<Partitions> = members.iter().map(|member| partitions(member[3])).collect();
    let partition_counts = topics.split(' ').map(|entry| {
        let (id, count) = entry.split_once('=').unwrap();
        (topic(id.parse().unwrap()), count.parse().unwrap())
    });
    let subscribers = members.iter().zip(&had).map(|(member, assigned)| {
        let topics = numbers(member[2]).into_iter().map(|id| topic(u8::try_from(id).unwrap())).collect();
        let instance_id = Some(member[1]).filter(|id| !id.is_empty());
        (member[0], Subscriber { instance_id, topics, assigned })
    });
    let group = GroupSpec {
        members: subscribers.collect(),
        homogeneous: homogeneous == "true",
        partition_counts: partition_counts.collect(),
    };
    let mut assigned = Assignor::from_name(assignor).unwrap().assign(&group).unwrap();
    for entry in expected.split("; ") {
        let (member, owned) = entry.split_once('/').unwrap();
        assert_eq!(
            assigned.remove(member).unwrap_or_default(),
            partitions(owned),
            "member {member} of {line}"
        );
    }
}

#[test]
fn assignments_are_those_of_kafka() {
    let table = include_str!("../../../testdata/golden/assignments.tsv");
    assert!(table.lines().count() > 300);
    table.lines().filter(|line| !line.starts_with('#')).for_each(check);
}

/// xorshift: enough to vary inputs.
fn draw(state: &mut u64, below: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state % u64::try_from(below).unwrap()).unwrap()
}

fn spec<'a>(
    ids: &'a [String],
    topics: &[Vec<Uuid>],
    had: &'a [Partitions],
    counts: &BTreeMap<Uuid, i32>,
) -> GroupSpec<'a> {
    let members = ids.iter().zip(topics).zip(had).map(|((id, topics), assigned)| {
        (id.as_str(), Subscriber { instance_id: None, topics: topics.as_slice().into(), assigned })
    });
    let homogeneous = topics.windows(2).all(|pair| pair[0] == pair[1]);
    GroupSpec { members: members.collect(), homogeneous, partition_counts: counts.clone() }
}

#[test]
fn every_subscribed_partition_has_one_owner_and_stays_where_nothing_changed() {
    for seed in 1..400_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let counts: BTreeMap<Uuid, i32> = (1..=u8::try_from(1 + draw(&mut random, 5)).unwrap())
            .map(|id| (topic(id), i32::try_from(1 + draw(&mut random, 8)).unwrap()))
            .collect();
        let ids: Vec<String> = (0..=draw(&mut random, 7)).map(|index| format!("m{index}")).collect();
        let topics: Vec<Vec<Uuid>> = ids
            .iter()
            .map(|_| counts.keys().copied().filter(|_| draw(&mut random, 3) > 0).collect())
            .collect();
        for assignor in [Assignor::Range, Assignor::Uniform] {
            let nothing = vec![Partitions::default(); ids.len()];
            let first = assignor.assign(&spec(&ids, &topics, &nothing, &counts)).unwrap();
            let mut owned = BTreeSet::new();
            for (id, partitions) in &first {
                let at = ids.iter().position(|other| other == id).unwrap();
                for (topic, partition) in partitions.flat() {
                    assert!(topics[at].contains(&topic), "seed {seed}: {id} does not read {topic}");
                    assert!(owned.insert((topic, partition)), "seed {seed}: two owners");
                }
            }
            let read: BTreeSet<Uuid> = topics.iter().flatten().copied().collect();
            let all: i32 = read.iter().map(|topic| counts[topic]).sum();
            assert_eq!(owned.len(), usize::try_from(all).unwrap(), "seed {seed}: not all are owned");
            let had: Vec<Partitions> =
                ids.iter().map(|id| first.get(id.as_str()).cloned().unwrap_or_default()).collect();
            let again = assignor.assign(&spec(&ids, &topics, &had, &counts)).unwrap();
            assert_eq!(again, first, "seed {seed}: {} moved partitions for nothing", assignor.name());
        }
    }
}

/// Members may be said to have anything: the same partition as another, one that is not there, too many, too few.
#[test]
fn whatever_members_are_said_to_have_each_partition_gets_one_owner_who_reads_it() {
    for seed in 1..2_000_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let counts: BTreeMap<Uuid, i32> = (1..=u8::try_from(1 + draw(&mut random, 4)).unwrap())
            .map(|id| (topic(id), i32::try_from(draw(&mut random, 9)).unwrap()))
            .collect();
        let ids: Vec<String> = (0..=draw(&mut random, 9)).map(|index| format!("m{index}")).collect();
        let all: Vec<Uuid> = counts.keys().copied().collect();
        let alike = draw(&mut random, 2) == 0;
        let mut some = || all.iter().copied().filter(|_| alike || draw(&mut random, 2) == 0).collect();
        let topics: Vec<Vec<Uuid>> = ids.iter().map(|_| some()).collect();
        let mut claim = || {
            let any = (0..draw(&mut random, 30)).map(|_| {
                (all[draw(&mut random, all.len())], i32::try_from(draw(&mut random, 12)).unwrap() - 1)
            });
            any.collect::<Vec<_>>().into_iter().collect()
        };
        let had: Vec<Partitions> = ids.iter().map(|_| claim()).collect();
        for assignor in [Assignor::Range, Assignor::Uniform] {
            let assigned = assignor.assign(&spec(&ids, &topics, &had, &counts)).unwrap();
            let mut owned = BTreeSet::new();
            for (id, partitions) in &assigned {
                let at = ids.iter().position(|other| other == id).unwrap();
                for place in partitions.flat() {
                    assert!(topics[at].contains(&place.0), "seed {seed}: {id} does not read {place:?}");
                    assert!(owned.insert(place), "seed {seed}: {place:?} has two owners");
                }
            }
            let read: BTreeSet<Uuid> = topics.iter().flatten().copied().collect();
            let all = read.iter().flat_map(|topic| (0..counts[topic]).map(|number| (*topic, number)));
            assert_eq!(owned, all.collect(), "seed {seed}: {}", assignor.name());
        }
    }
}

#[test]
fn what_two_members_are_said_to_have_goes_to_one_and_what_is_not_there_to_none() {
    let counts = BTreeMap::from([(topic(1), 4)]);
    let ids = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
    let had = [partitions("1=0,1"), partitions("1=0,1,2"), partitions("1=2,3,9")];
    for topics in [vec![vec![topic(1)]; 3], vec![vec![topic(1)], vec![topic(1)], vec![topic(1), topic(2)]]] {
        let mut counts = counts.clone();
        counts.insert(topic(2), 1);
        let assigned = Assignor::Uniform.assign(&spec(&ids, &topics, &had, &counts)).unwrap();
        let owned: BTreeSet<(Uuid, i32)> = assigned.values().flat_map(Partitions::flat).collect();
        let all: i32 = topics.iter().flatten().collect::<BTreeSet<_>>().iter().map(|id| counts[*id]).sum();
        assert_eq!(i32::try_from(owned.len()).unwrap(), all);
        assert_eq!(i32::try_from(assigned.values().flat_map(Partitions::flat).count()).unwrap(), all);
    }
}

#[test]
fn topics_without_partitions_given_are_refused() {
    let nothing = Partitions::default();
    let member = Subscriber { instance_id: None, topics: [topic(1)].into(), assigned: &nothing };
    let group = GroupSpec {
        members: BTreeMap::from([("a", member)]),
        homogeneous: true,
        partition_counts: BTreeMap::new(),
    };
    assert_eq!(Assignor::Uniform.assign(&group), Err(AssignorError::UnknownTopic(topic(1))));
}
