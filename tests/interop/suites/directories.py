"""Log directories change hands: Kafka's in klamm, klamm's in Kafka, and never both at once."""

import shutil
import subprocess

from harness import (CODECS, KAFKA, ROOT, KafkaBroker, KlammBroker, Mismatch, expect, expect_in, free_ports, klamm_out, run_klamm)
from suites.clients import fingerprint, record, records_for

CLEAN = ROOT / "testdata/kafka/clean"


def refused_while_kafka_runs(world):
    kafka = world.shared("kafka")
    for args in (["serve", "--listen", "127.0.0.1:0"], ["produce", "any"]):
        code, out, err = run_klamm(*args, "-d", kafka.log_dir, given="x\n", seconds=20)
        said = (out + err).decode()
        expect(f"klamm {args[0]}: exit code", code, 1)
        expect_in(f"klamm {args[0]} says why", "in use by another broker", said)
    world.client("confluent", kafka.bootstrap).admin(topic="still-alive")


def kafka_refused_while_klamm_runs(world):
    folder = world.folder / "locked"
    (folder).mkdir()
    klamm = KlammBroker(folder / "1")
    world.running.append(klamm)
    done = subprocess.run([KAFKA, "start", folder, "--port", str(free_ports(2)), "--standalone", "--adopt"], capture_output=True, text=True)
    if done.returncode == 0:
        subprocess.run([KAFKA, "kill", folder], check=False)
        raise Mismatch("Apache Kafka started on a directory that klamm holds")
    expect_in("Kafka says why", "lock", (folder / "1.out").read_text().lower())
    world.client("confluent", klamm.bootstrap).admin(topic="still-alive")
    klamm.stop()


def read_all(world, bootstrap, topics):
    return {
        topic: [fingerprint(r) for r in world.client("java", bootstrap).consume(topic=topic, partition=0, count=count)["records"]]
        for topic, count in topics.items()
    }


def with_authorizer(*settings):
    """Options for a Kafka that honours the ACLs of its directory, and lets everybody in beside them."""
    authorizer = ("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer", "allow.everyone.if.no.acl.found=true",
                  "super.users=User:ANONYMOUS")
    return [word for setting in (*authorizer, *settings) for word in ("--set", setting)]


def refused_until(world, folder, word):
    """klamm names what it cannot honour, and leaves the directory to Kafka."""
    code, out, err = run_klamm("serve", "-d", folder / "1", "--listen", "127.0.0.1:0", seconds=20)
    expect("exit code", code, 1)
    expect_in("it says why", word, (out + err).decode())


def kafka_to_klamm(world):
    """The committed directory of Apache Kafka, served by klamm, written to, and back in Apache Kafka."""
    folder = world.folder / "kafka-to-klamm"
    shutil.copytree(CLEAN, folder / "1")
    refused_until(world, folder, "ACLs")
    # offset counts: with gaps, markers and DeleteRecords left out, so that a count is an end.
    topics = {f"codec-{codec}": 16 for codec in CODECS} | {"idempotent": 56, "binary": 4, "append-time": 16, "segments": 121}
    kafka = KafkaBroker(folder, "--standalone", "--adopt", *with_authorizer())
    world.running.append(kafka)
    by_kafka = read_all(world, kafka.bootstrap, topics)
    # What klamm's refusal says is to be done.
    world.tools().out("acls", "--bootstrap-server", kafka.bootstrap, "--remove", "--force", "--group", "*", "--operation", "Describe",
                      "--deny-principal", "User:bob", "--deny-host", "10.0.0.1")
    kafka.stop()
    refused_until(world, folder, "SCRAM")
    kafka = KafkaBroker(folder, "--standalone", "--adopt", *with_authorizer())
    world.running.append(kafka)
    world.tools().out("configs", "--bootstrap-server", kafka.bootstrap, "--alter", "--entity-type", "users", "--entity-name", "alice",
                      "--delete-config", "SCRAM-SHA-256")
    kafka.stop()
    klamm = KlammBroker(folder / "1")
    world.running.append(klamm)
    by_klamm = read_all(world, klamm.bootstrap, topics)
    for topic in topics:
        expect(f"{topic}: what Java reads from klamm and from Kafka", by_klamm[topic], by_kafka[topic])
    sent = records_for("java")
    answer = world.client("java", klamm.bootstrap).produce(topic="binary", records=sent, codec="zstd", idempotent=True)
    expect("offsets that follow", [offset for _, offset in answer["placed"]], list(range(4, 4 + len(sent))))
    klamm.stop()
    kafka = KafkaBroker(folder, "--standalone", "--adopt")
    world.running.append(kafka)
    again = read_all(world, kafka.bootstrap, {"binary": 4 + len(sent)})["binary"]
    expect("read back by Kafka", again, by_kafka["binary"] + [fingerprint(r) for r in sent])
    kafka.stop()


