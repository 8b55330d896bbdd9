"""Our consumer and our groups commands, against Apache Kafka and against klamm: alone, and in one group with kcat and Java.

What holds: every record at least once, exactly once where nothing was killed; commits survive the broker's restart;
what kafka-consumer-groups says of a group is what ours says.
"""

import collections
import json
import os
import signal
import subprocess
import threading
import time

from harness import KAFKA, Mismatch, expect, expect_in, klamm, klamm_out, run_klamm, wait_until

RECORDS = 6_000
COOPERATIVE = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"


class Members:
    """Processes in one group that print `partition offset` of what they read."""

    def __init__(self, bootstrap, topic, group):
        self.bootstrap, self.topic, self.group = bootstrap, topic, group
        self.seen = collections.Counter()
        self.running = []

    def start(self, kind, *options):
        command = getattr(self, kind)(options)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        thread = threading.Thread(target=self.pump, args=(process.stdout,), daemon=True)
        thread.start()
        self.running.append((process, thread))
        return process

    def pump(self, stream):
        for line in stream:
            words = line.replace(b"Partition:", b"").replace(b"Offset:", b"").split()
            if len(words) == 3:
                self.seen[(words[0], words[1])] += 1

    def klamm(self, options):
        return [klamm(), "consume", self.topic, "-b", self.bootstrap, "-g", self.group, "-u", "-f", "%p %o %s\\n",
                *[word for option in options for word in ("-X", option)]]

    def kcat(self, options):
        settings = [word for option in ("auto.offset.reset=earliest", *options) for word in ("-X", option)]
        return ["kcat", "-b", self.bootstrap, "-G", self.group, "-u", "-q", *settings, "-f", "%p %o %s\n", self.topic]

    def java(self, options):
        settings = [word for option in options for word in ("--command-property", option)]
        return [KAFKA, "tool", "console-consumer", "--bootstrap-server", self.bootstrap, "--topic", self.topic,
                "--group", self.group, "--from-beginning", "--formatter-property", "print.partition=true",
                "--formatter-property", "print.offset=true", *settings]

    def stop(self, process, how=signal.SIGTERM):
        if process.poll() is None:
            os.killpg(process.pid, how)
        for other, thread in self.running:
            if other is process:
                process.wait(60)
                thread.join(60)
        return process.returncode

    def close(self):
        for process, _ in self.running:
            self.stop(process)


def produce_slowly(bootstrap, topic):
    """Records that keep coming while members come and go."""
    def run():
        for first in range(0, RECORDS, 200):
            klamm_out("produce", topic, "-b", bootstrap, "-K", ":",
                      given=b"".join(b"%d:%d\n" % (i, i) for i in range(first, first + 200)))
            time.sleep(0.2)
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def members_in(bootstrap, group):
    _, out, _ = run_klamm("groups", "members", group, "-b", bootstrap, "--json")
    return len(out.splitlines())


def rolling(bootstrap, topic, options=(), others=(), killed=False):
    """Members that join, leave and are killed while records come."""
    klamm_out("topics", "create", topic, "-p", 6, "-b", bootstrap)
    members = Members(bootstrap, topic, f"{topic}-group")
    try:
        producer = produce_slowly(bootstrap, topic)
        first = members.start("klamm", *options)
        second = members.start("klamm", *options)
        wait_until("two members", lambda: members_in(bootstrap, members.group) == 2, 60)
        for kind, settings in others:
            members.start(kind, *settings)
        wait_until("all members", lambda: members_in(bootstrap, members.group) == 2 + len(others), 90)
        expect("SIGINT leaves with", members.stop(first, signal.SIGINT), 130)
        third = members.start("klamm", *options)
        if killed:
            members.stop(second, signal.SIGKILL)
        members.start("klamm", *options)
        producer.join()
        wait_until(f"{RECORDS} records", lambda: len(members.seen) >= RECORDS, 120)
        # On a busy machine everything may be read before the last ones are there.
        wait_until("the third and the fourth", lambda: members_in(bootstrap, members.group) >= 2 + len(others) + (not killed), 90)
        expect("SIGTERM leaves with", members.stop(third), 0)
    finally:
        members.close()
    twice = sum(1 for times in members.seen.values() if times > 1)
    if twice and not killed:
        raise Mismatch(f"{twice} of {RECORDS} records came twice, and nobody was killed")
    lag = klamm_out("groups", "lag", members.group, "-b", bootstrap, "--total", "--json")
    if not others:
        expect("lag at the end", json.loads(lag)["lag"], 0)


