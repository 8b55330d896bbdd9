"""What `measure --only cluster` and `measure --only partitions` measure: three nodes of klamm beside three of Apache Kafka,
default settings, every topic with three replicas and `min.insync.replicas=2`. One cluster at a time has something to do."""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from harness import HERE, KAFKA, PEERS_HOME, Mismatch, free_ports, klamm_out, run_klamm, wait_until
from nodes import Cluster

# Title, the bench, and its unit.
LOADS = [
    ("acks=all, batches of 128 × 100 B", ["produce", "--batch", 128, "-s", 100, "-n", 1_000_000], "MB/s"),
    ("acks=all, batches of 900 × 1 KB", ["produce", "--batch", 900, "-s", 1000, "-n", 200_000], "MB/s"),
    ("acks=all, one record at a time", ["latency", "-t", "3s"], "µs p99"),
]
# Far more than three copies take: the system may hand out pages that were never touched before those that just were.
WARM_MEMORY = "6GiB"
PARTITIONS = int(os.environ.get("MEASURE_PARTITIONS", 10_000))
TOPICS = 10
NODES = (1, 2, 3)
PATIENCE = 600
# Without a majority of the quorum Kafka's last node waits for five minutes before it ends.
STOP_SECONDS_MAX = 120


class KlammNodes:
    name = "klamm"

    def __init__(self, folder):
        self.cluster = Cluster(folder, is_apart=False)
        self.cluster.start()
        self.bootstrap = self.cluster.bootstrap

    def pid(self, node):
        return self.cluster.nodes[node].process.pid

    def kill(self, node):
        self.cluster.nodes[node].kill()

    def stop(self, node):
        if self.cluster.nodes[node].stop(PATIENCE) is None:
            raise Mismatch(f"node {node} of klamm did not end within {PATIENCE} s of SIGTERM")

    def start(self, node):
        self.cluster.nodes[node].start()

    def close(self):
        self.cluster.close()


