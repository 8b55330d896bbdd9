"""Kafka's tools and clients on a cluster of three klamm nodes: its quorum, its replicas, its metadata log; and groups that
go on when the broker that leads their partitions, or coordinates them, is killed."""

import json
import re
import shutil
import signal
import subprocess
import time

from harness import Mismatch, expect, expect_in, free_ports, klamm, klamm_out, read_line, tail, wait_until
from suites.groups import Member

NODES = (1, 2, 3)
SELECTOR = "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector"
LINES = "".join(f"line {number}\n" for number in range(3000))


class Cluster:
    """Nodes of one quorum, each broker and controller."""

    def __init__(self, world, name):
        self.folder = world.folder / name
        self.folder.mkdir()
        first = free_ports(8)
        self.clients = {node: first + node - 1 for node in (*NODES, 4)}
        self.controllers = {node: first + 3 + node for node in (*NODES, 4)}
        self.running = {}
        world.running.append(self)
        for node in NODES:
            self.start(node, wait=False)
        for node in NODES:
            self.await_ready(node)

    @property
    def bootstrap(self):
        return ",".join(f"127.0.0.1:{port}" for node, port in self.clients.items() if node in NODES)

    def quorum(self):
        return ",".join(f"{node}@127.0.0.1:{self.controllers[node]}" for node in NODES)

    def start(self, node, wait=True, args=None, directory=None):
        args = args or ("--node", str(node), "--quorum", self.quorum(), "--listen", f"127.0.0.1:{self.clients[node]}",
                        "--set", "metadata.log.max.record.bytes.between.snapshots=5000", "--set", f"broker.rack=rack-{node}",
                        "--set", SELECTOR, "-d", self.folder / (directory or f"n{node}"))
        with open(self.folder / f"n{node}.out", "ab") as log:
            self.running[node] = subprocess.Popen([klamm(), "serve", *args], stdout=subprocess.PIPE, stderr=log, text=True)
        if wait:
            self.await_ready(node)

    def await_ready(self, node):
        line = read_line(self.running[node], 60)
        if not line.startswith("ready "):
            raise Mismatch(f"node {node}: no ready line but {line!r}; {tail(self.folder / f'n{node}.out')}")

    def kill_node(self, node):
        process = self.running.pop(node)
        process.kill()
        process.wait()

    def stop_node(self, node):
        process = self.running.pop(node)
        process.send_signal(signal.SIGTERM)
        expect(f"exit code of node {node} after SIGTERM", process.wait(30), 0)

    def kill(self):
        for node in list(self.running):
            self.kill_node(node)

    def directory(self, node, meta="directory.id"):
        text = (self.folder / f"n{node}/meta.properties").read_text()
        return re.search(rf"{re.escape(meta)}=(\S+)", text)[1]


def fields(text):
    """`name: value` lines, and the tables of Kafka's tools in lists of words."""
    return dict(re.split(r":\s+", line, maxsplit=1) for line in text.splitlines() if re.match(r"\w+:\s", line))


def partitions(tools, to, topic):
    """Leader, replicas and ISR of each partition."""
    out = tools.out("topics", *to, "--describe", "--topic", topic)
    found = re.findall(r"Partition: (\d+)\s+Leader: (\S+)\s+Replicas: ([\d,]+)\s+Isr: ([\d,]*)", out)
    numbers = lambda text: [int(word) for word in text.split(",") if word]  # noqa: E731
    return {int(number): (leader, numbers(replicas), sorted(numbers(isr))) for number, leader, replicas, isr in found}


def quorum_is_described(tools, to, cluster):
    status = fields(tools.out("metadata-quorum", *to, "describe", "--status"))
    voters = json.loads(status["CurrentVoters"])
    expect("voters", sorted((voter["id"], voter["directoryId"]) for voter in voters),
           [(node, cluster.directory(node)) for node in NODES])
    expect("observers", json.loads(status["CurrentObservers"]), [])
    rows = [line.split() for line in tools.out("metadata-quorum", *to, "describe", "--replication").splitlines()[1:] if line]
    expect("nodes", sorted(int(row[0]) for row in rows), list(NODES))
    expect("roles", sorted(row[-1] for row in rows), ["Follower", "Follower", "Leader"])
    out = tools.out("metadata-quorum", "--bootstrap-controller", f"127.0.0.1:{cluster.controllers[2]}", "describe", "--status")
    expect("the same at a controller's door", fields(out)["LeaderId"], status["LeaderId"])