def same_words(world, bootstrap, topic):
    """kafka-consumer-groups and ours say the same, and each reads the other's files."""
    group = f"{topic}-group"
    klamm_out("topics", "create", topic, "-p", 2, "-b", bootstrap)
    klamm_out("produce", topic, "-b", bootstrap, "-K", ":", given=b"".join(b"%d:x\n" % i for i in range(100)))
    klamm_out("consume", topic, "-g", group, "-c", 60, "-b", bootstrap)
    tool = lambda *args: subprocess.run(  # noqa: E731
        [KAFKA, "tool", "consumer-groups", "--bootstrap-server", bootstrap, *args], capture_output=True, text=True).stdout
    theirs = [line.split() for line in tool("--describe", "--group", group).splitlines() if line.startswith(group)]
    ours = [json.loads(line) for line in klamm_out("groups", "lag", group, "-b", bootstrap, "--json").splitlines()]
    expect("current, end, lag", sorted((w[1], int(w[2]), int(w[3]), int(w[4]), int(w[5])) for w in theirs),
           sorted((r["topic"], r["partition"], r["current"], r["end"], r["lag"]) for r in ours))
    saved = world.folder / f"{topic}.csv"
    saved.write_bytes(klamm_out("groups", "export", group, "--csv", "-b", bootstrap))
    tool("--group", group, "--reset-offsets", "--all-topics", "--to-earliest", "--execute")
    expect("lag after their reset", json.loads(klamm_out("groups", "lag", group, "-b", bootstrap, "--total", "--json"))["lag"], 100)
    expect_in("their view of our file", topic, tool("--group", group, "--reset-offsets", "--from-file", str(saved), "--execute"))
    expect("lag after our file in their hands", json.loads(klamm_out("groups", "lag", group, "-b", bootstrap, "--total", "--json"))["lag"], 40)


def survives_a_restart(world, kind):
    broker = world.broker(kind, name=f"restarted-{kind}")
    to = ("-b", broker.bootstrap)
    klamm_out("produce", "kept", *to, given=b"a\nb\nc\n")
    klamm_out("consume", "kept", "-g", "g", "-c", 2, *to)
    broker.kill()
    broker = world.broker(kind, name=f"restarted-{kind}")
    expect("what is left", klamm_out("consume", "kept", "-g", "g", "-e", "-b", broker.bootstrap), b"c\n")


def cases(world, book):
    if not world.has("klamm"):
        raise Mismatch("there is no klamm to run: cargo build --release")
    for kind in dict.fromkeys(("kafka", world.target)):
        bootstrap = world.shared(kind).bootstrap
        cooperative = "partition.assignment.strategy=cooperative-sticky"
        quick = "session.timeout.ms=6000"
        case = lambda name, *args, **named: book.case(f"against {kind}: {name}", *args, **named)  # noqa: E731
        case("members come and go, range", rolling, bootstrap, "rolled-range")
        case("members come and go, cooperative-sticky", rolling, bootstrap, "rolled-cooperative", (cooperative,))
        case("members come and go, KIP-848", rolling, bootstrap, "rolled-848", ("group.protocol=consumer",))
        case("members are killed", rolling, bootstrap, "rolled-killed", (quick,), killed=True)
        case("with kcat and Java", rolling, bootstrap, "rolled-mixed", others=(("kcat", ()), ("java", ())))
        case("with kcat and Java, cooperative-sticky", rolling, bootstrap, "rolled-mixed-cooperative", (cooperative,),
             (("kcat", (cooperative,)), ("java", (f"partition.assignment.strategy={COOPERATIVE}",))))
        case("in the words of kafka-consumer-groups", same_words, world, bootstrap, "worded")
        case("commits survive a restart", survives_a_restart, world, kind)
