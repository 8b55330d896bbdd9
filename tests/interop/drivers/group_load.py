"""Load on a group coordinator with frames encoded beforehand: commits of offsets, and rebalances of a large group.

    group_load.py commits|rebalance BOOTSTRAP        prints one number: commits a second, seconds a rebalance
"""

import socket
import struct
import sys
import time

TOPIC, PARTITIONS, MEMBERS = "group-load", 100, 100
COMMIT, FIND, JOIN, SYNC = 8, 10, 11, 14


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


def commits(bootstrap, connections=8, count=4000, depth=32):
    """Each connection commits for a group of its own, `depth` requests under way."""
    loads = []
    for number in range(connections):
        group = b"load-%d-%d" % (number, time.time_ns())
        coordinator(bootstrap, group)
        connection = Connection(bootstrap)
        while struct.unpack_from(">h", connection.ask(commit_frame(group, 0))[-2:])[0] != 0:
            time.sleep(0.1)
        loads.append((connection, commit_frame(group, 7) * depth))
    began = time.perf_counter()
    for _ in range(count // depth):
        for connection, data in loads:
            connection.send(data)
        for connection, data in loads:
            for _ in range(depth):
                if connection.frame()[-2:] != b"\0\0":
                    raise RuntimeError("a commit was refused")
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


def rebalance(bootstrap, rounds=20):
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
                raise RuntimeError("SyncGroup was refused")
        times.append(time.perf_counter() - began)
    # The first waited for company.
    return sorted(times[1:])[rounds // 2]


if __name__ == "__main__":
    print({"commits": commits, "rebalance": rebalance}[sys.argv[1]](sys.argv[2]))
