"""Our commands for clusters (cluster, topics, reassign, verify -b, audit) against three nodes of Apache Kafka, and of ours."""

import contextlib
import json
import os
import signal
import subprocess
import threading
from pathlib import Path

from harness import KAFKA, expect, expect_in, free_ports, klamm, klamm_out, read_line, run_klamm, wait_until

# A record that can be found in a segment again.
MARK = "a record that a disk will change"


def lines(*args, **options):
    """What a command prints with --json, object by object."""
    return [json.loads(line) for line in klamm_out(*args, "--json", **options).splitlines()]


def refused(*args, code=1, **options):
    """What a command says on stderr that fails."""
    got, out, err = run_klamm(*args, **options)
    expect(f"klamm {' '.join(map(str, args))}: exit code ({err.decode()[-300:]})", got, code)
    return out.decode() + err.decode()


class Cluster:
    """Three nodes, each broker and controller; nodes may be stopped and started alone. Node k listens ten ports above the
    one before, its controller one port above its broker, and its logs are in DIR/k: as `peers/kafka` has it."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.port = free_ports(32)
        self.bootstrap = ",".join(f"127.0.0.1:{self.port_of(node)}" for node in (1, 2, 3))

    def port_of(self, node):
        return self.port + (node - 1) * 10

    def to(self, node=None):
        return ("-b", self.bootstrap if node is None else f"127.0.0.1:{self.port_of(node)}")

    def log(self, node, partition):
        return self.directory / str(node) / partition / "00000000000000000000.log"

    def start(self, node):
        self.begin(node)
        self.wait_for(node, "active")

    def wait_for(self, node, state):
        def is_so():
            return state in [one["state"] for one in lines("cluster", "nodes", *self.to()) if one["node"] == node]
        wait_until(f"node {node} is {state}", is_so, 90)

    def in_sync(self):
        def is_so():
            return klamm_out("topics", "describe", "--internal", "--under-replicated", *self.to()) == b""
        wait_until("all replicas are in sync", is_so, 90)

    def replicas(self, topic):
        (described,) = lines("topics", "describe", topic, *self.to())
        return {one["partition"]: one["replicas"] for one in described["partitions"]}


class Kafka(Cluster):
    name = "Apache Kafka"

    def __init__(self, world):
        super().__init__(world.folder / "cluster-kafka")
        self.broker = world.broker("kafka", "cluster-kafka", args=("--nodes", "3"), port=self.port)

    def stop(self, node):
        subprocess.run([KAFKA, "stop", self.directory, str(node)], check=True, capture_output=True)

    def begin(self, node):
        libs = subprocess.run([KAFKA, "install"], check=True, capture_output=True, text=True).stdout.strip()
        with open(self.directory / f"{node}.out", "ab") as talk:
            process = subprocess.Popen(
                ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={libs}/log4j2.properties", "-cp", f"{libs}/*",
                 "kafka.Kafka", self.directory / f"{node}.properties"],
                stdout=talk, stderr=talk, stdin=subprocess.DEVNULL, start_new_session=True)
        # Its end is heard: whoever stops it looks whether the process is still there.
        threading.Thread(target=process.wait, daemon=True).start()
        (self.directory / f"{node}.pid").write_text(str(process.pid))

    def close(self):
        self.broker.kill()


class Klamm(Cluster):
    name = "klamm"

    def __init__(self, world):
        super().__init__(world.folder / "cluster-klamm")
        self.directory.mkdir()
        self.processes = {}
        world.running.append(self)
        for node in (1, 2, 3):
            self.begin(node)
        for node in (1, 2, 3):
            expect(f"node {node}", read_line(self.processes[node], 60)[:6], "ready ")

    def begin(self, node):
        voters = ",".join(f"{one}@127.0.0.1:{self.port_of(one) + 1}" for one in (1, 2, 3))
        with open(self.directory / f"{node}.out", "ab") as talk:
            self.processes[node] = subprocess.Popen(
                [klamm(), "serve", "-d", self.directory / str(node), "--node", str(node), "--listen", f"127.0.0.1:{self.port_of(node)}",
                 "--quorum", voters],
                stdout=subprocess.PIPE, stderr=talk, stdin=subprocess.DEVNULL, start_new_session=True, text=True)

    def stop(self, node):
        self.processes[node].send_signal(signal.SIGTERM)
        expect(f"node {node}: exit code after SIGTERM", self.processes.pop(node).wait(60), 0)

    def kill(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.processes.clear()

    close = kill


def shows_the_cluster(cluster):
    nodes = lines("cluster", "nodes", *cluster.to())
    expect("nodes", [(node["node"], node["state"]) for node in nodes], [(1, "active"), (2, "active"), (3, "active")])
    quorum = lines("cluster", "quorum", *cluster.to())
    roles = sorted(one["role"] for one in quorum if "role" in one)
    expect("roles in the quorum", roles, ["leader", "voter", "voter"])
    features = {one["feature"]: one for one in lines("cluster", "features", *cluster.to())}
    expect("metadata.version", features["metadata.version"]["level"], 30)
    for command in (("nodes",), ("quorum",), ("features",)):
        expect_in("for people", "1", klamm_out("cluster", *command, *cluster.to()).decode())


def sets_features(cluster, tools):
    def level():
        return {one["feature"]: one["level"] for one in lines("cluster", "features", *cluster.to())}["share.version"]

    before = level()
    wanted = 1 - before
    how = ("--downgrade",) if wanted < before else ()
    klamm_out("cluster", "set-feature", f"share.version={wanted}", *how, *cluster.to())
    expect("asking changes nothing", level(), before)
    klamm_out("cluster", "set-feature", f"share.version={wanted}", *how, "--execute", *cluster.to())
    wait_until("the feature has its level", lambda: level() == wanted, 20)
    described = tools.out("features", "--bootstrap-server", cluster.bootstrap, "describe")
    expect_in("kafka-features", f"Feature: share.version SupportedMinVersion: 0 SupportedMaxVersion: 1 FinalizedVersionLevel: {wanted}",
              " ".join(described.split()))
    if wanted < before:
        klamm_out("cluster", "set-feature", f"share.version={before}", "--execute", *cluster.to())
    else:
        refused("cluster", "set-feature", f"share.version={before}", "--execute", *cluster.to())
        klamm_out("cluster", "set-feature", f"share.version={before}", "--downgrade", "--execute", *cluster.to())
    wait_until("the feature is back", lambda: level() == before, 20)
    expect_in("a feature that is none", "no.such", refused("cluster", "set-feature", "no.such=1", "--execute", *cluster.to()))


def refuses_voters(cluster):
    """The voters of this quorum are fixed in its nodes' files."""
    said = refused("cluster", "add-voter", 4, "--directory", "AAAAAAAAAAAAAAAAAAAAAg", "--listener", "CONTROLLER=127.0.0.1:1", *cluster.to())
    expect_in("add-voter", "error", said)
    said = refused("cluster", "remove-voter", 3, "--directory", "AAAAAAAAAAAAAAAAAAAAAg", "--execute", *cluster.to())
    expect_in("remove-voter", "error", said)


