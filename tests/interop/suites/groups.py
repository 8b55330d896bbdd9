"""Consumer groups: clients alone and mixed in one group, killed and restarted, both protocols, and Kafka's own tool."""

import os
import re
import signal
import subprocess
import threading
import time

from harness import (BROKERS, HERE, KAFKA, PEERS_HOME, KafkaBroker, KlammBroker, Mismatch, expect, expect_in, free_ports, klamm_out,
                     wait_until)

PARTITIONS = 8
CLASSIC = ("kcat", "confluent", "kafka-python", "kafkajs", "java")
CONSUMER = ("confluent-consumer", "java-consumer")


class Member:
    """One process in a group, and the records it has printed."""

    def __init__(self, world, kind, bootstrap, group, topic):
        self.kind = kind
        self.records = []
        env = {**os.environ, "NODE_HOME": str(PEERS_HOME / "node"), "KAFKAJS_NO_PARTITIONER_WARNING": "1"}
        self.process = subprocess.Popen(
            command(kind, bootstrap, group, topic), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True, env=env)
        world.running.append(self)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            found = re.findall(r"\d+", line)
            if len(found) >= 2:
                self.records.append((int(found[0]), int(found[1])))

    def signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Leaves in order."""
        self.signal(signal.SIGINT if self.kind == "kcat" else signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Mismatch(f"{self.kind} did not leave within 20 s") from None


def command(kind, bootstrap, group, topic):
    if kind == "kcat":
        settings = ("auto.offset.reset=earliest", "auto.commit.interval.ms=300", "session.timeout.ms=6000")
        options = [word for setting in settings for word in ("-X", setting)]
        return ["kcat", "-q", "-u", "-b", bootstrap, *options, "-f", "%p %o\n", "-G", group, topic]
    if kind == "kafkajs":
        return ["node", HERE / "drivers/plain_member.mjs", bootstrap, group, topic]
    if kind.startswith("java"):
        own = ["group.protocol=consumer"] if kind == "java-consumer" else ["session.timeout.ms=6000", "heartbeat.interval.ms=1000"]
        settings = [word for setting in (*own, "auto.commit.interval.ms=300") for word in ("--command-property", setting)]
        shown = [word for name in ("partition", "offset") for word in ("--formatter-property", f"print.{name}=true")]
        return [KAFKA, "tool", "console-consumer", "--bootstrap-server", bootstrap, "--topic", topic, "--group", group,
                "--from-beginning", *settings, *shown, "--formatter-property", "print.value=false"]
    return [PEERS_HOME / "python/bin/python", HERE / "drivers/plain_member.py", kind, bootstrap, group, topic]


def produce(bootstrap, topic, count, first=0):
    """Numbered records, spread over the partitions in turn."""
    for partition in range(PARTITIONS):
        lines = "".join(f"{number}\n" for number in range(first, first + count) if number % PARTITIONS == partition)
        subprocess.run(["kcat", "-P", "-q", "-b", bootstrap, "-t", topic, "-p", str(partition)], input=lines, text=True, check=True)


def described(world, bootstrap, group, *what):
    return world.tools().run("consumer-groups", "--bootstrap-server", bootstrap, "--describe", "--group", group, *what)[1]


def committed(world, bootstrap, group):
    lines = [line.split() for line in described(world, bootstrap, group).splitlines() if line.startswith(group + " ")]
    return sum(int(line[3]) for line in lines if line[3] != "-")


def create(world, bootstrap, topic):
    world.tools().out("topics", "--bootstrap-server", bootstrap, "--create", "--topic", topic, "--partitions", PARTITIONS)


def expected(count):
    return sorted((partition, offset) for partition in range(PARTITIONS) for offset in range(count // PARTITIONS))


def gather(members):
    return sorted(record for member in members for record in member.records)


def everything_once(members, count):
    wait_until(f"{count} records", lambda: len(gather(members)) >= count, 60)
    expect("each record once", gather(members), expected(count))


def alone(world, bootstrap, kind):
    topic = group = f"alone-{kind}"
    create(world, bootstrap, topic)
    produce(bootstrap, topic, 400)
    member = Member(world, kind, bootstrap, group, topic)
    everything_once([member], 400)
    # All commit by time, too: the one that a member makes as it is told to end is not what is looked at here.
    wait_until("its commits", lambda: committed(world, bootstrap, group) == 400, 30)
    member.stop()
    expect("committed", committed(world, bootstrap, group), 400)


def together(world, bootstrap, kinds, group):
    """All are in the group before the first record is there: nobody reads a record twice."""
    create(world, bootstrap, group)
    members = [Member(world, kind, bootstrap, group, group) for kind in kinds]
    wait_until("all members", lambda: f" Stable {len(kinds)}" in re.sub(r"\s+", " ", described(world, bootstrap, group, "--state")), 60)
    produce(bootstrap, group, 1600)
    everything_once(members, 1600)
    silent = [member.kind for member in members if not member.records]
    expect("members without a record", silent, [])
    wait_until("their commits", lambda: committed(world, bootstrap, group) == 1600, 30)
    for member in members:
        member.stop()
    expect("committed", committed(world, bootstrap, group), 1600)


def rolling(world, kinds, group):
    """kill -9 of members and of the broker: every record is delivered at least once, and commits survive."""
    port = free_ports(2)
    make = BROKERS[world.target]
    broker = make(world.folder / group, port=port)
    world.running.append(broker)
    bootstrap = broker.bootstrap
    create(world, bootstrap, group)
    members = [Member(world, kind, bootstrap, group, group) for kind in kinds]
    dead = []
    for turn in range(len(kinds)):
        produce(bootstrap, group, 400, turn * 400)
        time.sleep(1.5)
        victim = members.pop(0)
        victim.kill()
        dead.append(victim)
        members.append(Member(world, victim.kind, bootstrap, group, group))
        if turn == 1:
            broker.kill()
            broker = make(world.folder / group, port=port)
            world.running.append(broker)
    count = 400 * len(kinds)
    wait_until("every record", lambda: set(gather(members + dead)) >= set(expected(count)), 90)
    wait_until("all commits", lambda: committed(world, bootstrap, group) == count, 30)
    for member in members:
        member.stop()
    broker.stop()
    broker = make(world.folder / group, port=port)
    world.running.append(broker)
    expect("committed, after a restart", committed(world, bootstrap, group), count)
    broker.stop()


def migrated(world, bootstrap):
    """Members of both protocols in one group, which moves there and back while they run."""
    group = "migrated"
    create(world, bootstrap, group)
    produce(bootstrap, group, 400)
    old = Member(world, "java", bootstrap, group, group)
    wait_until("the classic member", lambda: len(old.records) >= 400, 60)
    new = Member(world, "java-consumer", bootstrap, group, group)
    kind = lambda: re.sub(r"\s+", " ", world.tools().out("consumer-groups", "--bootstrap-server", bootstrap, "--list", "--type"))
    wait_until("the group is of the new protocol", lambda: f"{group} Consumer" in kind(), 60)
    wait_until("both are in it", lambda: f" Stable" in described(world, bootstrap, group, "--state") and
               len([line for line in described(world, bootstrap, group, "--members").splitlines() if line.startswith(group)]) == 2, 60)
    produce(bootstrap, group, 400, 400)
    wait_until("records after the move", lambda: set(gather([old, new])) >= set(expected(800)), 60)
    new.stop()
    wait_until("the group is classic again", lambda: f"{group} Classic" in kind(), 60)
    produce(bootstrap, group, 400, 800)
    wait_until("records after the way back", lambda: set(gather([old, new])) >= set(expected(1200)), 60)
    old.stop()


def tool(world, bootstrap):
    """kafka-consumer-groups in full."""
    tools, to = world.tools(), ("--bootstrap-server", bootstrap)
    topic = group = "managed-group"
    groups = lambda *args: tools.out("consumer-groups", *to, *args)
    offsets = lambda: {int(line.split()[2]): int(line.split()[3]) for line in described(world, bootstrap, group).splitlines() if line.startswith(group + " ")}
    create(world, bootstrap, topic)
    produce(bootstrap, topic, 800)
    member = Member(world, "java", bootstrap, group, topic)
    wait_until("800 records", lambda: len(member.records) >= 800, 60)
    expect_in("list", group, groups("--list").split())
    expect_in("list --state", f"{group} Stable", re.sub(r" +", " ", groups("--list", "--state")))
    members = groups("--describe", "--group", group, "--members", "--verbose")
    expect_in("members: the assignment", "managed-group:0,1,2,3,4,5,6,7", members)
    expect_in("members: the client", "console-consumer", members)
    expect_in("state", "range", groups("--describe", "--group", group, "--state"))
    expect_in("offsets", "LEADER-EPOCH", groups("--describe", "--group", group, "--offsets", "--verbose"))
    busy = tools.run("consumer-groups", *to, "--delete", "--group", group)
    expect_in("deleting a busy group", "GroupNotEmptyException", busy[1] + busy[2])
    busy = tools.run("consumer-groups", *to, "--reset-offsets", "--to-earliest", "--group", group, "--all-topics", "--execute")
    expect_in("resetting a busy group", "inactive", busy[1] + busy[2])
    member.stop()
    wait_until("the member is gone", lambda: "Empty" in groups("--describe", "--group", group, "--state"), 90)
    reset = lambda *how: groups("--reset-offsets", "--group", group, "--topic", topic, *how)
    reset("--to-earliest", "--dry-run")
    expect("a dry run changes nothing", set(offsets().values()), {100})
    forms = [(("--to-earliest",), 0), (("--to-latest",), 100), (("--to-offset", 40), 40), (("--shift-by", -15), 25),
             (("--to-current",), 25), (("--by-duration", "PT1H"), 0), (("--to-datetime", "2100-01-01T00:00:00.000"), 100)]
    for how, offset in forms:
        reset(*how, "--execute")
        expect(f"after {how[0]}", set(offsets().values()), {offset})
    one = groups("--reset-offsets", "--group", group, "--topic", f"{topic}:0,1", "--to-offset", 7, "--export", "--dry-run")
    plan = world.folder / "offsets.csv"
    plan.write_text("\n".join(line for line in one.splitlines() if line.count(",") == 2) + "\n")
    groups("--reset-offsets", "--group", group, "--from-file", plan, "--execute")
    expect("after --from-file", [offsets()[at] for at in (0, 1, 2)], [7, 7, 100])
    groups("--delete-offsets", "--group", group, "--topic", f"{topic}:0")
    expect("after --delete-offsets", 0 in offsets(), False)
    expect_in("delete", "successful", groups("--delete", "--group", group))
    expect("list after delete", group in groups("--list").split(), False)
    code, out, err = tools.run("consumer-groups", *to, "--delete", "--group", "no-such-group")
    expect_in("deleting what is not there", "GroupIdNotFound", out + err)


def settings(world, bootstrap):
    """A group's own settings."""
    tools, to = world.tools(), ("--bootstrap-server", bootstrap)
    entity = ("--entity-type", "groups", "--entity-name", "configured-group")
    tools.out("configs", *to, "--alter", *entity, "--add-config", "consumer.session.timeout.ms=50000")
    shown = tools.out("configs", *to, "--describe", *entity)
    expect_in("describe", "consumer.session.timeout.ms=50000", shown)
    code, out, err = tools.run("configs", *to, "--alter", *entity, "--add-config", "consumer.session.timeout.ms=1000")
    expect("below the broker's least: exit code", code, 1)
    expect_in("below the broker's least", "group.consumer.min.session.timeout.ms", out + err)
    tools.out("configs", *to, "--alter", *entity, "--delete-config", "consumer.session.timeout.ms")