# Every few records a snapshot, in both brokers.
SNAPSHOTS = "metadata.log.max.record.bytes.between.snapshots=3000"
MADE = {"keyed": {"retention.ms": "-1", "segment.bytes": "1048576"}, "compacted": {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"}}


def snapshots(folder):
    return sorted(path.name for path in (folder / "__cluster_metadata-0").glob("*-*.checkpoint"))


def described(world, bootstrap):
    """What Kafka's tools say of topics and configurations: ids, replicas, epochs left out."""
    tools = world.tools()
    lines = tools.out("topics", "--bootstrap-server", bootstrap, "--describe").splitlines()
    topics = sorted(line.split("Configs:")[0] for line in lines if line.startswith("Topic:"))
    configs = []
    for topic in sorted(MADE):
        said = tools.out("configs", "--bootstrap-server", bootstrap, "--describe", "--entity-type", "topics", "--entity-name", topic)
        configs += sorted(line.split(" sensitive=")[0].strip() for line in said.splitlines()[1:])
    quotas = tools.out("configs", "--bootstrap-server", bootstrap, "--describe", "--entity-type", "clients", "--entity-name", "app") \
        if bootstrap in world.kafkas else None
    return topics, configs, quotas


def committed(world, bootstrap):
    said = world.tools().out("consumer-groups", "--bootstrap-server", bootstrap, "--describe", "--offsets", "--group", "readers")
    rows = [line.split() for line in said.splitlines() if line.startswith("readers")]
    return sorted((row[1], row[2], row[3]) for row in rows)


def fill(world, kafka):
    """Topics with settings, keyed records, committed offsets, a quota: and so many changes that snapshots are taken."""
    tools = world.tools()
    at = ("--bootstrap-server", kafka.bootstrap)
    for topic, settings in MADE.items():
        chosen = [word for key, value in settings.items() for word in ("--config", f"{key}={value}")]
        tools.out("topics", *at, "--create", "--topic", topic, "--partitions", "4", *chosen)
        world.client("java", kafka.bootstrap).produce(topic=topic, records=keyed(), codec="lz4", idempotent=True)
    tools.out("consumer-groups", *at, "--group", "readers", "--topic", "keyed", "--reset-offsets", "--to-offset", "3", "--execute")
    tools.out("configs", *at, "--alter", "--entity-type", "clients", "--entity-name", "app", "--add-config", "producer_byte_rate=1048576")
    for number in range(3):
        tools.out("topics", *at, "--create", "--topic", f"filler-{number}", "--partitions", "20")


def keyed():
    """Ten values for each of five keys, all in partition 0."""
    records = [record(number, b"key-%d" % (number % 5), b"value %d" % number) for number in range(50)]
    for one in records:
        del one["needs"]
    return records


def there_and_back(world):
    """Two log directories: made by Kafka, changed by klamm, continued by Kafka, then by klamm again."""
    folder = world.folder / "there-and-back"
    first, second = folder / "1", folder / "2"
    options = ["--standalone", "--set", f"log.dirs={first},{second}", "--set", SNAPSHOTS, "--set", "offsets.topic.num.partitions=3"]
    kafka = KafkaBroker(folder, *options)
    world.running.append(kafka)
    world.kafkas.add(kafka.bootstrap)
    fill(world, kafka)
    topics = {"keyed": 50, "compacted": 50}
    data, said, offsets = read_all(world, kafka.bootstrap, topics), described(world, kafka.bootstrap), committed(world, kafka.bootstrap)
    expect("offsets were committed", len(offsets), 4)
    kafka.stop()
    by_kafka = snapshots(first)
    expect("Kafka took snapshots", len(by_kafka) > 1, True)

    klamm = KlammBroker(first, "-d", second, "--set", SNAPSHOTS)
    world.running.append(klamm)
    expect_in("klamm says that it deletes nothing by default", "server.properties is not in it", open(f"{first}.out").read())
    expect("data, by klamm", read_all(world, klamm.bootstrap, topics), data)
    expect("topics and settings, by klamm", described(world, klamm.bootstrap)[:2], said[:2])
    run = lambda *args: klamm_out(*args, "-b", klamm.bootstrap)
    run("configs", "set", "topic:keyed", "max.message.bytes=2000000")
    for number in range(4):
        run("topics", "create", f"by-klamm-{number}", "-p", "20")
    world.client("java", klamm.bootstrap).produce(topic="keyed", records=keyed(), codec="zstd", idempotent=True)
    klamm.stop()
    by_klamm = [name for name in snapshots(first) if name not in by_kafka]
    expect("klamm took snapshots", len(by_klamm) > 0, True)
    check_with_tools(world, first, by_klamm[-1])

    kafka = KafkaBroker(folder, "--adopt", *options)
    world.running.append(kafka)
    world.kafkas.add(kafka.bootstrap)
    topics["keyed"] = 100
    again = read_all(world, kafka.bootstrap, topics)
    expect("data, by Kafka again", (again["compacted"], again["keyed"][:50], again["keyed"][50:]),
           (data["compacted"], data["keyed"], [fingerprint(r) for r in keyed()]))
    told = described(world, kafka.bootstrap)
    expect("topics are all there", sorted(set(said[0]) - set(told[0])), [])
    expect("the quota that klamm kept", told[2], said[2])
    expect_in("the setting that klamm made", "max.message.bytes=2000000", " ".join(told[1]))
    expect("offsets of the group", committed(world, kafka.bootstrap), offsets)
    world.client("java", kafka.bootstrap).produce(topic="by-klamm-0", records=keyed(), codec="none", idempotent=True)
    placed = world.tools().out("log-dirs", "--bootstrap-server", kafka.bootstrap, "--describe")
    expect("Kafka finds no partition offline", '"error":null' in placed and '"error":"' not in placed, True)
    kafka.stop()

    klamm = KlammBroker(first, "-d", second, "--set", SNAPSHOTS)
    world.running.append(klamm)
    read = read_all(world, klamm.bootstrap, {"by-klamm-0": 50, "keyed": 100})
    expect("what Kafka wrote, by klamm again", read["by-klamm-0"], [fingerprint(r) for r in keyed()])
    expect("all of it, by klamm again", read["keyed"], again["keyed"])
    klamm.stop()


def check_with_tools(world, folder, name):
    """Kafka's own readers of metadata, on a snapshot and a log that klamm wrote."""
    log = folder / "__cluster_metadata-0"
    for file in (log / name, *sorted(log.glob("*.log"))):
        said = world.tools().out("dump-log", "--cluster-metadata-decoder", "--files", file)
        expect_in(f"kafka-dump-log on {file.name}", "TOPIC_RECORD", said)
        for word in ("isvalid: false", "Error", "Could not decode", "Skipping"):
            expect(f"kafka-dump-log on {file.name} finds no {word}", word in said, False)
    shell = world.tools().listed_of_snapshot(log / name, "/image/topics/byName")
    for topic in ("keyed", "compacted", "by-klamm-0"):
        expect_in("kafka-metadata-shell", topic, shell)


def klamm_to_kafka(world):
    """A directory that klamm made, taken over by Apache Kafka and given back."""
    folder = world.folder / "klamm-to-kafka"
    folder.mkdir()
    klamm = KlammBroker(folder / "1")
    world.running.append(klamm)
    sent = records_for("java")
    for codec in CODECS:
        world.client("java", klamm.bootstrap).produce(topic=codec, records=sent, codec=codec, idempotent=codec != "none")
    klamm.stop()
    kafka = KafkaBroker(folder, "--standalone", "--adopt")
    world.running.append(kafka)
    expected = {codec: [fingerprint(r) for r in sent] for codec in CODECS}
    expect("read by Kafka", read_all(world, kafka.bootstrap, dict.fromkeys(CODECS, len(sent))), expected)
    world.client("java", kafka.bootstrap).produce(topic="none", records=sent, codec="gzip", idempotent=True)
    world.client("java", kafka.bootstrap).admin(topic="made-by-kafka")
    kafka.stop()
    klamm = KlammBroker(folder / "1")
    world.running.append(klamm)
    again = read_all(world, klamm.bootstrap, {"none": 2 * len(sent)})["none"]
    expect("read by klamm again", again, 2 * expected["none"])
    klamm.stop()


def other_voters(world):
    folder = world.folder / "cluster-node"
    shutil.copytree(ROOT / "testdata/kafka/cluster-node", folder)
    code, out, err = run_klamm("serve", "-d", folder, "--listen", "127.0.0.1:0", seconds=20)
    expect("exit code", code, 1)
    expect_in("it says why", "voters", (out + err).decode())


def cases(world, book):
    book.case("klamm refuses the directory of a running Kafka", refused_while_kafka_runs, world)
    book.case("Kafka refuses the directory of a running klamm", kafka_refused_while_klamm_runs, world)
    book.case("Kafka's directory in klamm and back", kafka_to_klamm, world)
    book.case("klamm's directory in Kafka and back", klamm_to_kafka, world)
    world.kafkas = set()
    book.case("topics, settings, groups and snapshots over two disks, from Kafka to klamm and back, twice", there_and_back, world)
    book.case("a directory whose quorum has other voters is refused", other_voters, world)