def plans_and_runs(cluster):
    klamm_out("topics", "create", "moved", "-p", 3, "-r", 2, *cluster.to())
    klamm_out("produce", "moved", *cluster.to(), given="".join(f"{n}\n" for n in range(30_000)))
    plan = klamm_out("reassign", "plan", "moved", "--decommission", 3, *cluster.to())
    for one in json.loads(plan)["partitions"]:
        expect("a plan without broker 3", sorted(one["replicas"]), [1, 2])
    done = lines("reassign", "run", "-", "--throttle", "50MiB", *cluster.to(), given=plan)
    expect("all that had to move did", all(one["moved"] for one in done), True)
    for replicas in cluster.replicas("moved").values():
        expect("replicas", sorted(replicas), [1, 2])
    expect("the throttle is removed", throttles(cluster, "moved"), [])
    klamm_out("reassign", "status", "-", *cluster.to(), given=plan)
    grown = klamm_out("reassign", "plan", "moved", "--replication-factor", 3, *cluster.to())
    klamm_out("reassign", "run", "-", *cluster.to(), given=grown)
    expect("three replicas", {len(replicas) for replicas in cluster.replicas("moved").values()}, {3})
    expect("records", len(klamm_out("consume", "moved", "-e", *cluster.to()).splitlines()), 30_000)


