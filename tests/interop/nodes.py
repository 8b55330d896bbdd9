"""Several klamm processes that are one cluster, and what can be done to them: kill, stop, cut off, fill, wipe.

Where this machine lets us (root), each node has a network namespace and a small file system of its own, so that packets
vanish and disks fill as they do in the world. Elsewhere the nodes share the loopback: `cluster.why_no_networks` and
`why_no_disks` say why, and whoever runs a cluster says it aloud.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from harness import Mismatch, free_ports, klamm, shorten, tail, wait_until

CLIENTS = 0
NOWHERE = "02:00:00:00:00:ff"
PATIENCE = 180
numbers = itertools.count()


def command(*words, check=True):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise OSError(f"{' '.join(map(str, words))}: {done.stderr.strip() or done.returncode}")
    return done.stdout


class Loopback:
    """All on 127.0.0.1, each node with two ports."""

    def __init__(self, count):
        self.first = free_ports(2 * count)

    def listener(self, node):
        return f"127.0.0.1:{self.first + 2 * (node - 1)}"

    def controller(self, node):
        return f"127.0.0.1:{self.first + 2 * node - 1}"

    def inside(self, _):
        return []

    def mend(self):
        pass

    def close(self):
        pass


class Networks:
    """A namespace for each node and one for the clients, joined by a bridge. A packet vanishes because its sender
    takes a wrong hardware address for the receiver's: each direction by itself, and nobody is told."""

    def __init__(self, count):
        self.tag = f"klamm{os.getpid()}-{next(numbers)}"
        self.nodes = range(count + 1)
        self.broken = set()
        try:
            for node in self.nodes:
                command("ip", "netns", "add", self.space(node))
                command("ip", "-n", self.space(node), "link", "set", "lo", "up")
            command("ip", "-n", self.space(CLIENTS), "link", "add", "eth0", "type", "bridge")
            for node in self.nodes:
                if node != CLIENTS:
                    command("ip", "-n", self.space(CLIENTS), "link", "add", f"node{node}", "type", "veth", "peer", "name", "eth0",
                            "netns", self.space(node))
                    command("ip", "-n", self.space(CLIENTS), "link", "set", f"node{node}", "master", "eth0", "up")
                command("ip", "-n", self.space(node), "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
                command("ip", "-n", self.space(node), "link", "set", "eth0", "up")
            command(*self.inside(CLIENTS), "true")
        except OSError:
            self.close()
            raise

    def space(self, node):
        return f"{self.tag}-{node}"

    def address(self, node):
        return f"10.211.7.{node + 1}"

    def listener(self, node):
        return f"{self.address(node)}:9092"

    def controller(self, node):
        return f"{self.address(node)}:9093"

    def inside(self, node):
        return ["nsenter", f"--net=/run/netns/{self.space(node)}"]

    def cut(self, sender, receiver):
        """Nothing that `sender` sends arrives at `receiver`; what goes the other way does."""
        command("ip", "-n", self.space(sender), "neigh", "replace", self.address(receiver), "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent")
        self.broken.add((sender, receiver))

    def mend(self):
        for sender, receiver in self.broken:
            command("ip", "-n", self.space(sender), "neigh", "del", self.address(receiver), "dev", "eth0", check=False)
        self.broken.clear()

    def close(self):
        for node in self.nodes:
            command("ip", "netns", "del", self.space(node), check=False)


class Node:
    """One process and its directory, over all its lives."""

    def __init__(self, cluster, number):
        self.cluster, self.number = cluster, number
        self.place = cluster.folder / f"n{number}"
        self.directory = self.place / "data"
        self.out = cluster.folder / f"n{number}.out"
        self.process = None
        self.ready = threading.Event()
        self.is_paused = False
        self.is_filled = False

    def start(self):
        """Does not wait: a node is ready when the cluster has it."""
        cluster = self.cluster
        settings = [word for setting in cluster.settings for word in ("--set", setting)]
        with open(self.out, "ab") as log:
            log.write(f"---- start, {time.monotonic():.3f}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [*cluster.network.inside(self.number), klamm(), "serve", "-d", self.directory, "--node", str(self.number), "--listen",
                 cluster.network.listener(self.number), "--quorum", cluster.quorum, *settings],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True, text=True)
        self.ready = threading.Event()
        threading.Thread(target=self.await_ready, args=(self.process, self.ready), daemon=True).start()

    @staticmethod
    def await_ready(process, ready):
        for line in process.stdout:
            if line.startswith("ready "):
                ready.set()

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        self.resume()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self, seconds=60):
        """In order; returns the exit code, None where it had to be killed."""
        self.process.send_signal(signal.SIGTERM)
        return self.await_end(seconds)

    def await_end(self, seconds=60):
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None
        self.process = None
        return code

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        self.is_paused = True

    def resume(self):
        if self.is_paused and self.is_running():
            self.process.send_signal(signal.SIGCONT)
        self.is_paused = False

    def fill(self):
        """Leaves no byte free. Done again while it is full, since a node may delete something."""
        self.is_filled = True
        with contextlib.suppress(OSError):
            free = os.statvfs(self.place).f_bavail * os.statvfs(self.place).f_frsize
            if free:
                with open(self.place / f"ballast-{time.monotonic_ns()}", "wb") as ballast:
                    os.posix_fallocate(ballast.fileno(), 0, free)

    def drain(self):
        self.is_filled = False
        for ballast in self.place.glob("ballast-*"):
            ballast.unlink()

    def wipe(self):
        shutil.rmtree(self.directory)

    def directory_id(self):
        return re.search(r"^directory.id=(.+)$", (self.directory / "meta.properties").read_text(), re.MULTILINE).group(1)

    def log_bytes(self, partition):
        """The folder's segments, one behind the other; None where it has no such folder."""
        segments = sorted((self.directory / partition).glob("*.log"))
        return b"".join(segment.read_bytes() for segment in segments) if segments else None


