"""Log directories change hands: Kafka's in klamm, klamm's in Kafka, and never both at once."""

import shutil
import subprocess

from harness import (CODECS, KAFKA, ROOT, KafkaBroker, KlammBroker, Mismatch, expect, expect_in, free_ports, run_klamm)
from suites.clients import fingerprint, records_for

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
    book.case("a directory whose quorum has other voters is refused", other_voters, world)
