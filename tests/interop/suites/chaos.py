"""A cluster of real processes that are killed, stopped, cut off from each other, filled up and wiped while clients
work. Nothing that was acknowledged with acks=all is lost, doubled or out of order; readers see one log; commits never
go back; in the end all replicas hold the same bytes, and `klamm verify` finds nothing.

The plan of faults follows from a seed, which is printed. For a longer run:

    SEED=7                the plan of an earlier run
    CHAOS_FAULTS=100      faults of the first case
    CHAOS_KINDS=wipe,kill only these kinds of them
    CHAOS_ROUNDS=10       rounds of reassignments of the second
    CHAOS_RECORDS=1000000 go on, with further faults, until so many records are acknowledged
    CHAOS_RATE=2500       records a second of each of the producers
    CHAOS_KEEP=DIR        leave all directories and logs there
"""

import collections
import contextlib
import os
import random
import shutil
import subprocess
import threading
import time
from pathlib import Path

import history
from harness import HERE, PEERS_HOME, Mismatch, klamm, run_klamm, shorten, tail, wait_until
from history import History, value
from nodes import CLIENTS, PATIENCE, Cluster

TOPIC = "stormy"
KLAMM_PRODUCER = 9
PYTHON_PRODUCERS = {1: (), 2: ("compression.codec=lz4", "linger.ms=20"), 3: ("compression.codec=zstd", "batch.num.messages=50")}
SETTINGS = ["min.insync.replicas=2", "default.replication.factor=3", "offsets.topic.num.partitions=4", "replica.lag.time.max.ms=5000",
            "group.initial.rebalance.delay.ms=500", "log.retention.check.interval.ms=10000"]
FAULTS = int(os.environ.get("CHAOS_FAULTS", 9))
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", 1))
RECORDS = int(os.environ.get("CHAOS_RECORDS", 0))
RATE = os.environ.get("CHAOS_RATE", "500")