def taken_over(world):
    """Kafka reads what klamm wrote of groups, line by line and as their coordinator, and klamm what Kafka wrote."""
    folder = world.folder / "groups-taken-over"
    folder.mkdir()
    kinds = {"classic-group": "confluent", "new-group": "confluent-consumer"}

    def consumed(broker, total):
        for group, kind in kinds.items():
            member = Member(world, kind, broker.bootstrap, group, "taken")
            wait_until(f"what is new to {group}", lambda: len(member.records) >= 400, 60)
            wait_until("its commits", lambda: committed(world, broker.bootstrap, group) == total, 30)
            member.stop()

    klamm = KlammBroker(folder / "1")
    world.running.append(klamm)
    create(world, klamm.bootstrap, "taken")
    produce(klamm.bootstrap, "taken", 400)
    consumed(klamm, 400)
    klamm.stop()
    lines = 0
    for log in sorted((folder / "1").glob("__consumer_offsets-*/*.log")):
        if log.stat().st_size:
            theirs = world.tools().out("dump-log", "--files", log, "--offsets-decoder", "--print-data-log")
            ours = klamm_out("dump-segment", "--offsets-decoder", "--print-data-log", log).decode()
            expect(f"{log.parent.name}, decoded", ours.splitlines(), theirs.splitlines())
            lines += theirs.count("payload:")
    expect("records were decoded", lines > 20, True)
    kafka = KafkaBroker(folder, "--standalone", "--adopt")
    world.running.append(kafka)
    for group in kinds:
        wait_until(f"{group} in Kafka", lambda: committed(world, kafka.bootstrap, group) == 400, 30)
    produce(kafka.bootstrap, "taken", 400, 400)
    consumed(kafka, 800)
    kafka.stop()
    klamm = KlammBroker(folder / "1")
    world.running.append(klamm)
    for group in kinds:
        expect(f"{group} in klamm again", committed(world, klamm.bootstrap, group), 800)
    listed = re.sub(r"\s+", " ", world.tools().out("consumer-groups", "--bootstrap-server", klamm.bootstrap, "--list", "--type"))
    expect_in("types", "classic-group Classic", listed)
    expect_in("types", "new-group Consumer", listed)
    klamm.stop()


def cases(world, book):
    bootstrap = world.shared().bootstrap
    for kind in CLASSIC + CONSUMER:
        book.case(f"{kind} alone", alone, world, bootstrap, kind)
    book.case("five clients in one classic group", together, world, bootstrap, CLASSIC, "mixed")
    book.case("two clients in one consumer group", together, world, bootstrap, CONSUMER, "new")
    book.case("kafka-consumer-groups in full", tool, world, bootstrap)
    book.case("a group's own settings", settings, world, bootstrap)
    book.case("a group moves between the protocols", migrated, world, bootstrap)
    if world.target == "klamm":
        book.case("a directory with groups goes to Kafka and back", taken_over, world)
    book.case("killed members and brokers, classic", rolling, world, ("confluent", "kcat", "kafka-python"), "rolling")
    book.case("killed members and brokers, consumer protocol", rolling, world, ("confluent-consumer", "java-consumer"), "rolling-new")
