"""Judges what clients of a cluster have seen, by the rules that Jepsen has for logs.

A `History` is fed with what was sent and acknowledged, what readers and groups read and committed, and with the whole
log as it stands in the end. `violations()` says what must not be, a line each, by rule:

    lost-write             acknowledged, and not in the log though later records are; `unseen` at the log's end
    duplicate              one record at two offsets, by one producer id and epoch: a client that takes a new epoch and sends
                           anew what it has no answer for (librdkafka #4953) has nobody to tell it; such are counted
    nonmonotonic-send      records of one producer are in another order than they were sent in
    moved-write            acknowledged at one offset, and found at another
    offset-gap             offsets of the log are not 0, 1, 2, …
    phantom                a record that nobody sent
    inconsistent-offsets   two readers saw different records at one offset
    nonmonotonic-poll      a reader of its own choice went back, or (`poll-skip`) jumped
    unread-commit          a group committed an offset, and nobody of it had read what is below
    nonmonotonic-commit    a commit that was acknowledged or seen is gone or smaller at a later look
    said                   what a client itself says must not happen
"""

from collections import defaultdict

SHIFT = 40
SHOWN = 5


def value(identity, number):
    """What a record holds: nobody can mistake it for another one, and a changed byte shows."""
    return b"%d %d %s" % (identity, number, bytes([97 + number % 26]) * (20 + number * 7919 % 160))


def name(record):
    return f"{record >> SHIFT}:{record & ((1 << SHIFT) - 1)}"