def voters_come_and_go(tools, to, cluster, folder):
    properties = folder / "n4.properties"
    properties.write_text("\\n".join([
        "process.roles=broker,controller", "node.id=4", "controller.listener.names=CONTROLLER",
        f"listeners=PLAINTEXT://127.0.0.1:{cluster.clients[4]},CONTROLLER://127.0.0.1:{cluster.controllers[4]}",
        f"controller.quorum.bootstrap.servers=127.0.0.1:{cluster.controllers[1]}",
        f"log.dirs={cluster.folder / 'n4'}", f"metadata.log.dir={cluster.folder / 'n4'}", ""]).replace("\\n", "\n"))
    cluster_id = cluster.directory(1, "cluster.id")
    cluster.start(4, args=("--config", properties, "--cluster-id", cluster_id))

    # An observer that is gone stays listed for five minutes, so that another directory may stand there for node 4, too.
    directory = cluster.directory(4)

    def comes_to(*wanted):
        def has_come():
            listed = tools.out("metadata-quorum", *to, "describe", "--replication")
            return any(line.split()[:2] == ["4", directory] and line.split()[-1] in wanted for line in listed.splitlines())
        wait_until(f"node 4 is {' or '.join(wanted)}", has_come, 30)

    comes_to("Observer")
    tools.out("metadata-quorum", *to, "--command-config", properties, "add-controller")
    # An election may fall upon it, too.
    comes_to("Follower", "Leader")
    remove = ("remove-controller", "--controller-id", "4", "--controller-directory-id", directory)
    tools.out("metadata-quorum", *to, *remove)
    comes_to("Observer")
    cluster.stop_node(4)
    cluster.start(4, args=("--config", properties, "--set", "controller.quorum.auto.join.enable=true"))
    comes_to("Follower", "Leader")
    cluster.stop_node(4)
    tools.out("metadata-quorum", *to, *remove)
    out = tools.out("cluster", "unregister", *to, "--id", "4")
    expect_in("unregistered", "4", out)


def topics_are_made_and_shown(tools, to, cluster):
    tools.out("topics", *to, "--create", "--topic", "made", "--partitions", "6", "--replication-factor", "3",
              "--config", "min.insync.replicas=2")
    found = partitions(tools, to, "made")
    expect("partitions", sorted(found), list(range(6)))
    expect("leaders", sorted(int(leader) for leader, _, _ in found.values()), [1, 1, 2, 2, 3, 3])
    expect("in sync", {tuple(isr) for _, _, isr in found.values()}, {(1, 2, 3)})
    expect("under-replicated", tools.out("topics", *to, "--describe", "--under-replicated-partitions").count("Topic:"), 0)
    klamm_out("produce", "made", "-b", cluster.bootstrap, "--partitioner", "round-robin", given=LINES)


def replicas_move(tools, to, cluster, folder):
    tools.out("topics", *to, "--create", "--topic", "moving", "--replica-assignment", "1:2,2:3")
    klamm_out("produce", "moving", "-b", cluster.bootstrap, "--partitioner", "round-robin", given=LINES)
    plan = folder / "plan.json"
    wish = [{"topic": "moving", "partition": number, "replicas": replicas} for number, replicas in ((0, [3, 2]), (1, [1, 3]))]
    plan.write_text(json.dumps({"version": 1, "partitions": wish}))
    with_plan = ("--reassignment-json-file", plan)
    out = tools.out("reassign-partitions", *to, *with_plan, "--execute", "--throttle", "50000000")
    expect_in("execute", "Successfully started partition reassignments", out)

    def is_done():
        out = tools.out("reassign-partitions", *to, *with_plan, "--verify")
        return out.count("is completed.") == 2 and "Clearing topic-level throttles" in out

    wait_until("the replicas have moved", is_done, 30)
    found = partitions(tools, to, "moving")
    expect("replicas", [found[number][1] for number in (0, 1)], [[3, 2], [1, 3]])
    shown = tools.out("topics", *to, "--describe", "--topic", "moving")
    expect("throttles are gone", "throttled" in shown, False)
    expect("content", sorted(klamm_out("consume", "moving", "-e", "-b", cluster.bootstrap).decode().splitlines()),
           sorted(LINES.splitlines()))


def leaders_are_elected(tools, to, cluster):
    cluster.stop_node(1)
    away = partitions(tools, to, "made")
    expect("leaders without node 1", "1" in {leader for leader, _, _ in away.values()}, False)
    cluster.start(1)
    wait_until("all are in sync", lambda: all(isr == [1, 2, 3] for _, _, isr in partitions(tools, to, "made").values()), 30)
    tools.out("leader-election", *to, "--election-type", "preferred", "--all-topic-partitions")
    back = partitions(tools, to, "made")
    expect("preferred leaders", [int(leader) == replicas[0] for leader, replicas, _ in back.values()], [True] * 6)