def throttles(cluster, topic):
    """What limits replication, on the topic and on brokers."""
    found = []
    for entity in (f"topic:{topic}", "broker:1", "broker:2", "broker:3"):
        for one in lines("configs", "get", entity, *cluster.to()):
            name = one.get("key") or one.get("name") or ""
            if "throttled" in name and one.get("value") and "default" not in str(one.get("source", "")).lower():
                found.append((entity, name))
    return found


def interrupts_a_run(cluster):
    """A slow reassignment: its command is interrupted, the state is shown, another command waits for its end."""
    klamm_out("topics", "create", "slow", "-p", 1, "-r", 1, *cluster.to())
    ((before,),) = cluster.replicas("slow").values()
    other = before % 3 + 1
    blob = os.urandom(200_000).hex() + "\n"
    klamm_out("produce", "slow", *cluster.to(), given=blob * 60, seconds=120)
    wish = f"slow:0={other}"
    run = subprocess.Popen([klamm(), "reassign", "run", wish, "--throttle", "1MiB", *cluster.to()], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until("it is under way", lambda: lines("reassign", "status", *cluster.to()), 30)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=30)
    expect("interrupted", run.returncode, 130)
    expect_in("what goes on is said", "goes on", said.decode())
    expect("a throttle is set", bool(throttles(cluster, "slow")), True)
    refused("reassign", "status", wish, *cluster.to(), code=4)
    refused("reassign", "run", wish, "--give-up-after", "200ms", *cluster.to(), code=4)
    klamm_out("reassign", "run", wish, "--throttle", "200MiB", *cluster.to(), seconds=120)
    expect("where it was to go", cluster.replicas("slow"), {0: [other]})
    expect("the throttle is removed", throttles(cluster, "slow"), [])
    # Once more, and given up.
    klamm_out("reassign", "run", f"slow:0={before}", "--throttle", "1MiB", "--no-wait", *cluster.to())
    shown = run_klamm("reassign", "cancel", "slow:0", *cluster.to())
    expect("cancel shows first", shown[0], 0)
    expect("and does nothing", len(lines("reassign", "status", *cluster.to())), 1)
    klamm_out("reassign", "cancel", "slow:0", "--execute", *cluster.to())
    wait_until("nothing is under way", lambda: not lines("reassign", "status", *cluster.to()), 30)
    expect("where it was", cluster.replicas("slow"), {0: [other]})
    expect("the throttle is removed", throttles(cluster, "slow"), [])


def audits(cluster):
    to = cluster.to()
    klamm_out("topics", "create", "audited", "-p", 3, "-r", 3, *to)
    # Minutes that are over: nothing waits for the end of this one.
    klamm_out("produce", "audited", "--audit", "counts", "--timestamp", "-10m", "-K", ":", *to,
              given="".join(f"{n}:{n}\n" for n in range(10_000)))
    klamm_out("consume", "audited", "-e", "--audit", "counts", "--audit-as", "whole", *to)
    klamm_out("consume", "audited", "-e", "-p", "0,1", "--audit", "counts", "--audit-as", "part", *to)
    for _ in range(2):
        klamm_out("consume", "audited", "-e", "-g", "twice", "--commit", "never", "--audit", "counts", *to)
    expect("open minutes are not judged", {row["verdict"] for row in lines("audit", "counts", "--grace", "1h", *to)}, {"open"})

    def judged(name):
        code, out, _ = run_klamm("audit", "counts", "--consumer", name, "--json", *to)
        return code, [json.loads(line) for line in out.splitlines()]

    code, rows = judged("whole")
    expect("all was consumed", (code, {row["verdict"] for row in rows}, sum(row["produced"] for row in rows)), (0, {"same"}, 10_000))
    code, rows = judged("part")
    expect("a partition is missing", (code, {row["verdict"] for row in rows}), (3, {"missing"}))
    code, rows = judged("twice")
    expect("all was consumed twice", (code, sum(row["difference"] for row in rows), sum(row["read_twice_at_least"] for row in rows)), (3, 10_000, 10_000))
    expect_in("in words", "missing", refused("audit", "counts", "--consumer", "part", *to, code=3))