class Clients:
    """Processes among the clients, each with a file of what it saw."""

    def __init__(self, cluster, partitions):
        self.cluster, self.partitions = cluster, partitions
        self.folder = cluster.folder / "clients"
        self.folder.mkdir()
        self.running = {}
        self.titles = []
        self.locked_up = []

    def spawn(self, title, words):
        self.titles.append(title)
        with open(self.folder / title, "wb") as seen, open(self.folder / f"{title}.err", "wb") as talk:
            self.running[title] = subprocess.Popen([*self.cluster.network.inside(CLIENTS), *map(str, words)], stdin=subprocess.PIPE,
                                                   stdout=seen, stderr=talk, start_new_session=True)

    def start(self, title, kind, *words):
        self.spawn(title, [PEERS_HOME / "python/bin/python", HERE / "drivers/chaos_clients.py", kind, self.cluster.bootstrap, TOPIC, *words])

    def start_all(self):
        for identity, words in PYTHON_PRODUCERS.items():
            self.start(f"producer-{identity}", "produce", self.partitions, identity, RATE, *words)
        self.spawn("producer-klamm", [klamm(), "produce", TOPIC, "-p", 0, "--report", "-b", self.cluster.bootstrap, "--timeout", "120s", "-X", "delivery.timeout.ms=300000"])
        self.feeder = Feeder(self.running["producer-klamm"].stdin)
        self.start("reader", "read", self.partitions)
        self.join("group-1")
        self.join("group-2")
        self.spawn("own-1", self.own_member())
        self.start("watcher-group", "watch", self.partitions, "group")
        self.start("watcher-own", "watch", self.partitions, "own")

    def join(self, title):
        self.start(title, "group", "group")

    def own_member(self):
        return [klamm(), "consume", TOPIC, "-g", "own", "-u", "-f", "r %p %o %s\\n", "-b", self.cluster.bootstrap, "--timeout", "120s"]

    def churn(self, turn):
        """One member of each group is killed or leaves; another one comes."""
        for group, start in (("group", self.join), ("own", lambda title: self.spawn(title, self.own_member()))):
            members = [title for title in self.running if title.startswith(f"{group}-")]
            start(f"{group}-{len(self.titles)}")
            if turn % 2 and len(members) > 1:
                self.running.pop(members[0]).kill()
            elif len(members) > 1:
                self.leave(members[0])

    def end(self, title, seconds=PATIENCE):
        """Whoever takes a line ends by it, ours by a signal."""
        process = self.running.pop(title)
        if title.startswith("own-"):
            process.terminate()
        elif title == "producer-klamm":
            self.feeder.end()
        elif process.poll() is None:
            process.stdin.write(b"end\n")
            process.stdin.close()
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            is_locked_up = locks_itself_up(process)
            process.kill()
            if is_locked_up:
                self.locked_up.append(title)
                return process.wait() and None
            raise Mismatch(f"{title} did not end within {seconds} s: {self.tail(title)}") from None

    def leave(self, title):
        """In the middle of faults a member may wait for a coordinator that is not there: then it is killed."""
        try:
            self.end(title, 30)
        except Mismatch as error:
            print(f"        killed: {error}", flush=True)

    def tail(self, title):
        return tail(self.folder / title) + tail(self.folder / f"{title}.err")

    def end_like(self, prefix, seconds=PATIENCE):
        codes = {title: self.end(title, seconds) for title in [title for title in self.running if title.startswith(prefix)]}
        bad = {title: (code, self.tail(title)) for title, code in codes.items() if code not in (0, None)}
        if bad:
            raise Mismatch(f"clients that ended badly: {bad}")

    def check(self):
        """Nobody has ended without being told."""
        ended = {title: (process.returncode, self.tail(title)) for title, process in self.running.items() if process.poll() is not None}
        if ended:
            raise Mismatch(f"clients that ended by themselves: {ended}")

    def acknowledged(self):
        """How many acknowledgements have been written down so far, about."""
        count = sum(line.startswith(b"+") for identity in PYTHON_PRODUCERS for line in open(self.folder / f"producer-{identity}", "rb"))
        return count + sum(1 for _ in open(self.folder / "producer-klamm", "rb"))

    def lines(self, title):
        with open(self.folder / title, encoding="utf-8", errors="replace") as seen:
            yield from seen

    def close(self):
        for process in self.running.values():
            process.kill()


def locks_itself_up(process):
    """librdkafka #5476: its main thread has a partition's lock and waits for the client's, a broker's thread the other way round.
    Seen by their stacks, where there is a debugger."""
    if not shutil.which("gdb"):
        return False
    with contextlib.suppress(subprocess.TimeoutExpired):
        stacks = subprocess.run(["gdb", "-p", str(process.pid), "-batch", "-ex", "thread apply all bt 14"], capture_output=True, text=True, timeout=60)
        threads = stacks.stdout.split("\nThread ")
        waits = [thread for thread in threads if "rwlock_wrlock" in thread and "rd_kafka_toppar_handle_OffsetForLeaderEpoch" in thread]
        holds = [thread for thread in threads if "mutex_lock" in thread and "rd_kafka_toppar_forget_leader" in thread]
        return bool(waits and holds)
    return False


class Feeder:
    """Gives records to a `klamm produce`, one a line."""

    def __init__(self, stdin):
        self.stdin, self.number, self.over = stdin, 0, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.over.wait(0.05):
                lines = b"".join(value(KLAMM_PRODUCER, number) + b"\n" for number in range(self.number, self.number + 25))
                self.number += 25
                self.stdin.write(lines)
                self.stdin.flush()
            self.stdin.close()
        except OSError:
            pass

    def end(self):
        self.over.set()
        self.thread.join(PATIENCE)


