"""Apache Kafka's own command-line tools against the broker: topics, configs, offsets, records, log directories, perf."""

import json
import re

from command_clients import run
from harness import CODECS, KAFKA, expect, expect_in

RECORDS = 200


def topics(tools, to):
    tools.out("topics", *to, "--create", "--topic", "managed", "--partitions", 2, "--config", "segment.bytes=1048576")
    expect_in("list", "managed", tools.out("topics", *to, "--list").split())
    described = tools.out("topics", *to, "--describe", "--topic", "managed")
    expect_in("describe", "PartitionCount: 2", described)
    expect_in("describe", "segment.bytes=1048576", described)
    expect("partition lines", len(re.findall(r"^\tTopic: managed\s.*Leader: 1\s+Replicas: 1\s+Isr: 1", described, re.M)), 2)
    tools.out("topics", *to, "--alter", "--topic", "managed", "--partitions", 4)
    expect_in("describe", "PartitionCount: 4", tools.out("topics", *to, "--describe", "--topic", "managed"))
    code, out, err = tools.run("topics", *to, "--create", "--topic", "managed")
    expect("creating it twice: exit code", code, 1)
    expect_in("creating it twice", "already exists", out + err)
    code, out, err = tools.run("topics", *to, "--create", "--topic", "b@d")
    expect("a bad name: exit code", code, 1)
    code, out, err = tools.run("topics", *to, "--create", "--topic", "three", "--replication-factor", 3)
    expect("three replicas on one node: exit code", code, 1)
    expect_in("three replicas on one node", "replicat", (out + err).lower())
    tools.out("topics", *to, "--delete", "--topic", "managed")
    expect("list after delete", "managed" in tools.out("topics", *to, "--list").split(), False)
    code, out, err = tools.run("topics", *to, "--describe", "--topic", "managed")
    expect("describe after delete: exit code", code, 1)


def configs(tools, to):
    tools.out("topics", *to, "--create", "--topic", "configured")
    entity = ("--entity-type", "topics", "--entity-name", "configured")
    tools.out("configs", *to, "--alter", *entity, "--add-config", "retention.ms=98765,max.message.bytes=2000000")
    described = tools.out("configs", *to, "--describe", *entity)
    expect_in("describe", "retention.ms=98765 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=98765", described)
    expect_in("describe", "max.message.bytes=2000000", described)
    everything = tools.out("configs", *to, "--describe", "--all", *entity)
    expect_in("describe --all", "cleanup.policy=delete sensitive=false synonyms={DEFAULT_CONFIG:log.cleanup.policy=delete}", everything)
    tools.out("configs", *to, "--alter", *entity, "--delete-config", "retention.ms")
    expect("describe after delete", "retention.ms" in tools.out("configs", *to, "--describe", *entity), False)
    code, out, err = tools.run("configs", *to, "--alter", *entity, "--add-config", "retention.ms=soon")
    expect("a value that is none: exit code", code, 1)
    code, out, err = tools.run("configs", *to, "--alter", *entity, "--add-config", "no.such.key=1")
    expect("a key that is none: exit code", code, 1)
    expect_in("a key that is none", "no.such.key", out + err)
    broker = ("--entity-type", "brokers", "--entity-name", "1")
    tools.out("configs", *to, "--alter", *broker, "--add-config", "message.max.bytes=3000000")
    expect_in("describe broker", "message.max.bytes=3000000", tools.out("configs", *to, "--describe", *broker))
    expect_in("describe broker --all", "node.id=1", tools.out("configs", *to, "--describe", "--all", *broker))
    tools.out("configs", *to, "--alter", *broker, "--delete-config", "message.max.bytes")
    everyone = ("--entity-type", "brokers", "--entity-default")
    tools.out("configs", *to, "--alter", *everyone, "--add-config", "message.max.bytes=3100000")
    expect_in("describe default", "message.max.bytes=3100000", tools.out("configs", *to, "--describe", *everyone))
    tools.out("configs", *to, "--alter", *everyone, "--delete-config", "message.max.bytes")


def console(tools, to, codec, idempotent):
    topic = f"console-{codec}-{idempotent}".lower()
    lines = [f"h:{i},h:again\tkey{i}\tvalue {i} {'x' * (i % 50)}" for i in range(RECORDS)]
    tools.out(
        "console-producer", *to, "--topic", topic, "--compression-codec", codec,
        "--command-property", f"enable.idempotence={str(idempotent).lower()}",
        "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true", given="\n".join(lines) + "\n")
    out = tools.out(
        "console-consumer", *to, "--topic", topic, "--partition", 0, "--offset", "earliest", "--max-messages", RECORDS,
        "--timeout-ms", 15000, "--formatter-property", "print.headers=true", "--formatter-property", "print.key=true")
    expect("lines", out.splitlines(), lines)


def offsets(tools, to):
    tools.out("topics", *to, "--create", "--topic", "counted", "--partitions", 2)
    tools.out("console-producer", *to, "--topic", "counted", "--reader-property", "parse.key=true",
              given="".join(f"k{i}\tv{i}\n" for i in range(100)))

    def get(*args):
        lines = tools.out("get-offsets", *to, "--topic", "counted", *args).splitlines()
        return [int(line.rsplit(":", 1)[1] or -1) for line in lines]

    expect("earliest", get("--time", "earliest"), [0, 0])
    ends = get()
    expect("sum of ends", sum(ends), 100)
    expect("latest", get("--time", "latest"), ends)
    latest = get("--time", "max-timestamp")
    expect("max-timestamp is before the end", all(0 <= offset < end for offset, end in zip(latest, ends)), True)
    expect("a time before all", get("--time", "1000"), [0, 0])
    expect("a time after all has no offset", get("--time", "4102444800000"), [])
    expect("earliest-local", get("--time", "earliest-local"), [0, 0])


