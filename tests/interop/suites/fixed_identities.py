"""Members with a fixed identity (KIP-345), by both protocols and with clients that are not ours.

What holds: a member that comes back has what it had, without a rebalance; of two with one identity only one goes on.
"""

import json
import subprocess
import threading

from harness import HERE, PEERS_HOME, Mismatch, expect, klamm_out, run_klamm, wait_until


class Member:
    """A member with a fixed identity, and what it has said last."""

    def __init__(self, kind, bootstrap, group, topic, instance):
        self.said = []
        command = [PEERS_HOME / "python/bin/python", HERE / "drivers/static_member.py", kind, bootstrap, group, topic, instance]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        threading.Thread(target=lambda: self.said.extend(map(str.strip, self.process.stdout)), daemon=True).start()

    def last(self):
        return self.said[-1] if self.said else ""

    def kill(self):
        self.process.kill()
        self.process.wait()


def statics(world, kind):
    bootstrap = world.shared().bootstrap
    topic = group = f"static-{kind}"
    klamm_out("topics", "create", topic, "-p", 4, "-b", bootstrap)
    running = []

    def member(instance):
        running.append(Member(kind, bootstrap, group, topic, instance))
        return running[-1]

    def described():
        return [json.loads(line) for line in run_klamm("groups", "members", group, "-b", bootstrap, "--json")[1].splitlines()]

    try:
        one, two = member("one"), member("two")
        share = lambda it: len(it.last().split()) == 3 and it.last().startswith("assigned")  # noqa: E731
        wait_until("two members with two partitions each", lambda: share(one) and share(two), 60)
        had, others = one.last(), len(two.said)
        one.kill()
        # Whoever left without a word keeps its place for the session's time; by the consumer protocol nobody else may have it.
        if kind != "confluent-consumer":
            back = member("one")
            wait_until("the member that came back", lambda: back.last() == had, 60)
            expect("assignments of the other one", len(two.said), others)
            twin = member("two")
            wait_until("the first of two to be fenced", lambda: two.last() == "fenced", 60)
            expect("what the second has", twin.last(), two.said[-2])
        else:
            twin = member("two")
            wait_until("the second of two to be refused", lambda: twin.last() == "fenced", 60)
            expect("what the first has", two.last().startswith("assigned"), True)
        expect("identities in the group", sorted(entry["instance"] for entry in described()), ["one", "two"])
    finally:
        for one in running:
            one.kill()


def cases(world, book):
    if not world.has("klamm"):
        raise Mismatch("there is no klamm to run: cargo build --release")
    for kind in ("confluent", "confluent-consumer", "kafka-python"):
        book.case(f"fixed identities, {kind}", statics, world, kind)