class Storm:
    """Faults, one after the other: which, where and for how long is the seed's."""

    def __init__(self, cluster, rng):
        self.cluster, self.rng = cluster, rng
        self.began = time.monotonic()
        self.counts = collections.Counter()
        self.wrong = []
        self.kinds = [self.kill, self.kill_leader, self.kill_controller, self.kill_two, self.kill_all, self.pause, self.pause_leader,
                      self.stop, self.roll, self.wipe]
        if not cluster.why_no_networks:
            self.kinds += [self.cut_off, self.cut_from_nodes, self.mute, self.deaf, self.cut_pair, self.cut_and_kill]
        if not cluster.why_no_disks:
            self.kinds += [self.fill]
        if wanted := os.environ.get("CHAOS_KINDS"):
            self.kinds = [kind for kind in self.kinds if kind.__name__ in wanted.split(",")]

    def plan(self, count):
        """Every kind before one comes again."""
        kinds = []
        while len(kinds) < count:
            kinds += self.rng.sample(self.kinds, len(self.kinds))
        return [(kind, self.rng.choice(list(self.cluster.nodes)), self.rng.uniform(0.2, 1) ** 2, self.rng.uniform(0.1, 2)) for kind in kinds[:count]]

    def strike(self, kind, number, strength, gap):
        self.counts[kind.__name__] += 1
        kind(number, strength)
        self.look_after()
        time.sleep(gap)

    def say(self, what):
        print(f"        {time.monotonic() - self.began:6.1f} s  {what}", flush=True)

    def hold(self, seconds):
        time.sleep(seconds)

    def look_after(self):
        """Whoever ended without being told is a finding, and is started again."""
        for node in self.cluster.nodes.values():
            if not node.is_running():
                code = node.process.returncode if node.process else None
                self.wrong.append(f"node {node.number} ended by itself, exit {code}: {tail(node.out, 2_000)}")
                node.start()

    def others(self, number):
        return [other for other in self.cluster.nodes if other != number]

    def kill(self, number, strength, why=""):
        node = self.cluster.nodes[number]
        self.say(f"kill node {number}{why}, back after {4 * strength:.1f} s")
        node.kill()
        self.hold(4 * strength)
        node.start()

    def kill_leader(self, number, strength):
        partition = self.rng.randrange(4)
        self.kill(self.cluster.leader(TOPIC, partition) or number, strength, f", leader of partition {partition}")

    def kill_controller(self, number, strength):
        self.kill(self.cluster.active_controller() or number, strength, ", active controller")

    def kill_two(self, number, strength):
        other = self.rng.choice(self.others(number))
        self.say(f"kill nodes {number} and {other}, back after {4 * strength:.1f} s")
        for one in (number, other):
            self.cluster.nodes[one].kill()
        self.hold(4 * strength)
        for one in (other, number):
            self.cluster.nodes[one].start()

    def kill_all(self, _, strength):
        self.say("kill all nodes")
        for node in self.cluster.nodes.values():
            node.kill()
        for node in self.rng.sample(list(self.cluster.nodes.values()), len(self.cluster.nodes)):
            node.start()
            self.hold(strength)

    def pause(self, number, strength, why=""):
        node = self.cluster.nodes[number]
        self.say(f"stop node {number}{why} for {14 * strength:.1f} s")
        node.pause()
        self.hold(14 * strength)
        node.resume()

    def pause_leader(self, number, strength):
        partition = self.rng.randrange(4)
        self.pause(self.cluster.leader(TOPIC, partition) or number, strength, f", leader of partition {partition},")

    def stop(self, number, strength, why=""):
        node = self.cluster.nodes[number]
        self.cluster.await_ready([number])
        self.say(f"SIGTERM to node {number}{why}, back after {3 * strength:.1f} s")
        code = node.stop()
        if code != 0:
            self.wrong.append(f"node {number} ended with {code} after SIGTERM: {tail(node.out, 2_000)}")
        self.hold(3 * strength)
        node.start()

    def roll(self, _, strength):
        """As an administrator does it: the next one when this one is back."""
        for number, node in self.cluster.nodes.items():
            self.cluster.await_ready()
            self.stop(number, 0, " of all")
        self.cluster.await_ready()

    def wipe(self, number, _):
        """Only while every replica is in sync: one that has the only copy may not lose it."""
        node = self.cluster.nodes[number]
        self.cluster.await_ready()
        self.cluster.await_whole()
        self.say(f"kill node {number} and wipe its disk")
        node.kill()
        node.wipe()
        node.start()
        self.cluster.await_ready()
        self.cluster.await_whole()
        if number <= self.cluster.voters:
            self.cluster.give_vote(number)

    def fill(self, number, strength):
        node = self.cluster.nodes[number]
        self.say(f"fill the disk of node {number} for {8 * strength:.1f} s")
        deadline = time.monotonic() + 8 * strength
        while time.monotonic() < deadline and node.is_running():
            node.fill()
            time.sleep(0.2)
        # Whether it has ended by then is its own affair: it may not have written anything.
        code = node.process.poll()
        node.kill()
        node.drain()
        self.say(f"room again; node {number} {'had not ended' if code is None else f'had ended with {code}'}")
        node.start()

    def cut(self, what, pairs, strength):
        self.say(f"{what} for {14 * strength:.1f} s")
        for sender, receiver in pairs:
            self.cluster.network.cut(sender, receiver)
        self.hold(14 * strength)
        self.cluster.network.mend()

    def cut_off(self, number, strength):
        others = [*self.others(number), CLIENTS]
        self.cut(f"cut node {number} off", [(number, other) for other in others] + [(other, number) for other in others], strength)

    def cut_from_nodes(self, number, strength):
        others = self.others(number)
        self.cut(f"cut node {number} from the other nodes, not from clients", [(number, other) for other in others] + [(other, number) for other in others], strength)

    def mute(self, number, strength):
        self.cut(f"nothing from node {number} arrives at other nodes", [(number, other) for other in self.others(number)], strength)

    def deaf(self, number, strength):
        self.cut(f"nothing from other nodes arrives at node {number}", [(other, number) for other in self.others(number)], strength)

    def cut_pair(self, number, strength):
        other = self.rng.choice(self.others(number))
        self.cut(f"cut nodes {number} and {other} from each other", [(number, other), (other, number)], strength)

    def cut_and_kill(self, number, strength):
        """While a node is alone, another one is killed: the first may know less than was acknowledged since."""
        others = self.others(number)
        victim = self.rng.choice(others)
        self.say(f"cut node {number} from the other nodes, then kill node {victim}, back together after {10 * strength:.1f} s")
        for other in others:
            self.cluster.network.cut(number, other)
            self.cluster.network.cut(other, number)
        self.hold(5 * strength)
        self.cluster.nodes[victim].kill()
        self.hold(5 * strength)
        self.cluster.network.mend()
        self.cluster.nodes[victim].start()

    def heal(self):
        self.cluster.network.mend()
        for node in self.cluster.nodes.values():
            node.resume()
            node.drain()
        self.look_after()
        self.cluster.await_ready()
        self.cluster.await_whole()