class History:
    def __init__(self, strict=()):
        self.strict = strict
        self.sent_again = 0
        self.sent = {}
        self.acknowledged = defaultdict(dict)
        self.given_up = 0
        self.ended = []
        self.log = defaultdict(list)
        self.epochs = defaultdict(dict)
        self.readers = []
        self.groups = defaultdict(list)
        self.commits = defaultdict(list)
        self.looks = defaultdict(list)
        self.found = []

    def producer(self, title, lines):
        """What one producer printed; a line that was cut by its end does not count."""
        for words in split(lines, self.found, title):
            if words[0] == "+":
                partition, offset, identity, number = map(int, words[1:5])
                self.acknowledge(identity, partition, offset, number)
            elif words[0] == "-":
                self.given_up += 1
            elif words[0] == "~":
                self.ended.append(" ".join(words[1:]))
            elif words[0] == "=":
                self.sent[int(words[1])] = int(words[2])

    def acknowledge(self, identity, partition, offset, number):
        self.acknowledged[partition][(identity << SHIFT) + number] = offset

    def reader(self, title, lines, is_to_the_end=True):
        reads = [(int(words[1]), int(words[2]), (int(words[3]) << SHIFT) + int(words[4]))
                 for words in split(lines, self.found, title) if words[0] == "r"]
        self.readers.append((title, reads, is_to_the_end))

    def member(self, group, title, lines):
        """A member of a group: its reads and its commits in their order."""
        events = self.groups[group]
        for words in split(lines, self.found, title):
            if words[0] == "r":
                events.append((title, "r", int(words[1]), int(words[2]), (int(words[3]) << SHIFT) + int(words[4])))
            elif words[0] == "c":
                events.append((title, "c", int(words[2]), int(words[3]), None))
                self.commits[group].append((float(words[1]), int(words[2]), int(words[3])))

    def watcher(self, group, title, lines):
        for words in split(lines, self.found, title):
            if words[0] == "o":
                self.looks[group].append((float(words[1]), int(words[2]), int(words[3])))

    def whole_log(self, reads):
        """The final read: (partition, offset, record) in the order of each partition, with its producer's id and epoch."""
        for partition, offset, record, *epoch in reads:
            if offset != len(self.log[partition]):
                self.found.append(f"offset-gap: partition {partition} has offset {offset} where {len(self.log[partition])} is due")
                self.log[partition].extend([-1] * (offset - len(self.log[partition])))
            self.log[partition].append(record)
            if epoch:
                self.epochs[partition][offset] = epoch[0]

    def acknowledged_count(self):
        return sum(map(len, self.acknowledged.values()))

    def violations(self):
        found = list(self.found)
        for partition in sorted(set(self.log) | set(self.acknowledged)):
            found += self.log_violations(partition)
        for title, reads, is_to_the_end in self.readers:
            found += self.poll_violations(title, reads, is_to_the_end)
        for group, events in self.groups.items():
            found += self.group_violations(group, events)
        for group in self.looks:
            found += self.commit_violations(group)
        return found

    def log_violations(self, partition):
        log = self.log[partition]
        places, last = {}, {}
        for offset, record in enumerate(log):
            producer, number = record >> SHIFT, record & ((1 << SHIFT) - 1)
            if record in places:
                if self.is_sent_again(partition, producer, places[record][-1], offset):
                    self.sent_again += 1
                else:
                    yield f"duplicate: partition {partition} has {name(record)} at {places[record][-1]} and at {offset}"
            elif number < last.get(producer, -1):
                yield f"nonmonotonic-send: partition {partition} has {name(record)} at {offset}, behind {producer}:{last[producer]}"
            if record >= 0 and number >= self.sent.get(producer, number):
                yield f"phantom: partition {partition} has {name(record)} at {offset}, which nobody sent"
            places.setdefault(record, []).append(offset)
            last[producer] = max(number, last.get(producer, -1))
        for record, offset in self.acknowledged[partition].items():
            place = places.get(record)
            if place is None:
                rule = "lost-write" if offset < len(log) else "unseen"
                yield f"{rule}: partition {partition} lacks {name(record)}, which was acknowledged at {offset}"
            elif offset >= 0 and offset not in place:
                yield f"moved-write: partition {partition} has {name(record)} at {place}, acknowledged at {offset}"

    def is_sent_again(self, partition, producer, earlier, later):
        epochs = self.epochs[partition].get(earlier), self.epochs[partition].get(later)
        return None not in epochs and producer not in self.strict and epochs[0][0] == epochs[1][0] and epochs[0][1] < epochs[1][1]

    def agrees(self, who, partition, offset, record):
        """A read against the log in the end: what was read once is committed, and stays."""
        log = self.log[partition]
        there = log[offset] if offset < len(log) else None
        if there == record:
            return []
        said = "nothing" if there is None else name(there)
        return [f"inconsistent-offsets: {who} read {name(record)} at {partition}:{offset}, where {said} is in the end"]

    def poll_violations(self, title, reads, is_to_the_end):
        due = {}
        for partition, offset, record in reads:
            yield from self.agrees(title, partition, offset, record)
            expected = due.get(partition, 0)
            if offset != expected:
                rule = "nonmonotonic-poll" if offset < expected else "poll-skip"
                yield f"{rule}: {title} read {partition}:{offset} where {expected} was due"
            due[partition] = offset + 1
        for partition, log in self.log.items():
            if is_to_the_end and due.get(partition, 0) < len(log):
                yield f"unseen: {title} ended at {partition}:{due.get(partition, 0)} of {len(log)}"

    def group_violations(self, group, events):
        read, committed = defaultdict(set), defaultdict(int)
        for title, kind, partition, offset, record in events:
            if kind == "r":
                yield from self.agrees(title, partition, offset, record)
                read[partition].add(offset)
            else:
                committed[partition] = max(committed[partition], offset)
        for partition, end in committed.items():
            missing = [offset for offset in range(end) if offset not in read[partition]]
            if missing:
                yield f"unread-commit: group {group} committed {partition}:{end}, and nobody read {missing[:SHOWN]} ({len(missing)})"

    def commit_violations(self, group):
        """Each look must find at least what was acknowledged, or seen by a look, before it began."""
        events = sorted([(time, 0, partition, offset) for time, partition, offset in self.commits[group]]
                        + [(time, 1, partition, offset) for time, partition, offset in self.looks[group]])
        known = defaultdict(lambda: -1)
        for time, is_look, partition, offset in events:
            if is_look and offset < known[partition]:
                yield f"nonmonotonic-commit: group {group} had {partition}:{known[partition]}, and {offset} was seen at {time:.3f}"
            known[partition] = max(known[partition], offset)


