"""Load on a group coordinator with frames encoded beforehand: commits of offsets, and rebalances of a large group.

    group_load.py commits|rebalance|reconcile BOOTSTRAP      prints one number: commits a second, seconds a rebalance
"""

import socket
import struct
import sys
import time

TOPIC, PARTITIONS, MEMBERS = "group-load", 100, 100
COMMIT, FIND, JOIN, SYNC, BEAT = 8, 10, 11, 14, 68
COMMITS, ROUNDS = 8 * 8000, 20


def text(value):
    return struct.pack(">h", len(value)) + value


def blob(value):
    return struct.pack(">i", len(value)) + value


def frame(key, version, body):
    whole = struct.pack(">hhi", key, version, 1) + text(b"load") + body
    return struct.pack(">i", len(whole)) + whole


class Connection:
    def __init__(self, bootstrap):
        host, port = bootstrap.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def frame(self):
        """The next answer, behind its correlation id."""
        while len(self.buffer) < 4 or len(self.buffer) < 4 + struct.unpack_from(">i", self.buffer)[0]:
            self.buffer += self.socket.recv(1 << 16)
        size = struct.unpack_from(">i", self.buffer)[0]
        answer, self.buffer = self.buffer[8:4 + size], self.buffer[4 + size:]
        return answer

    def exactly(self, expected):
        """These bytes and no others: much cheaper than to take frames apart."""
        while len(self.buffer) < len(expected):
            self.buffer += self.socket.recv(1 << 16)
        if self.buffer != expected:
            raise RuntimeError("an answer differs from the first")
        self.buffer = b""

    def ask(self, data):
        self.send(data)
        return self.frame()


def coordinator(bootstrap, group):
    """Asks until the group has one."""
    connection = Connection(bootstrap)
    while True:
        answer = connection.ask(frame(FIND, 1, text(group) + b"\0"))
        if struct.unpack_from(">h", answer, 4)[0] == 0:
            return
        time.sleep(0.1)


def commit_frame(group, offset):
    partition = struct.pack(">iq", 0, offset) + text(b"")
    topics = struct.pack(">i", 1) + text(TOPIC.encode()) + struct.pack(">i", 1) + partition
    return frame(COMMIT, 5, text(group) + struct.pack(">i", -1) + text(b"") + topics)