class Mover(threading.Thread):
    """Moves partitions from nodes to nodes, at random, as long as it is let."""

    def __init__(self, cluster, partitions, seed, at_once):
        super().__init__(daemon=True)
        self.cluster, self.partitions, self.at_once = cluster, partitions, at_once
        self.rng = random.Random(seed)
        self.over = threading.Event()
        self.done, self.refused, self.last = 0, 0, ""

    def run(self):
        while not self.over.is_set():
            self.move()
            self.over.wait(1)

    def move(self):
        moved = self.rng.sample(range(self.partitions), self.at_once)
        targets = [f"{TOPIC}:{partition}={','.join(map(str, self.rng.sample(list(self.cluster.nodes), 3)))}" for partition in moved]
        code, _, err = self.cluster.run("reassign", "run", *targets, seconds=PATIENCE)
        if code == 0:
            self.done += len(moved)
        else:
            self.refused, self.last = self.refused + 1, err.decode(errors="replace")

    def end(self):
        self.over.set()
        self.join(2 * PATIENCE)
        wait_until("no reassignment is under way", lambda: self.cluster.run("reassign", "status")[0] == 0, PATIENCE)


def run(world, title, count, partitions, moving, storm_of):
    """A whole run: a cluster, its clients, faults, and the judgement."""
    seed = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
    print(f"        seed {seed}", flush=True)
    rng = random.Random(seed)
    folder = Path(os.environ.get("CHAOS_KEEP", world.folder)) / f"chaos-{title}-{seed}"
    cluster = Cluster(folder, count, settings=SETTINGS, disk_mib=int(os.environ.get("CHAOS_DISK_MIB", 512)))
    clients = None
    try:
        for missing, why in (("partitions of the network", cluster.why_no_networks), ("full disks", cluster.why_no_disks)):
            if why:
                print(f"SKIPPED  {missing}: this machine cannot make them: {why}", flush=True)
        cluster.start()
        cluster.must("topics", "create", TOPIC, "-p", partitions, "-r", 3, "--config", "min.insync.replicas=2", "--config", "segment.bytes=1048576")
        clients = Clients(cluster, partitions)
        clients.start_all()
        wait_until("acknowledged records", lambda: clients.acknowledged() > 100, PATIENCE)
        storm = Storm(cluster, rng)
        mover = Mover(cluster, partitions, seed, moving)
        mover.start()
        storm_of(storm, clients)
        storm.heal()
        storm.say("all nodes are back, and all replicas in sync")
        mover.end()
        storm.say("the last partition has moved")
        wrong = storm.wrong + conclude(cluster, clients, storm, mover)
        if wrong:
            raise Mismatch("\n    ".join([f"{len(wrong)} findings, seed {seed}", *(shorten(line, 2_400) for line in history.shortened(wrong))]))
    finally:
        if clients:
            clients.close()
        if "CHAOS_KEEP" in os.environ and cluster.disks:
            subprocess.run(["cp", "-a", "--sparse=always", folder, f"{folder}-kept"], check=False)
        cluster.close()