def verifies_sound_replicas(cluster):
    to = cluster.to()
    klamm_out("topics", "create", "kept", "-p", 3, "-r", 3, *to)
    klamm_out("topics", "create", "keyed", "-p", 1, "-r", 3, "--config", "cleanup.policy=compact", *to)
    klamm_out("produce", "kept", *to, given="".join(f"line {n}\n" for n in range(50_000)))
    klamm_out("produce", "kept", "-z", "zstd", "-p", 0, *to, given=f"{MARK}\n")
    klamm_out("produce", "kept", "-p", 1, *to, given=f"{MARK}\n")
    klamm_out("produce", "keyed", "-K", " ", *to, given="".join(f"{n % 100} {n}\n" for n in range(5_000)))
    code, out, err = run_klamm("verify", *to, "--json")
    expect(f"all topics: exit code ({out[-600:]!r} {err[-300:]!r})", code, 0)
    found = [json.loads(line) for line in out.splitlines()]
    expect("nothing is wrong", [one for one in found if one.get("severity") or one["findings"]], [])
    kept = [one for one in found if one["topic"] == "kept"]
    expect("all of it was compared", (sum(one["to"] for one in kept), {one["copies"] for one in kept}), (50_002, {3}))
    expect_in("for people", "kept", klamm_out("verify", *to, "kept").decode())
    expect_in("a topic that is none", "no-such", refused("verify", *to, "no-such"))


def finds_a_replica_that_a_disk_has_changed(cluster):
    """One replica is down, which is said; while it is, a byte of its segment is changed."""
    to = cluster.to()
    (described,) = lines("topics", "describe", "kept", *to)
    leader = next(one["leader"] for one in described["partitions"] if one["partition"] == 1)
    node = leader % 3 + 1
    cluster.stop(node)
    wait_until("it is said to be down", lambda: klamm_out("topics", "describe", "kept", "--under-replicated", *to) != b"", 60)
    expect_in("a replica that is down", f"not compared: broker {node}", refused("verify", *to, "kept"))
    expect("under-replicated partitions", run_klamm("topics", "describe", "kept", "--under-replicated", "--fail-if-any", *to)[0], 4)
    expect("none is offline", klamm_out("topics", "describe", "kept", "--offline", *to), b"")
    expect("none is at its minimum", klamm_out("topics", "describe", "kept", "--at-min-isr", *to), b"")
    klamm_out("configs", "set", "topic:kept", "min.insync.replicas=2", *to)
    expect_in("all are at their minimum", "kept", klamm_out("topics", "describe", "kept", "--at-min-isr", *to).decode())
    segment = cluster.log(node, "kept-1")
    content = bytearray(segment.read_bytes())
    at = content.rindex(MARK.encode())
    content[at] ^= 1
    segment.write_bytes(content)
    cluster.start(node)
    cluster.in_sync()
    code, out, err = run_klamm("verify", *to, "kept", "--json")
    found = [json.loads(line) for line in out.splitlines()]
    wrong = [one for one in found if one.get("severity")]
    expect(f"a difference is found: exit code ({err[-300:]!r})", code, 3)
    expect("one difference", [(one["severity"], one["topic"], one["partition"]) for one in wrong], [("difference", "kept", 1)])
    blamed = [held["brokers"] for held in wrong[0]["held"] if "CRC" in held["what"]]
    expect("whose it is", blamed, [[node]])
    expect_in("in words", f"broker {node}: ", refused("verify", *to, "kept", code=3))


def has_preferred_leaders_elected(cluster):
    """After a restart others lead; without waiting for the controller's own balancing they are changed back."""
    to = cluster.to()
    (described,) = lines("topics", "describe", "kept", *to)
    moved = [one for one in described["partitions"] if one["leader"] != one["replicas"][0]]
    elected = lines("cluster", "elect-leaders", "kept", *to)
    expect("those that had another leader", len(elected), len(moved))
    (described,) = lines("topics", "describe", "kept", *to)
    expect("all are led by their first", [one["leader"] for one in described["partitions"]], [one["replicas"][0] for one in described["partitions"]])
    expect("nothing more to do", lines("cluster", "elect-leaders", "kept", *to), [])