class KafkaNodes:
    name = "kafka"

    def __init__(self, folder):
        self.folder = Path(folder)
        done = subprocess.run([KAFKA, "start", self.folder, "--nodes", "3", "--port", str(free_ports(22))], capture_output=True, text=True)
        if done.returncode != 0:
            raise Mismatch(f"Apache Kafka did not start: {done.stderr[-1_000:]}")
        self.bootstrap = done.stdout.strip()

    def pid(self, node):
        return int((self.folder / f"{node}.pid").read_text())

    def kill(self, node):
        subprocess.run([KAFKA, "kill", self.folder, str(node)], check=True, capture_output=True)

    def stop(self, node):
        pid = self.pid(node)
        os.kill(pid, signal.SIGTERM)
        wait_until(f"node {node} of Kafka has ended", lambda: has_ended(pid), PATIENCE)

    def start(self, node):
        subprocess.run([KAFKA, "again", self.folder, str(node)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self):
        subprocess.run([KAFKA, "kill", self.folder], capture_output=True, check=False)


KINDS = (KlammNodes, KafkaNodes)


def note(text):
    print(f"    {text}", file=sys.stderr, flush=True)


def has_ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def resident(nodes):
    """MiB of the largest node."""
    pages = [int(Path(f"/proc/{nodes.pid(node)}/statm").read_text().split()[1]) for node in NODES]
    return max(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_percent(nodes, seconds=10):
    """Of a core, by the busiest node, while nobody asks for anything."""
    before = [cpu_seconds(nodes.pid(node)) for node in NODES]
    time.sleep(seconds)
    return max(cpu_seconds(nodes.pid(node)) - began for node, began in zip(NODES, before)) / seconds * 100


def described(nodes, topics):
    """The partitions of these topics; none where the cluster cannot say."""
    code, out, _ = run_klamm("topics", "describe", *topics, "--json", "-b", nodes.bootstrap, seconds=120)
    return [part for line in out.splitlines() for part in json.loads(line)["partitions"]] if code == 0 else []


def are_led(nodes, topics, leaders=NODES):
    found = described(nodes, topics)
    return bool(found) and all(part["leader"] in leaders for part in found)


def are_whole(nodes, topics):
    found = described(nodes, topics)
    return bool(found) and all(part["leader"] in NODES and len(part["isr"]) == len(part["replicas"]) for part in found)


def await_whole(nodes, topics):
    wait_until(f"{topics} are in sync", lambda: are_whole(nodes, topics), PATIENCE)


def create(nodes, topic, partitions):
    klamm_out("topics", "create", topic, "-p", partitions, "-r", 3, "--config", "min.insync.replicas=2", "-b", nodes.bootstrap, seconds=PATIENCE)


def bench(nodes, load, topic):
    create(nodes, topic, 1)
    await_whole(nodes, [topic])
    pids = [word for node in NODES for word in ("--pid", nodes.pid(node))]
    out = klamm_out("bench", load[0], topic, *load[1:], "--warm-memory", WARM_MEMORY, *pids, "--json", "-b", nodes.bootstrap, seconds=PATIENCE)
    klamm_out("topics", "delete", topic, "--execute", "-b", nodes.bootstrap)
    return json.loads(out)


def loads(both, runs):
    """Rows of speed and of the processor time of all three nodes together, in turns."""
    for number, (title, load, unit) in enumerate(LOADS):
        values = defaultdict(list)
        for turn in range(-1, runs):
            for nodes in both:
                report = bench(nodes, load, f"load-{number}-{turn + 1}")
                used = sum(process["cpu_seconds"] for process in report["processes"])
                p99 = report["latency_us"]["p99"]
                speed = p99 if unit == "µs p99" else report["mb_per_second"]
                cost = used / report["requests"] * 1e6 if unit == "µs p99" else used / (report["bytes"] / 1e9)
                note(f"{title}, {nodes.name}: {speed:,.0f} {unit}, p99 {p99:,.0f} µs, {cost:.2f} CPU{' (warm-up)' if turn < 0 else ''}")
                if turn >= 0:
                    values[nodes.name].append((speed, cost, p99))
        (ours, our_cpu, our_p99), (theirs, their_cpu, their_p99) = ([statistics.median(column) for column in zip(*values[name])] for name in ("klamm", "kafka"))
        ratio = theirs / ours if unit == "µs p99" else ours / theirs
        cpu_unit = "µs a record" if unit == "µs p99" else "s/GB"
        yield (f"| {title} | {ours:,.0f} {unit} | {theirs:,.0f} {unit} | {ratio:.1f}× | {our_cpu:.2f} {cpu_unit} | {their_cpu:.2f} {cpu_unit} "
               f"| {our_cpu / their_cpu:.2f} | {our_p99 / 1000:,.1f} ms | {their_p99 / 1000:,.1f} ms |")


class Pulse:
    """A client that sends to each partition every 10 ms, and when it was answered."""

    def __init__(self, nodes, topic, partitions, path):
        self.path = path
        command = [PEERS_HOME / "python/bin/python", HERE / "drivers/chaos_clients.py", "pulse", nodes.bootstrap, topic, str(partitions)]
        with open(path, "wb") as seen:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=seen, stderr=subprocess.DEVNULL)
        wait_until("the pulse beats", lambda: len(self.beats()) == partitions, 60)

    def beats(self):
        found = defaultdict(list)
        for line in self.path.read_text().splitlines(keepends=True):
            words = line.split()
            if line.endswith("\n") and words[0] == "p":
                found[int(words[2])].append(float(words[1]))
        return found

    def await_flow(self, after):
        """Until every partition has been answered for a second, counted from `after`."""
        wait_until("acks=all flows again", lambda: all(beats[-1] > after + 1 and beats[-1] - beats[-20] < 2 for beats in self.beats().values()), PATIENCE)

    def longest_stall(self, begin, end):
        return max(later - earlier for beats in self.beats().values() for earlier, later in zip(beats, beats[1:]) if begin <= later and earlier <= end)

    def close(self):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self.process.communicate(b"end\n", timeout=90)
        self.process.kill()


def failovers(nodes, world, kills, stops):
    """Seconds of a client's longest stall, for each leader that is killed, and for each that is suspended."""
    topic, found = "pulse", {"killed": [], "suspended": []}
    create(nodes, topic, 1)
    await_whole(nodes, [topic])
    pulse = Pulse(nodes, topic, 1, world.folder / f"pulse-{nodes.name}")
    for what in ["killed"] * kills + ["suspended"] * stops:
        victim, at = described(nodes, [topic])[0]["leader"], time.monotonic()
        if what == "killed":
            nodes.kill(victim)
        else:
            os.kill(nodes.pid(victim), signal.SIGSTOP)
        try:
            pulse.await_flow(time.monotonic() + 0.5)
        finally:
            found[what].append(pulse.longest_stall(at - 0.1, time.monotonic()))
            if what == "killed":
                nodes.start(victim)
            else:
                os.kill(nodes.pid(victim), signal.SIGCONT)
        note(f"leader {what}, {nodes.name}: {found[what][-1]:.3f} s")
        await_whole(nodes, [topic])
    pulse.close()
    return found["killed"], found["suspended"]


def rolling_restart(nodes, world):
    """Seconds of the longest stall of any of 12 partitions while each node is stopped and started in turn."""
    topic = "rolled"
    create(nodes, topic, 12)
    await_whole(nodes, [topic])
    pulse = Pulse(nodes, topic, 12, world.folder / f"rolled-{nodes.name}")
    at = time.monotonic()
    for node in NODES:
        nodes.stop(node)
        nodes.start(node)
        await_whole(nodes, [topic])
    pulse.await_flow(time.monotonic())
    stall = pulse.longest_stall(at, time.monotonic())
    note(f"rolling restart, {nodes.name}: longest stall {stall:.3f} s")
    pulse.close()
    return stall


def seconds(act):
    began = time.monotonic()
    act()
    return time.monotonic() - began


def many(nodes):
    """What `PARTITIONS` partitions cost: rows' titles, values and units."""
    topics = [f"many-{number}" for number in range(TOPICS)]

    def make():
        for topic in topics:
            create(nodes, topic, PARTITIONS // TOPICS)
        await_whole(nodes, topics)

    def start():
        for node in NODES:
            nodes.start(node)
        await_whole(nodes, topics)

    def stop():
        pids = [nodes.pid(node) for node in NODES]
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS_MAX
        while not all(map(has_ended, pids)) and time.monotonic() < deadline:
            time.sleep(0.1)
        for node, pid in zip(NODES, pids):
            if not has_ended(pid):
                note(f"node {node} of {nodes.name} had to be killed: it did not end within {STOP_SECONDS_MAX} s of SIGTERM")
            nodes.kill(node)

    def kill():
        for node in NODES:
            nodes.kill(node)

    def end_one():
        nodes.kill(3)
        wait_until("all have leaders", lambda: are_led(nodes, topics, (1, 2)), PATIENCE)

    def bring_back():
        nodes.start(3)
        await_whole(nodes, topics)

    def row(title, value, unit):
        note(f"{PARTITIONS:,} partitions, {nodes.name}: {title}: {value:.1f} {unit}")
        return title, value, unit

    yield row("made and in sync", seconds(make), "s")
    yield row("processor time of an idle node", idle_percent(nodes), "%")
    yield row("resident memory of a node", resident(nodes), "MiB")
    yield row("one node killed: all led again", seconds(end_one), "s")
    yield row("it is back, all in sync", seconds(bring_back), "s")
    yield row(f"all stopped by SIGTERM at once (killed after {STOP_SECONDS_MAX} s)", seconds(stop), "s")
    yield row("all started again and in sync", seconds(start), "s")
    kill()
    yield row("the same after `kill -9` of all", seconds(start), "s")
    yield row("resident memory of a node then", resident(nodes), "MiB")


def partitions(world):
    """The table of many partitions, as lines. Both clusters are never there together."""
    tables = []
    for kind in KINDS:
        nodes = kind(world.folder / f"{kind.name}-many")
        try:
            tables.append(list(many(nodes)))
        finally:
            nodes.close()
    yield f"| {PARTITIONS:,} partitions, three replicas each, on three nodes | klamm | Apache Kafka |\n|---|---|---|"
    for (title, ours, unit), (_, theirs, _) in zip(*tables):
        yield f"| {title} | {ours:,.1f} {unit} | {theirs:,.1f} {unit} |"


def rows(world, runs, kills):
    """The tables of speed and of failovers, as lines."""
    both, idle = [], []
    try:
        for kind in KINDS:
            both.append(kind(world.folder / f"{kind.name}-nodes"))
            time.sleep(5)
            idle.append(resident(both[-1]))
        yield "| three nodes | klamm | Apache Kafka | ratio | klamm's CPU | Kafka's CPU | ratio | klamm's p99 | Kafka's p99 |\n|---|---|---|---|---|---|---|---|---|"
        yield from loads(both, runs)
        yield "\n| three nodes | klamm | Apache Kafka |\n|---|---|---|"
        yield f"| resident memory of an idle node | {idle[0]:.1f} MiB | {idle[1]:.0f} MiB |"
        # Each of Kafka's takes half a minute: it waits until a broker's session has ended.
        found = [failovers(nodes, world, kills if nodes.name == "klamm" else min(kills, 3), 1) for nodes in both]
        for title, column in (("killed (`kill -9`)", 0), ("suspended (SIGSTOP)", 1)):
            cells = [f"{statistics.median(one[column]):.2f} s, {max(one[column]):.2f} s of {len(one[column])}" for one in found if one[column]]
            if len(cells) == 2:
                yield f"| leader {title}, until acks=all flows again: median, longest | {cells[0]} | {cells[1]} |"
        rolled = [rolling_restart(nodes, world) for nodes in both]
        yield f"| rolling restart of all three under load: longest stall | {rolled[0]:.2f} s | {rolled[1]:.2f} s |"
    finally:
        for nodes in both:
            nodes.close()