def conclude(cluster, clients, storm, mover):
    """Everybody comes to the end in order; then what they saw is held against the log, and the replicas against each other."""
    clients.check()
    clients.end_like("producer-", 330)
    for group in ("group", "own"):
        wait_until(f"group {group} has read all", lambda group=group: lag(cluster, group) == 0, PATIENCE)
    for prefix in ("group-", "own-", "reader", "watcher-"):
        clients.end_like(prefix)
    storm.say("the clients have come to their ends")
    judged = judge(cluster, clients)
    violations = judged.violations()
    total = judged.acknowledged_count()
    print(f"        {total:,} records acknowledged, {judged.given_up} given up, {sum(map(len, judged.log.values())):,} in the log; "
          f"{sum(storm.counts.values())} faults: {', '.join(f'{count} {kind}' for kind, count in sorted(storm.counts.items()))}; "
          f"{mover.done} partitions moved ({mover.refused} commands in vain); {len(violations)} violations", flush=True)
    if clients.locked_up:
        print(f"        locked up by librdkafka itself (#5476), and killed: {', '.join(clients.locked_up)}", flush=True)
    if judged.sent_again:
        print(f"        {judged.sent_again} records sent again by librdkafka under a new epoch", flush=True)
    for why in judged.ended:
        print(f"        a producer could not go on: {why}", flush=True)
    if judged.given_up:
        violations.append(f"given-up: {judged.given_up} records were not acknowledged within 300 s")
    return violations + replicas(cluster)


def lag(cluster, group):
    rows = cluster.ask("groups", "lag", group, "--total")
    return rows[0]["lag"] if rows else None