def readers_are_sent_to_their_racks(tools, to, cluster):
    klamm_out("topics", "create", "near", "--replica-assignment", "1:2:3", "-b", cluster.bootstrap)
    klamm_out("produce", "near", "-b", cluster.bootstrap, given=LINES)
    kcat = subprocess.run(["kcat", "-C", "-b", cluster.bootstrap, "-t", "near", "-e", "-o", "beginning", "-X", "client.rack=rack-3",
                           "-X", "check.crcs=true", "-d", "topic"], capture_output=True, timeout=60, text=True, check=True)
    expect("what kcat reads", kcat.stdout == LINES, True)
    expect_in("kcat goes to the follower in its rack", "migrating from broker 1 to 3", kcat.stderr)
    out = tools.out("console-consumer", *to, "--topic", "near", "--from-beginning", "--max-messages", 3000, "--timeout-ms", 30000,
                    "--command-property", "client.rack=rack-2")
    expect("what Java's consumer reads", out == LINES, True)
    expect("what klamm reads", klamm_out("consume", "near", "-e", "-X", "client.rack=rack-3", "-b", cluster.bootstrap).decode() == LINES, True)


def leaders_that_were_not_in_sync(tools, to, cluster):
    """Brokers 4 and 1 keep the topic; 1 lacks its second half when 4 is gone."""
    cluster.start(4, directory="n4-unclean")
    klamm_out("topics", "create", "halved", "--replica-assignment", "4:1", "-b", cluster.bootstrap)
    klamm_out("produce", "halved", "-b", cluster.bootstrap, given="first\n")
    wait_until("both are in sync", lambda: partitions(tools, to, "halved") == {0: ("4", [4, 1], [1, 4])}, 30)
    cluster.kill_node(1)
    wait_until("one is in sync", lambda: partitions(tools, to, "halved")[0][2] == [4], 30)
    klamm_out("produce", "halved", "-b", cluster.bootstrap, given="second\n")
    cluster.kill_node(4)
    cluster.start(1)
    wait_until("nobody leads", lambda: partitions(tools, to, "halved")[0][0] == "none", 30)
    elect = ("leader-election", *to, "--topic", "halved", "--partition", "0", "--election-type")
    code, out, err = tools.run(*elect, "preferred")
    expect_in("a preferred one that is away", "PreferredLeaderNotAvailable", out + err)
    expect_in("an unclean election", "Successfully completed leader election (UNCLEAN)", tools.out(*elect, "unclean"))
    klamm_out("produce", "halved", "-b", cluster.bootstrap, given="third\n")
    cluster.start(4, directory="n4-unclean")
    wait_until("both are in sync again", lambda: partitions(tools, to, "halved")[0][2] == [1, 4], 30)
    expect("what is left", klamm_out("consume", "halved", "-e", "-b", cluster.bootstrap).decode(), "first\nthird\n")
    tools.out("leader-election", *elect[1:], "preferred")
    expect("the preferred leader", partitions(tools, to, "halved")[0][0], "4")
    klamm_out("topics", "delete", "halved", "--execute", "-b", cluster.bootstrap)
    cluster.stop_node(4)
    tools.out("cluster", "unregister", *to, "--id", "4")


def configs_are_set(tools, to):
    for entity in ("brokers", "--entity-name", "2"), ("brokers", "--entity-default"), ("topics", "--entity-name", "made"):
        kind, *which = entity
        change = "retention.ms=3600000" if kind == "topics" else "log.cleaner.threads=2"
        of = (*to, "--entity-type", kind, *which)
        tools.out("configs", *of, "--alter", "--add-config", change)
        wait_until(f"{entity} is set", lambda of=of, change=change: change in tools.out("configs", *of, "--describe"), 10)
        tools.out("configs", *of, "--alter", "--delete-config", change.split("=")[0])


def directories_cluster_and_features(tools, to, cluster):
    out = tools.out("log-dirs", *to, "--describe", "--topic-list", "made")
    brokers = json.loads(out.splitlines()[-1])["brokers"]
    held = {broker["broker"]: sum(len(dir["partitions"]) for dir in broker["logDirs"]) for broker in brokers}
    expect("logs of each broker", held, {1: 6, 2: 6, 3: 6})
    expect_in("cluster-id", cluster.directory(1, "cluster.id"), tools.out("cluster", "cluster-id", *to))
    expect("endpoints", tools.out("cluster", "list-endpoints", *to).count("unfenced"), 3)
    found = re.findall(r"Feature: (\S+).*?FinalizedVersionLevel: (\S+)", tools.out("features", *to, "describe"))
    expect_in("features", ("kraft.version", "1"), found)
    expect_in("features", ("metadata.version", "4.3-IV0"), found)