def moves_to_a_broker_that_dies(cluster):
    """The target of a reassignment is down: it is said, and cancelled; then the broker is unregistered."""
    to = cluster.to()
    leader = next(iter(cluster.replicas("slow").values()))[0]
    (quorum,) = [one["node"] for one in lines("cluster", "quorum", *to) if one.get("role") == "leader"]
    dead = next(node for node in (1, 2, 3) if node not in (leader, quorum))
    cluster.stop(dead)
    cluster.wait_for(dead, "fenced")
    code, out, err = run_klamm("reassign", "run", f"slow:0={dead}", "--give-up-after", "9s", *to)
    expect(f"a dead target ({(out + err).decode()[-300:]})", code in (1, 4), True)
    expect_in("it is named", str(dead), (out + err).decode())
    run_klamm("reassign", "cancel", "--all", "--execute", *to)
    wait_until("nothing is under way", lambda: not lines("reassign", "status", *to), 30)
    expect("where it was", cluster.replicas("slow"), {0: [leader]})
    klamm_out("cluster", "unregister", dead, *to)
    cluster.wait_for(dead, "fenced")
    lines("cluster", "unregister", dead, "--execute", *to)
    # Its controller stays a voter.
    cluster.wait_for(dead, "controller")


class DynamicQuorum:
    """A node that is its own dynamic quorum, and a controller that follows it without a vote."""

    def __init__(self, world):
        self.port = free_ports(4)
        self.broker = world.broker("kafka", "dynamic-kafka", args=("--standalone",), port=self.port)
        self.folder = world.folder / "dynamic-controller"
        self.folder.mkdir()
        self.properties = self.folder / "server.properties"
        self.properties.write_text(
            "process.roles=controller\nnode.id=2\n"
            f"controller.quorum.bootstrap.servers=127.0.0.1:{self.port + 1}\n"
            f"listeners=CONTROLLER://127.0.0.1:{self.port + 3}\ncontroller.listener.names=CONTROLLER\n"
            f"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\nlog.dirs={self.folder}/logs\n")
        cluster_id = (self.broker.directory / "cluster.id").read_text().strip()
        done = subprocess.run([KAFKA, "tool", "storage", "format", "--no-initial-controllers", "-t", cluster_id, "-c", self.properties],
                              capture_output=True, text=True)
        expect(f"format: {done.stderr}", done.returncode, 0)
        talk = open(self.folder / "out", "wb")  # noqa: SIM115
        self.process = subprocess.Popen([KAFKA, "java", "-Xmx256m", "kafka.Kafka", self.properties], stdout=talk, stderr=talk,
                                        start_new_session=True)

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.broker.kill()


def changes_voters(world):
    quorum = DynamicQuorum(world)
    try:
        to = ("-b", quorum.broker.bootstrap)

        def roles():
            return {one["node"]: one["role"] for one in lines("cluster", "quorum", *to) if "role" in one}

        wait_until("the controller follows", lambda: roles().get(2) == "observer", 60)
        # It follows a moment before its door is open.
        adding = ("cluster", "add-voter", 2, "--listener", f"CONTROLLER=127.0.0.1:{quorum.port + 3}", *to)
        wait_until("its vote is taken", lambda: run_klamm(*adding)[0] == 0, 60)
        wait_until("it votes", lambda: roles().get(2) in ("voter", "leader"), 30)
        klamm_out("cluster", "remove-voter", 2, *to)
        expect("showing changes nothing", roles().get(2), "voter")
        klamm_out("cluster", "remove-voter", 2, "--execute", *to)
        wait_until("it votes no more", lambda: roles().get(2) in ("observer", None), 30)
    finally:
        quorum.close()


def common(book, cluster):
    """What holds against either."""
    def case(name, call, *args):
        book.case(f"{name} ({cluster.name})", call, cluster, *args)

    case("cluster nodes, quorum and features", shows_the_cluster)
    case("reassign plan and run, with a throttle", plans_and_runs)
    case("reassign: interrupted, shown, taken up again, cancelled", interrupts_a_run)
    case("produce and consume count, audit compares", audits)
    case("verify -b: replicas that hold the same", verifies_sound_replicas)
    case("verify -b: a replica that a disk has changed; topics describe's filters", finds_a_replica_that_a_disk_has_changed)
    case("cluster elect-leaders", has_preferred_leaders_elected)


def cases(world, book):
    cluster = Kafka(world)
    common(book, cluster)
    book.case("cluster set-feature", sets_features, cluster, world.tools())
    book.case("fixed voters are neither added nor removed", refuses_voters, cluster)
    book.case("reassign to a broker that is down; cluster unregister", moves_to_a_broker_that_dies, cluster)
    cluster.close()
    if world.target == "klamm":
        book.case("cluster add-voter and remove-voter", changes_voters, world)
        cluster = Klamm(world)
        common(book, cluster)
        cluster.close()