def delete_records(tools, to, folder):
    tools.out("console-producer", *to, "--topic", "shortened", given="".join(f"v{i}\n" for i in range(50)))
    wish = folder / "delete.json"
    wish.write_text(json.dumps({"partitions": [{"topic": "shortened", "partition": 0, "offset": 20}], "version": 1}))
    expect_in("delete-records", "low_watermark: 20", tools.out("delete-records", *to, "--offset-json-file", wish))
    out = tools.out("get-offsets", *to, "--topic", "shortened", "--time", "earliest")
    expect("earliest", out.strip(), "shortened:0:20")
    first = tools.out("console-consumer", *to, "--topic", "shortened", "--partition", 0, "--offset", "earliest",
                      "--max-messages", 1, "--timeout-ms", 15000)
    expect("first record", first, "v20\n")
    wish.write_text(json.dumps({"partitions": [{"topic": "shortened", "partition": 0, "offset": 51}], "version": 1}))
    code, out, err = tools.run("delete-records", *to, "--offset-json-file", wish)
    expect_in("beyond the end", "OffsetOutOfRange", out + err)


def log_dirs(tools, to, broker):
    tools.out("console-producer", *to, "--topic", "sized", given="some bytes\n")
    out = tools.out("log-dirs", *to, "--describe", "--topic-list", "sized")
    described = json.loads(out.splitlines()[-1])
    (directory,) = described["brokers"][0]["logDirs"]
    expect("error", directory["error"], None)
    expect("directory", directory["logDir"], str(broker.log_dir))
    (partition,) = directory["partitions"]
    size = (broker.log_dir / "sized-0" / f"{0:020}.log").stat().st_size
    expect("partition", (partition["partition"], partition["size"], partition["isFuture"]), ("sized-0", size, False))


def api_versions(tools, to):
    out = tools.out("broker-api-versions", *to)
    for api in ("Produce(0): 0 to 13", "Fetch(1): 4 to 18", "ListOffsets(2): 1 to 11", "Metadata(3): 0 to 13", "ApiVersions(18): 0 to 4",
                "CreateTopics(19): 2 to 7", "InitProducerId(22): 0 to 5", "DescribeTopicPartitions(75): 0"):
        expect_in("broker-api-versions", api, out)


def cluster(tools, to, broker):
    meta = dict(line.split("=", 1) for line in (broker.log_dir / "meta.properties").read_text().splitlines() if "=" in line)
    expect("cluster id", tools.out("cluster", "cluster-id", *to).strip(), f"Cluster ID: {meta['cluster.id']}")
    features = tools.out("features", *to, "describe")
    expect_in("features", "metadata.version", features)
    expect_in("features", "FinalizedVersionLevel: 4.3-IV0", features)
    expect_in("brokers", re.sub(r".*:", "", to[1]), tools.out("cluster", "list-endpoints", *to))


def perf(tools, to, codec):
    out = tools.out(
        "producer-perf-test", "--topic", f"perf-{codec}", "--num-records", 20000, "--record-size", 200, "--throughput", -1,
        "--bootstrap-server", to[1], "--command-property", f"compression.type={codec}", "acks=all")
    expect_in("producer-perf-test", "20000 records sent", out)
    end = tools.out("get-offsets", *to, "--topic", f"perf-{codec}")
    expect("end offset", end.strip(), f"perf-{codec}:0:20000")


def verifiable(to):
    # It sends its last records in a hook at the end of the JVM: it needs one of its own.
    out = run([KAFKA, "tool", "verifiable-producer", *to, "--topic", "verified", "--max-messages", "500"], seconds=60).decode()
    events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    acked = [event for event in events if event["name"] == "producer_send_success"]
    expect("acked", len(acked), 500)
    expect("offsets", sorted(event["offset"] for event in acked), list(range(500)))


def producers(tools, to):
    """An idempotent producer is known by its state: DescribeProducers."""
    tools.out("console-producer", *to, "--topic", "described", given="v\n")
    out = tools.out("transactions", "--bootstrap-server", to[1], "describe-producers", "--topic", "described", "--partition", 0)
    head, *rows = [line.split() for line in out.splitlines() if line.strip()]
    expect("head", head[:2], ["ProducerId", "ProducerEpoch"])
    expect("rows", len(rows), 1)


def cases(world, book):
    broker = world.shared()
    to = ("--bootstrap-server", broker.bootstrap)
    tools = world.tools()
    book.case("kafka-topics", topics, tools, to)
    book.case("kafka-configs", configs, tools, to)
    for codec in CODECS:
        for idempotent in (False, True):
            kind = "idempotent" if idempotent else "plain"
            book.case(f"console-producer and -consumer, {codec}, {kind}", console, tools, to, codec, idempotent)
    book.case("kafka-get-offsets", offsets, tools, to)
    book.case("kafka-delete-records", delete_records, tools, to, world.folder)
    book.case("kafka-log-dirs", log_dirs, tools, to, broker)
    book.case("kafka-broker-api-versions", api_versions, tools, to)
    book.case("kafka-cluster and kafka-features", cluster, tools, to, broker)
    for codec in CODECS:
        book.case(f"kafka-producer-perf-test {codec}", perf, tools, to, codec)
    book.case("kafka-verifiable-producer", verifiable, to)
    book.case("kafka-transactions describe-producers", producers, tools, to)