def commits(bootstrap, connections=8, count=COMMITS // 8, depth=32):
    """Each connection commits for a group of its own, `depth` requests under way."""
    loads = []
    for number in range(connections):
        group = b"load-%d-%d" % (number, time.time_ns())
        coordinator(bootstrap, group)
        connection = Connection(bootstrap)
        answer = connection.ask(commit_frame(group, 0))
        while answer[-2:] != b"\0\0":
            time.sleep(0.1)
            answer = connection.ask(commit_frame(group, 0))
        answer = struct.pack(">ii", len(answer) + 4, 1) + answer
        loads.append((connection, commit_frame(group, 7) * depth, answer * depth))
    began = time.perf_counter()
    for _ in range(count // depth):
        for connection, data, _ in loads:
            connection.send(data)
        for connection, _, answers in loads:
            connection.exactly(answers)
    return connections * (count // depth) * depth / (time.perf_counter() - began)


def join_frame(group, member, metadata):
    protocols = struct.pack(">i", 1) + text(b"range") + blob(metadata)
    return frame(JOIN, 3, text(group) + struct.pack(">ii", 30_000, 30_000) + text(member) + text(b"consumer") + protocols)


def joined(answer):
    """Generation, leader, member, and the ids of all members where it leads."""
    error, generation = struct.unpack_from(">hi", answer, 4)
    if error != 0:
        raise RuntimeError(f"JoinGroup: {error}")
    at, texts = 10, []
    for _ in range(3):
        size = struct.unpack_from(">h", answer, at)[0]
        texts.append(answer[at + 2:at + 2 + size])
        at += 2 + size
    count = struct.unpack_from(">i", answer, at)[0]
    at, members = at + 4, []
    for _ in range(count):
        size = struct.unpack_from(">h", answer, at)[0]
        members.append(answer[at + 2:at + 2 + size])
        at += 2 + size
        at += 4 + struct.unpack_from(">i", answer, at)[0]
    return generation, texts[1], texts[2], members


def sync_frame(group, generation, member, assignments):
    given = struct.pack(">i", len(assignments)) + b"".join(text(to) + blob(what) for to, what in assignments)
    return frame(SYNC, 2, text(group) + struct.pack(">i", generation) + text(member) + given)


def rebalance(bootstrap, rounds=ROUNDS):
    """The median time in which 100 members join again, are assigned a partition each, and know it."""
    group = b"rebalanced-%d" % time.time_ns()
    coordinator(bootstrap, group)
    members = [[Connection(bootstrap), b""] for _ in range(MEMBERS)]
    times = []
    for turn in range(rounds + 1):
        # A member that says something new makes the others join again.
        metadata = struct.pack(">hi", 0, 1) + text(TOPIC.encode()) + struct.pack(">ii", 4, turn)
        began = time.perf_counter()
        for connection, member in members:
            connection.send(join_frame(group, member, metadata))
        answers = [joined(connection.frame()) for connection, _ in members]
        leading = next(answer for answer in answers if answer[1] == answer[2])
        assignments = [
            (to, struct.pack(">hi", 0, 1) + text(TOPIC.encode()) + struct.pack(">iii", 1, at, -1))
            for at, to in enumerate(leading[3])]
        for slot, (generation, leader, member, _) in zip(members, answers):
            slot[1] = member
            slot[0].send(sync_frame(group, generation, member, assignments if member == leader else []))
        for connection, _ in members:
            if struct.unpack_from(">h", connection.frame(), 4)[0] != 0:
                raise RuntimeError("a SyncGroup was refused")
        times.append(time.perf_counter() - began)
    # The first waited for company.
    return sorted(times[1:])[rounds // 2]


def compact(value):
    """A compact string; `None` is null."""
    return b"\0" if value is None else bytes([len(value) + 1]) + value


def beat_frame(group, member, epoch, subscribes, owned):
    """ConsumerGroupHeartbeat 1; `owned` is the bytes of a topic id and its partitions, or None where nothing is new."""
    topics = b"\x02" + compact(TOPIC.encode()) if subscribes else b"\0"
    pattern = compact(b"") if subscribes else b"\0"
    timeout = 60_000 if subscribes else -1
    if owned is None:
        partitions = b"\0"
    elif not owned[1]:
        partitions = b"\x01"
    else:
        listed = b"".join(struct.pack(">i", at) for at in owned[1])
        partitions = b"\x02" + owned[0] + bytes([len(owned[1]) + 1]) + listed + b"\0"
    body = (b"\0" + compact(group) + compact(member) + struct.pack(">i", epoch) + b"\0\0" + struct.pack(">i", timeout)
            + topics + pattern + b"\0" + partitions + b"\0")
    return frame(BEAT, 1, body)


def beaten(answer):
    """Epoch, and the topic id and partitions that are given, or None where they are as before."""
    at = 1 + 4
    error = struct.unpack_from(">h", answer, at)[0]
    at += 2
    for _ in range(2):
        at += max(answer[at], 1)
    if error != 0:
        raise RuntimeError(f"ConsumerGroupHeartbeat: {error} {answer!r}")
    epoch = struct.unpack_from(">i", answer, at)[0]
    at += 8
    if struct.unpack_from(">b", answer, at)[0] < 0:
        return epoch, None
    topics, at = answer[at + 1] - 1, at + 2
    if topics == 0:
        return epoch, (None, [])
    topic, at = answer[at:at + 16], at + 16
    count, at = answer[at] - 1, at + 1
    return epoch, (topic, list(struct.unpack_from(f">{count}i", answer, at)))


def reconcile(bootstrap, rounds=ROUNDS):
    """The median time from a member's leaving and another's joining until 100 members, who beat without a pause, own
    100 partitions, one each, at the newest epoch."""
    group = b"reconciled-%d" % time.time_ns()
    coordinator(bootstrap, group)
    make = lambda number: {"connection": Connection(bootstrap), "id": b"member-%06d" % number, "epoch": 0, "owned": None, "told": None}
    members = [make(number) for number in range(MEMBERS)]
    times = []
    for turn in range(rounds + 1):
        began = time.perf_counter()
        if turn > 0:
            leaving = members.pop(0)
            leaving["connection"].ask(beat_frame(group, leaving["id"], -1, False, None))
            leaving["connection"].socket.close()
            members.append(make(MEMBERS + turn))
        while True:
            for member in members:
                joins = member["epoch"] == 0
                told = (None, []) if joins else member["told"]
                member["connection"].send(beat_frame(group, member["id"], member["epoch"], joins, told))
                member["told"] = None
            for member in members:
                member["epoch"], given = beaten(member["connection"].frame())
                if given is not None:
                    member["owned"] = member["told"] = given
            owned = sorted(at for member in members if member["owned"] for at in member["owned"][1])
            if owned == list(range(PARTITIONS)) and len({member["epoch"] for member in members}) == 1:
                break
        times.append(time.perf_counter() - began)
    # The first was a group being made.
    return sorted(times[1:])[rounds // 2]


if __name__ == "__main__":
    print({"commits": commits, "rebalance": rebalance, "reconcile": reconcile}[sys.argv[1]](sys.argv[2]))