def metadata_is_read(tools, cluster):
    def snapshots():
        found = cluster.folder.glob("n*/__cluster_metadata-0/*.checkpoint")
        return sorted(path for path in found if not path.name.startswith("0" * 20))

    klamm_out("topics", "create", "told", "-p", "60", "-r", "3", "-b", cluster.bootstrap)
    wait_until("there is a snapshot", snapshots, 20)
    newest = snapshots()[-1]
    out = tools.out("dump-log", "--cluster-metadata-decoder", "--files", newest.parent / "00000000000000000000.log")
    for part in ("LeaderChange", "KRaftVoters", "REGISTER_BROKER_RECORD", "PARTITION_RECORD"):
        expect_in("dump-log", part, out)
    out = tools.out("dump-log", "--cluster-metadata-decoder", "--files", newest)
    expect_in("dump-log of a snapshot", "SnapshotFooter", out)
    # The shell wants the lock of the directory, which its broker holds.
    copied = cluster.folder / "copied" / newest.name
    copied.parent.mkdir()
    shutil.copy(newest, copied)
    expect_in("metadata-shell", "topics", tools.listed_of_snapshot(copied, "/image"))


def group_survives(world, cluster, kind, whom):
    """Whose broker is killed: the leader of the group's topic, or its coordinator. What was committed stays."""
    topic, group = f"read-{kind}-{whom}", f"group-{kind}-{whom}"
    klamm_out("topics", "create", topic, "-p", "1", "-r", "3", "--config", "min.insync.replicas=2", "-b", cluster.bootstrap)
    klamm_out("produce", topic, "-b", cluster.bootstrap, given=LINES)
    member = Member(world, kind, cluster.bootstrap, group, topic)
    wait_until("the first part is read", lambda: len(member.records) >= 3000, 120)

    def committed():
        lines = klamm_out("groups", "lag", group, "-b", cluster.bootstrap, "--json").decode().splitlines()
        return sum(json.loads(line).get("current") or 0 for line in lines)

    wait_until("the first part is committed", lambda: committed() == 3000, 60)
    described = [json.loads(line) for line in klamm_out("groups", "describe", group, "-b", cluster.bootstrap, "--json").decode().splitlines()]
    shown = json.loads(klamm_out("topics", "describe", topic, "-b", cluster.bootstrap, "--json").decode().splitlines()[0])
    node = int(described[0]["coordinator"]) if whom == "coordinator" else int(shown["partitions"][0]["leader"])
    cluster.kill_node(node)
    klamm_out("produce", topic, "-b", cluster.bootstrap, given=LINES)
    wait_until("the second part is read", lambda: len({offset for _, offset in member.records}) >= 6000, 120)
    wait_until("the second part is committed", lambda: committed() == 6000, 60)
    member.stop()
    cluster.start(node)
    # Who comes after begins behind the commit.
    last = Member(world, kind, cluster.bootstrap, group, topic)
    klamm_out("produce", topic, "-b", cluster.bootstrap, given="one more\n")
    wait_until("the one more is read", lambda: last.records, 120)
    expect("what the next member reads first", last.records[0][1], 6000)
    last.stop()
    expect("records in order", [offset for _, offset in member.records][:6000] == list(range(6000)), True)


def cases(world, book):
    if world.target != "klamm":
        book.case("the cluster under test is klamm's", lambda: None)
        return
    cluster = Cluster(world, "quorum")
    to = ("--bootstrap-server", cluster.bootstrap)
    tools = world.tools()
    case = book.case
    case("kafka-metadata-quorum describe", quorum_is_described, tools, to, cluster)
    case("kafka-topics", topics_are_made_and_shown, tools, to, cluster)
    case("kafka-reassign-partitions with a throttle", replicas_move, tools, to, cluster, world.folder)
    case("kafka-leader-election after a clean stop", leaders_are_elected, tools, to, cluster)
    case("readers are sent to their racks: kcat, kafka-console-consumer, klamm", readers_are_sent_to_their_racks, tools, to, cluster)
    case("kafka-leader-election of one that was not in sync", leaders_that_were_not_in_sync, tools, to, cluster)
    case("kafka-configs of any broker", configs_are_set, tools, to)
    case("kafka-log-dirs, kafka-cluster, kafka-features", directories_cluster_and_features, tools, to, cluster)
    case("kafka-metadata-quorum add-controller, remove-controller; a controller that joins; kafka-cluster unregister", voters_come_and_go, tools, to, cluster, world.folder)
    for kind, whom in (("kcat", "leader"), ("java", "coordinator")):
        case(f"{kind} in a group whose {whom} is killed", group_survives, world, cluster, kind, whom)
    case("kafka-dump-log, kafka-metadata-shell", metadata_is_read, tools, cluster)