class Cluster:
    """Voters 1 to `voters`, and brokers that only follow the quorum up to `count`."""

    def __init__(self, folder, count=3, voters=3, settings=(), disk_mib=None, is_apart=True):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.settings = settings
        self.why_no_networks = self.why_no_disks = None
        self.disks = []
        self.network = self.make_network(count) if is_apart else Loopback(count)
        self.quorum = ",".join(f"{node}@{self.network.controller(node)}" for node in range(1, voters + 1))
        self.nodes = {number: Node(self, number) for number in range(1, count + 1)}
        self.voters = voters
        for node in self.nodes.values():
            node.place.mkdir()
            if disk_mib:
                self.mount(node.place, disk_mib)
        self.bootstrap = ",".join(self.network.listener(number) for number in self.nodes)

    def make_network(self, count):
        try:
            return Networks(count)
        except OSError as error:
            self.why_no_networks = str(error)
            return Loopback(count)

    def mount(self, place, mib):
        try:
            command("mount", "-t", "tmpfs", "-o", f"size={mib}m", "klamm-chaos", place)
            self.disks.append(place)
        except OSError as error:
            self.why_no_disks = str(error)

    def start(self, seconds=PATIENCE):
        for node in self.nodes.values():
            node.start()
        self.await_ready(seconds=seconds)

    def await_ready(self, numbers=None, seconds=PATIENCE):
        for node in [self.nodes[number] for number in numbers or self.nodes]:
            wait_until(f"node {node.number} is ready; {tail(node.out)}", lambda node=node: node.ready.is_set() or not node.is_running(), seconds)
            if not node.is_running():
                raise Mismatch(f"node {node.number} ended by itself ({node.process and node.process.returncode}): {tail(node.out)}")

    def run(self, *args, given=None, seconds=60):
        """One of our commands among the clients: exit code, stdout, stderr."""
        words = [*self.network.inside(CLIENTS), klamm(), *map(str, args), "-b", self.bootstrap]
        try:
            done = subprocess.run(words, input=given, stdin=subprocess.DEVNULL if given is None else None, capture_output=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return None, b"", f"not within {seconds} s".encode()
        return done.returncode, done.stdout, done.stderr

    def ask(self, *args, seconds=30):
        """The objects that a command prints; None where the cluster cannot be asked now."""
        code, out, _ = self.run(*args, "--json", seconds=seconds)
        return [json.loads(line) for line in out.splitlines()] if code == 0 else None

    def must(self, *args, seconds=60, **options):
        """A command that must succeed in the end."""
        deadline = time.monotonic() + PATIENCE
        while True:
            code, out, err = self.run(*args, seconds=seconds, **options)
            if code == 0:
                return out
            if time.monotonic() > deadline:
                raise Mismatch(f"klamm {' '.join(map(str, args))}: exit {code}\n    {shorten(err.decode(errors='replace'))}")
            time.sleep(0.5)

    def partitions(self, *topics):
        """By (topic, partition): leader, replicas, isr; None where nobody answers."""
        said = self.ask("topics", "describe", *topics, *([] if topics else ["--internal"]))
        return None if said is None else {(topic["topic"], part["partition"]): part for topic in said for part in topic["partitions"]}

    def leader(self, topic, partition):
        found = self.partitions(topic) or {}
        leader = found.get((topic, partition), {}).get("leader")
        return leader if leader in self.nodes else None

    def active_controller(self):
        for row in self.ask("cluster", "quorum", seconds=10) or []:
            if row.get("role") == "leader":
                return row["node"]
        return None

    def give_vote(self, number):
        """What an administrator does after a disk was lost: the vote of the old directory goes, the new one gets it."""
        listener = f"CONTROLLER={self.network.controller(number)}"
        deadline, said = time.monotonic() + PATIENCE, None
        while time.monotonic() < deadline:
            own = [row for row in self.ask("cluster", "quorum", seconds=10) or [] if row["node"] == number]
            votes = [row["directory"] for row in own if row["role"] != "observer"]
            if votes == [self.nodes[number].directory_id()]:
                return
            if votes:
                said = self.run("cluster", "remove-voter", number, "--directory", votes[0], "--execute")
            elif own:
                said = self.run("cluster", "add-voter", number, "--listener", listener)
            time.sleep(0.3)
        raise Mismatch(f"a vote for node {number}: not within {PATIENCE} s: {said}")

    def is_whole(self):
        """Every partition has a leader, and all its replicas are in sync."""
        found = self.partitions()
        return bool(found) and all(part["leader"] in self.nodes and len(part["isr"]) == len(part["replicas"]) for part in found.values())

    def await_whole(self, seconds=PATIENCE):
        def behind():
            found = self.partitions() or {}
            return {f"{topic}-{number}": (part["leader"], part["replicas"], part["isr"]) for (topic, number), part in found.items()
                    if part["leader"] not in self.nodes or len(part["isr"]) < len(part["replicas"])}
        deadline = time.monotonic() + seconds
        while not self.is_whole():
            if time.monotonic() > deadline:
                raise Mismatch(f"all replicas in sync: not within {seconds} s; leader, replicas and ISR: {shorten(behind())}")
            time.sleep(0.3)

    def close(self):
        for node in self.nodes.values():
            with contextlib.suppress(OSError):
                node.kill()
        for place in self.disks:
            command("umount", "-l", place, check=False)
        self.network.close()