def judge(cluster, clients):
    judged = History(strict={KLAMM_PRODUCER})
    for identity in PYTHON_PRODUCERS:
        judged.producer(f"producer-{identity}", clients.lines(f"producer-{identity}"))
    judged.sent[KLAMM_PRODUCER] = clients.feeder.number
    # Its reports do not name the records; batches may be reported in another order than they were sent in.
    for number, offset in enumerate(sorted(int(line.split()[2]) for line in clients.lines("producer-klamm") if line.endswith("\n"))):
        judged.acknowledge(KLAMM_PRODUCER, 0, offset, number)
    judged.reader("reader", clients.lines("reader"), is_to_the_end="reader" not in clients.locked_up)
    for title in clients.titles:
        if title.startswith(("group-", "own-")):
            judged.member(title.split("-")[0], title, clients.lines(title))
        elif title.startswith("watcher-"):
            judged.watcher(title.split("-")[1], title, clients.lines(title))
    reads = []
    for line in cluster.must("consume", TOPIC, "-e", "-f", "%p %o %x %y %s\\n", seconds=PATIENCE).splitlines():
        partition, offset, producer, epoch, held = line.split(b" ", 4)
        identity, number = map(int, held.split(b" ", 2)[:2])
        if held != value(identity, number):
            judged.found.append(f"said: the last reader: damaged record at {partition}:{offset}: {held[:60]!r}")
        reads.append((int(partition), int(offset), (identity << history.SHIFT) + number, (int(producer), int(epoch))))
    judged.whole_log(reads)
    return judged


def replicas(cluster):
    """After a stop in order every directory is sound, and the logs of a partition are the same bytes."""
    found = []
    assigned = {f"{topic}-{number}": part["replicas"] for (topic, number), part in (cluster.partitions() or {}).items()}
    for node in cluster.nodes.values():
        node.process.terminate()
    for node in cluster.nodes.values():
        code = node.await_end()
        if code != 0:
            found.append(f"node {node.number} ended with {code} after SIGTERM: {tail(node.out, 2_000)}")
    for node in cluster.nodes.values():
        code, out, err = run_klamm("verify", node.directory, seconds=PATIENCE)
        if code != 0:
            found.append(f"verify of node {node.number}: exit {code}: {(out + err).decode(errors='replace')}")
        if "panicked" in Path(node.out).read_text(errors="replace"):
            found.append(f"node {node.number} panicked: {tail(node.out, 2_000)}")
    for partition, numbers in assigned.items():
        held = {number: cluster.nodes[number].log_bytes(partition) for number in numbers}
        if None in held.values():
            found.append(f"replicas of {partition}: nothing on nodes {[number for number, log in held.items() if log is None]}")
        elif not equal(list(held.values()), partition.startswith("__")):
            found.append(f"replicas of {partition} differ: {differences(held)}")
    return found


def equal(logs, may_be_shorter):
    """Who is stopped last may have written to an internal topic alone."""
    length = min(map(len, logs)) if may_be_shorter else None
    return len({log[:length] for log in logs}) == 1


def differences(held):
    logs = list(held.values())
    shortest = min(map(len, logs))
    first = next((place for place in range(shortest) if len({log[place] for log in logs}) > 1), shortest)
    return f"lengths {dict((number, len(log)) for number, log in held.items())}, the same up to byte {first}"


def all_faults(storm, clients):
    for turn, strike in enumerate(storm.plan(FAULTS)):
        storm.strike(*strike)
        if turn % 5 == 4:
            clients.churn(turn)
    while clients.acknowledged() < RECORDS:
        storm.strike(*storm.plan(1)[0])


def bounces(storm, clients):
    """Every other node is bounced, in order and by force, while partitions move."""
    turn = 0
    while turn < ROUNDS or clients.acknowledged() < RECORDS:
        for number in list(storm.cluster.nodes)[turn % 2::2]:
            storm.strike(*storm.rng.choice([(storm.kill, number, 0.5, 1.0), (storm.stop, number, 0.5, 1.0)]))
            storm.cluster.await_ready()
        turn += 1


def sound_checker():
    wrong = history.self_test()
    if wrong:
        raise Mismatch("; ".join(wrong))


def cases(world, book):
    book.case("the checker finds every violation that is planted", sound_checker)
    if world.target != "klamm":
        return
    book.case("faults of every kind lose, double and reorder nothing", run, world, "faults", 4, 6, 1, all_faults)
    book.case("nor do bounces while 20 partitions are reassigned", run, world, "bounces", 5, 20, 20, bounces)