def split(lines, found, title):
    for line in lines:
        if not line.endswith("\n"):
            continue
        if line.startswith("!"):
            found.append(f"said: {title}: {line[2:].strip()}")
        yield line.split()


def shortened(violations):
    """So many of each rule, and how many there are."""
    by_rule = defaultdict(list)
    for violation in violations:
        by_rule[violation.split(":", 1)[0]].append(violation)
    return [line for rule, several in by_rule.items()
            for line in [*several[:SHOWN], *([f"… {len(several)} of {rule} in all"] if len(several) > SHOWN else [])]]


PLANTED = {
    "lost-write": dict(acknowledged=[(1, 0, 0, 7)]),
    "unseen": dict(acknowledged=[(1, 0, 3, 9)]),
    "duplicate": dict(log=[(0, 3, 2, (7, 0))]),
    "nonmonotonic-send": dict(log=[(0, 3, 5), (0, 4, 4)]),
    "moved-write": dict(acknowledged=[(1, 0, 0, 1)]),
    "offset-gap": dict(log=[(0, 4, 5)]),
    "phantom": dict(log=[(0, 3, 99)]),
    "inconsistent-offsets": dict(reader=["r 0 0 1 0\n", "r 0 1 1 2\n", "r 0 2 1 2\n"]),
    "nonmonotonic-poll": dict(reader=["r 0 0 1 0\n", "r 0 0 1 0\n", "r 0 1 1 1\n", "r 0 2 1 2\n"]),
    "poll-skip": dict(reader=["r 0 0 1 0\n", "r 0 2 1 2\n"]),
    "unread-commit": dict(member=["r 0 0 1 0\n", "c 1.0 0 3\n"]),
    "nonmonotonic-commit": dict(member=["r 0 0 1 0\n", "r 0 1 1 1\n", "c 1.0 0 2\n"], watcher=["o 2.0 0 1\n"]),
    "said": dict(reader=["! something\n", "r 0 0 1 0\n", "r 0 1 1 1\n", "r 0 2 1 2\n"]),
}


def planted(log=(), acknowledged=(), reader=None, member=(), watcher=(), strict=()):
    """A sound history of three records of producer 1, and what is planted into it."""
    history = History(strict)
    history.producer("producer", ["+ 0 0 1 0\n", "+ 0 1 1 1\n", "+ 0 -1 1 2\n", "= 1 10\n", "+ 0 9"])
    sound = [(0, 0, 0, (7, 0)), (0, 1, 1, (7, 0)), (0, 2, 2, (7, 0))]
    history.whole_log([(partition, offset, (1 << SHIFT) + number, *epoch) for partition, offset, number, *epoch in [*sound, *log]])
    for identity, partition, offset, number in acknowledged:
        history.acknowledge(identity, partition, offset, number)
    if reader:
        history.reader("reader", reader)
    history.member("group", "member", member)
    history.watcher("group", "watcher", watcher)
    return history.violations()


def self_test():
    """Rules that do not find what breaks them, and anything found in a sound history."""
    sound = planted(reader=["r 0 0 1 0\n", "r 0 1 1 1\n", "r 0 2 1 2\n"], member=["r 0 0 1 0\n", "c 1.0 0 1\n"],
                    watcher=["o 0.5 0 -1\n", "o 2.0 0 1\n"])
    again = [(0, 3, 2, (7, 1))]
    wrong = [f"in a sound history: {violation}" for violation in [*sound, *planted(log=again, acknowledged=[(1, 0, 3, 2)])]]
    if not planted(log=again, strict={1}):
        wrong.append("a strict producer's duplicate under a new epoch is not found")
    for rule, plant in PLANTED.items():
        found = {violation.split(":", 1)[0] for violation in planted(**plant)}
        if rule not in found:
            wrong.append(f"{rule} is not found, but {sorted(found)}")
    return wrong
