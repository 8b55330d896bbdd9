"""Consumer groups of the new protocol (KIP-848) with Java's client, librdkafka and Kafka's tools: mixed, killed, upgraded and downgraded."""

import collections
import contextlib
import subprocess
import threading
import time

from harness import HERE, KAFKA, PEERS_HOME, Mismatch, expect, expect_in, wait_until

# Sessions and heartbeats shorter than Kafka's least, so that a killed member is missed soon.
SETTINGS = {
    "group.consumer.min.session.timeout.ms": 6000, "group.consumer.session.timeout.ms": 6000,
    "group.consumer.min.heartbeat.interval.ms": 500, "group.consumer.heartbeat.interval.ms": 500,
    "group.initial.rebalance.delay.ms": 0,
}
PARTITIONS = 6


class Members:
    """Members of groups in processes of their own, and what they have said."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.assigned = {}
        self.records = collections.Counter()
        self.said = []
        self.errors = []
        self.stopped = set()
        self.processes = {}
        self.jvm = None

    def listen(self, process):
        def pump():
            for line in process.stdout:
                if not line.endswith("\n"):
                    break  # killed in the middle of it
                name, kind, *words = line.split()
                if kind == "assigned":
                    self.assigned[name] = set(words)
                elif kind == "record":
                    self.records[(words[0], int(words[1]), int(words[2]))] += 1
                elif kind == "stopped":
                    self.stopped.add(name)
                    self.assigned.pop(name, None)
                elif kind == "error":
                    self.errors.append(line.strip())
                if kind != "record":
                    self.said.append(line.strip())
        threading.Thread(target=pump, daemon=True).start()

    def spawn(self, command):
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True)
        self.listen(process)
        return process

    def java(self, name, topic, **settings):
        if self.jvm is None:
            self.jvm = self.spawn([KAFKA, "java", HERE / "drivers/GroupMembers.java", self.bootstrap])
        self.tell(f"start {name} {topic} " + " ".join(f"{key.replace('_', '.')}={value}" for key, value in settings.items()))

    def tell(self, line):
        self.jvm.stdin.write(line + "\n")
        self.jvm.stdin.flush()

    def librdkafka(self, name, topic, **settings):
        pairs = [f"{key.replace('_', '.')}={value}" for key, value in settings.items()]
        command = [PEERS_HOME / "python/bin/python", HERE / "drivers/group_member.py", self.bootstrap, name, topic, *pairs]
        self.processes[name] = self.spawn(command)

    def stop(self, name):
        if name in self.processes:
            with contextlib.suppress(BrokenPipeError):
                self.processes[name].stdin.write("end\n")
                self.processes[name].stdin.flush()
        else:
            self.tell(f"stop {name}")
        wait_until(f"{name} to stop; said {self.said[-6:]}", lambda: name in self.stopped, 30)

    def kill(self, name):
        self.processes.pop(name).kill()
        self.assigned.pop(name, None)

    def settle(self, names, partitions, seconds=60):
        """Each partition has one owner among these, and each of them has some."""
        def settled():
            owned = [partition for name in names for partition in self.assigned.get(name, ())]
            return sorted(owned) == sorted(partitions) and all(self.assigned.get(name) for name in names)
        try:
            wait_until("", settled, seconds)
        except Mismatch:
            raise Mismatch(f"not settled within {seconds} s: {self.assigned}; said {self.said[-10:]}") from None

    def read_all(self, topic, ends, seconds=60):
        wanted = {(topic, partition, offset) for partition, end in enumerate(ends) for offset in range(end)}
        try:
            wait_until("", lambda: wanted <= set(self.records), seconds)
        except Mismatch:
            missing = sorted(wanted - set(self.records))
            raise Mismatch(f"{len(missing)} records not read: {missing[:5]}; {self.assigned}; said {self.said[-10:]}") from None

    def close(self):
        for process in [*self.processes.values(), *([self.jvm] if self.jvm else [])]:
            process.kill()


@contextlib.contextmanager
def group_of(bootstrap):
    members = Members(bootstrap)
    try:
        yield members
    finally:
        members.close()


class Source:
    """Sends numbered records to all partitions of a topic in the background."""

    def __init__(self, bootstrap, topic, partitions=PARTITIONS):
        command = [PEERS_HOME / "python/bin/python", HERE / "drivers/steady_producer.py", bootstrap, topic, str(partitions)]
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.ends = [0] * partitions
        threading.Thread(target=self.pump, daemon=True).start()

    def pump(self):
        for line in self.process.stdout:
            words = line.split()
            if words[0].isdigit():
                self.ends[int(words[0])] = max(self.ends[int(words[0])], int(words[1]) + 1)

    def end(self):
        self.process.stdin.write("end\n")
        self.process.stdin.flush()
        self.process.wait(60)
        time.sleep(0.2)
        return self.ends


def names(topic, count=PARTITIONS):
    return [f"{topic}-{partition}" for partition in range(count)]


def create(tools, bootstrap, topic, partitions=PARTITIONS):
    tools.out("topics", "--bootstrap-server", bootstrap, "--create", "--topic", topic, "--partitions", partitions)


def once(members):
    twice = {place: count for place, count in members.records.items() if count > 1}
    expect("records read more than once", len(twice), 0)
    expect("errors", members.errors, [])


def console(tools, bootstrap):
    create(tools, bootstrap, "console", 3)
    to = ("--bootstrap-server", bootstrap)
    tools.out("console-producer", *to, "--topic", "console", given="".join(f"line {i}\n" for i in range(300)))
    out = tools.out("console-consumer", *to, "--topic", "console", "--from-beginning", "--max-messages", 300, "--timeout-ms", 30000,
                    "--group", "g-console", "--command-property", "group.protocol=consumer")
    expect("lines", sorted(out.splitlines()), sorted(f"line {i}" for i in range(300)))
    listed = tools.out("consumer-groups", *to, "--list", "--type", "consumer")
    expect_in("list --type consumer", "g-console", listed.split())
    expect("list --type classic", "g-console" in tools.out("consumer-groups", *to, "--list", "--type", "classic").split(), False)
    expect_in("list --state", "Empty", tools.out("consumer-groups", *to, "--list", "--state"))
    described = tools.out("consumer-groups", *to, "--describe", "--group", "g-console")
    lags = [line.split()[5] for line in described.splitlines() if line.startswith("g-console")]
    expect("lags", lags, ["0", "0", "0"])


def mixed(tools, bootstrap):
    create(tools, bootstrap, "mixed")
    to = ("--bootstrap-server", bootstrap)
    settings = {"group_id": "g-mixed", "group_protocol": "consumer"}
    with group_of(bootstrap) as members:
        source = Source(bootstrap, "mixed")
        members.java("j1", "mixed", **settings)
        members.settle(["j1"], names("mixed"))
        members.librdkafka("r1", "mixed", **settings)
        members.settle(["j1", "r1"], names("mixed"))
        members.java("j2", "mixed", **settings, group_remote_assignor="range")
        members.settle(["j1", "r1", "j2"], names("mixed"))
        described = tools.out("consumer-groups", *to, "--describe", "--group", "g-mixed", "--members", "--verbose")
        lines = [line.split() for line in described.splitlines() if line.startswith("g-mixed")]
        expect("members", len(lines), 3)
        expect_in("columns", "TARGET-ASSIGNMENT", described)
        # The members have their partitions before the coordinator has heard that they do.
        state = lambda: tools.out("consumer-groups", *to, "--describe", "--group", "g-mixed", "--state", "--verbose")
        wait_until("the group is Stable", lambda: "Stable" in state())
        members.stop("j1")
        members.settle(["r1", "j2"], names("mixed"))
        tools.out("topics", *to, "--alter", "--topic", "mixed", "--partitions", PARTITIONS + 2)
        members.settle(["r1", "j2"], names("mixed", PARTITIONS + 2))
        ends = source.end()
        members.read_all("mixed", ends)
        members.stop("r1")
        members.stop("j2")
        once(members)
    described = tools.out("consumer-groups", *to, "--describe", "--group", "g-mixed", "--state")
    expect_in("state at the end", "Empty", described)
    tools.out("consumer-groups", *to, "--delete", "--group", "g-mixed")
    return sum(ends)


def patterns(tools, bootstrap):
    create(tools, bootstrap, "pattern.a", 2)
    create(tools, bootstrap, "pattern-b", 2)
    with group_of(bootstrap) as members:
        settings = {"group_id": "g-pattern", "group_protocol": "consumer"}
        members.java("j1", "/pattern\\..*/", **settings)
        members.settle(["j1"], names("pattern.a", 2))
        members.librdkafka("r1", "^pattern[.-].*", **settings)
        members.settle(["j1", "r1"], names("pattern.a", 2) + names("pattern-b", 2))
        create(tools, bootstrap, "pattern.c", 1)
        members.settle(["j1", "r1"], names("pattern.a", 2) + names("pattern-b", 2) + names("pattern.c", 1))
        tools.out("topics", "--bootstrap-server", bootstrap, "--delete", "--topic", "pattern-b")
        members.settle(["j1", "r1"], names("pattern.a", 2) + names("pattern.c", 1))
        members.stop("j1")
        members.stop("r1")


def statics(tools, bootstrap):
    create(tools, bootstrap, "static", 4)
    settings = {"group_id": "g-static", "group_protocol": "consumer"}
    with group_of(bootstrap) as members:
        members.java("j1", "static", **settings, group_instance_id="one")
        members.java("j2", "static", **settings, group_instance_id="two")
        members.settle(["j1", "j2"], names("static", 4))
        before = members.assigned["j1"]
        members.stop("j1")
        members.java("j1-again", "static", **settings, group_instance_id="one")
        members.settle(["j1-again", "j2"], names("static", 4))
        expect("what the static member got back", members.assigned["j1-again"], before)
        members.java("j2-twin", "static", **settings, group_instance_id="two")
        wait_until("the twin to be refused", lambda: any("j2-twin error" in error for error in members.errors))
        expect_in("the twin's error", "UnreleasedInstanceId", members.errors[0])


def rolling_kills(tools, bootstrap):
    create(tools, bootstrap, "killed")
    settings = {"group_id": "g-killed", "group_protocol": "consumer"}
    with group_of(bootstrap) as members:
        source = Source(bootstrap, "killed")
        alive = [f"r{i}" for i in range(3)]
        for name in alive:
            members.librdkafka(name, "killed", **settings)
        members.settle(alive, names("killed"))
        for turn in range(3):
            members.kill(alive.pop(0))
            alive.append(f"r{turn + 3}")
            members.librdkafka(alive[-1], "killed", **settings)
            members.settle(alive, names("killed"))
        ends = source.end()
        members.read_all("killed", ends)
        expect("errors", members.errors, [])
    return sum(ends)


def restarts(world, tools, broker):
    """The broker is killed under its members: nothing is lost, and commits are still there."""
    bootstrap = broker.bootstrap
    create(tools, bootstrap, "restarted")
    settings = {"group_id": "g-restarted", "group_protocol": "consumer"}
    with group_of(bootstrap) as members:
        source = Source(bootstrap, "restarted")
        members.java("j1", "restarted", **settings)
        members.librdkafka("r1", "restarted", **settings)
        members.settle(["j1", "r1"], names("restarted"))
        wait_until("records", lambda: len(members.records) > 200)
        broker.kill()
        broker = start(world, broker.directory, int(bootstrap.rsplit(":", 1)[1]))
        before = len(members.records)
        wait_until("records after the restart", lambda: len(members.records) > before + 200, 60)
        members.settle(["j1", "r1"], names("restarted"))
        ends = source.end()
        members.read_all("restarted", ends)
        members.stop("j1")
        members.stop("r1")
    described = tools.out("consumer-groups", "--bootstrap-server", bootstrap, "--describe", "--group", "g-restarted")
    lags = [line.split()[5] for line in described.splitlines() if line.startswith("g-restarted")]
    expect("lags", set(lags), {"0"})


def conversions(tools, bootstrap):
    """Members of both protocols come and go: the group is upgraded under them and downgraded again."""
    create(tools, bootstrap, "converted")
    to = ("--bootstrap-server", bootstrap)
    new = {"group_id": "g-converted", "group_protocol": "consumer"}
    strategy = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"
    old = {"group_id": "g-converted", "group_protocol": "classic", "partition_assignment_strategy": strategy,
           "heartbeat_interval_ms": 500, "session_timeout_ms": 6000}

    def kind():
        for of in ("classic", "consumer"):
            if "g-converted" in tools.out("consumer-groups", *to, "--list", "--type", of).split():
                return of
        return None

    with group_of(bootstrap) as members:
        source = Source(bootstrap, "converted")
        members.java("c1", "converted", **old)
        members.java("c2", "converted", **old)
        members.settle(["c1", "c2"], names("converted"))
        expect("type", kind(), "classic")
        members.java("n1", "converted", **new)
        members.settle(["c1", "c2", "n1"], names("converted"))
        expect("type after the first new member", kind(), "consumer")
        members.stop("c1")
        members.settle(["c2", "n1"], names("converted"))
        members.java("n2", "converted", **new)
        members.settle(["c2", "n1", "n2"], names("converted"))
        members.stop("c2")
        members.settle(["n1", "n2"], names("converted"))
        expect("type of new members alone", kind(), "consumer")
        members.java("c3", "converted", **old)
        members.settle(["c3", "n1", "n2"], names("converted"))
        members.stop("n1")
        members.settle(["c3", "n2"], names("converted"))
        members.stop("n2")
        members.settle(["c3"], names("converted"))
        expect("type after the last new member", kind(), "classic")
        ends = source.end()
        members.read_all("converted", ends)
        members.stop("c3")
        once(members)
    return sum(ends)


def start(world, directory, port=0):
    from harness import BROKERS

    args = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    broker = BROKERS[world.target](directory, *args, port=port)
    world.running.append(broker)
    return broker


def cases(world, book):
    tools = world.tools()
    broker = start(world, world.folder / "groups848")
    bootstrap = broker.bootstrap
    book.case("the console consumer and consumer-groups", console, tools, bootstrap)
    book.case("Java and librdkafka share a group, each record once", mixed, tools, bootstrap)
    book.case("patterns follow topics that come and go", patterns, tools, bootstrap)
    book.case("static members keep their partitions; a twin is refused", statics, tools, bootstrap)
    book.case("groups are upgraded and downgraded under members, each record once", conversions, tools, bootstrap)
    book.case("members killed in turn lose nothing", rolling_kills, tools, bootstrap)
    book.case("the broker killed under its members", restarts, world, tools, broker)
