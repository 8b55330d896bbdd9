"""klamm's own commands against Apache Kafka, and against klamm: pipes, JSON, topics, configs, offsets, log directories, bench."""

import base64
import json
import random
import time

from command_clients import SETTLE_SECONDS, part
from harness import CODECS, Mismatch, expect, expect_in, klamm_out, run_klamm


def lines_of(out):
    return [json.loads(line) for line in out.splitlines()]


def pipe(to, topic, codec):
    """Lines in, the same lines out."""
    lines = b"".join(b"%d\n" % i for i in range(1, 100_001))
    klamm_out("produce", topic, *to, "-z", codec, given=lines)
    back = klamm_out("consume", topic, *to, "-e")
    if back != lines:
        raise Mismatch(f"{len(lines)} bytes went in, {len(back)} came back, or others")
    end = lines_of(klamm_out("offsets", "get", topic, *to, "--json"))
    expect("end offset", [row["offset"] for row in end], [100_000])


def keyed(to, topic):
    lines = b"".join(b"k%d:v%d\n" % (i, i) for i in range(500))
    klamm_out("topics", "create", topic, "-p", 3, *to)
    klamm_out("produce", topic, *to, "-K", ":", given=lines)
    out = klamm_out("consume", topic, *to, "-e", "-f", "%p %o %k:%s\\n")
    rows = [line.split(b" ") for line in out.splitlines()]
    expect("records", sorted(row[2] for row in rows), sorted(lines.split()))
    for partition in (b"0", b"1", b"2"):
        offsets = [int(row[1]) for row in rows if row[0] == partition]
        expect("offsets in order", offsets, list(range(len(offsets))))
    tail = klamm_out("consume", topic, *to, "-e", "--tail", 5)
    expect("last five over all partitions", len(tail.splitlines()), 5)
    found = klamm_out("consume", topic, *to, "-e", "--grep", "^v4[0-9]$")
    expect("--grep", sorted(found.split()), sorted(b"v%d" % i for i in range(40, 50)))


def binary(to, topic):
    """Random bytes with keys, headers and nulls through JSON, there and back."""
    rng = random.Random(topic)
    records = []
    for i in range(2000):
        size = rng.choice([0, 1, 10, 300])
        record = {"key_base64": random_part(rng, 8), "value_base64": random_part(rng, size), "timestamp": 1_800_000_000_000 - i, "headers": []}
        for _ in range(rng.choice([0, 0, 1, 3])):
            record["headers"].append({"key": rng.choice(["a", "b", "ключ"]), "value_base64": random_part(rng, 5)})
        records.append(record)
    given = "".join(json.dumps(plain(r)) + "\n" for r in records)
    klamm_out("topics", "create", topic, *to, "--config", "retention.ms=-1", "--config", "message.timestamp.before.max.ms=9223372036854775807",
              "--config", "message.timestamp.after.max.ms=9223372036854775807")
    klamm_out("produce", topic, *to, "--json", given=given)
    first = klamm_out("consume", topic, *to, "-e", "--json")
    expect("records", len(first.splitlines()), len(records))
    # What consume prints produce reads: a copy of the topic is the same.
    klamm_out("topics", "create", f"{topic}-copy", *to, "--config", "retention.ms=-1",
              "--config", "message.timestamp.after.max.ms=9223372036854775807")
    klamm_out("produce", f"{topic}-copy", *to, "--json", given=first)
    second = klamm_out("consume", f"{topic}-copy", *to, "-e", "--json")
    for left, right, sent in zip(lines_of(first), lines_of(second), records):
        left.pop("topic"), right.pop("topic")
        expect("a copied record", right, left)
        expect("key", part(left, "key"), sent["key_base64"])
        expect("value", part(left, "value"), sent["value_base64"])
        headers = [(h["key"], part(h, "value")) for h in left["headers"]]
        expect("headers", headers, [(h["key"], h["value_base64"]) for h in sent["headers"]])
        expect("timestamp", left["timestamp"], sent["timestamp"])


def random_part(rng, size):
        return None if rng.random() < 0.1 else base64.b64encode(rng.randbytes(size)).decode()


def plain(record):
    """null keys and values are said as null, not as base64."""
    said = {}
    for name, value in record.items():
        if value is None:
            said[name.removesuffix("_base64")] = None
        elif name == "headers":
            said[name] = [plain(header) for header in value]
        else:
            said[name] = value
    return said


def topics(world, to, bootstrap):
    tools = ("--bootstrap-server", bootstrap)
    klamm_out("topics", "create", "ours", "-p", 2, "--config", "retention.ms=4321", *to)
    time.sleep(SETTLE_SECONDS)
    expect_in("kafka-topics", "PartitionCount: 2", world.tools().out("topics", *tools, "--describe", "--topic", "ours"))
    code, _, err = run_klamm("topics", "create", "ours", *to)
    expect("creating it twice: exit code", code, 1)
    expect_in("creating it twice", "ours", err.decode())
    klamm_out("topics", "create", "ours", "--if-not-exists", *to)
    klamm_out("topics", "alter", "ours", "-p", 3, *to)
    time.sleep(SETTLE_SECONDS)
    (described,) = lines_of(klamm_out("topics", "describe", "ours", "--json", *to))
    expect("partitions", len(described["partitions"]), 3)
    listed = [row["topic"] for row in lines_of(klamm_out("topics", "list", "--json", *to))]
    expect_in("list", "ours", listed)
    klamm_out("configs", "set", "topic:ours", "max.message.bytes=2222222", *to)
    time.sleep(SETTLE_SECONDS)
    expect_in("kafka-configs", "max.message.bytes=2222222",
              world.tools().out("configs", *tools, "--describe", "--entity-type", "topics", "--entity-name", "ours"))
    got = {row["key"]: row["value"] for row in lines_of(klamm_out("configs", "get", "topic:ours", "--json", *to))}
    expect("configs", {key: got.get(key) for key in ("max.message.bytes", "retention.ms")},
           {"max.message.bytes": "2222222", "retention.ms": "4321"})
    klamm_out("configs", "unset", "topic:ours", "max.message.bytes", *to)
    code, _, err = run_klamm("configs", "set", "topic:ours", "retention.ms=soon", *to)
    expect("a value that is none: exit code", code, 1)
    klamm_out("topics", "delete", "ours", *to)
    expect_in("a delete that was only shown", "ours", [row["topic"] for row in lines_of(klamm_out("topics", "list", "--json", *to))])
    klamm_out("topics", "delete", "ours", "--execute", *to)
    time.sleep(SETTLE_SECONDS)
    code, _, err = run_klamm("topics", "describe", "ours", *to)
    expect("describe after delete: exit code", code, 1)


def offsets(world, to, bootstrap):
    klamm_out("produce", "counted-by-klamm", *to, given=b"".join(b"%d\n" % i for i in range(100)))
    for at, expected in (("earliest", 0), ("latest", 100)):
        (row,) = lines_of(klamm_out("offsets", "get", "counted-by-klamm", "--at", at, "--json", *to))
        expect(at, row["offset"], expected)
    klamm_out("offsets", "trim", "counted-by-klamm:0=40", *to)
    (row,) = lines_of(klamm_out("offsets", "get", "counted-by-klamm", "--at", "earliest", "--json", *to))
    expect("earliest after a trim that was only shown", row["offset"], 0)
    klamm_out("offsets", "trim", "counted-by-klamm:0=40", "--execute", *to)
    out = world.tools().out("get-offsets", "--bootstrap-server", bootstrap, "--topic", "counted-by-klamm", "--time", "earliest")
    expect("kafka-get-offsets", out.strip(), "counted-by-klamm:0:40")
    back = klamm_out("consume", "counted-by-klamm", *to, "-e", "-c", 1)
    expect("first record", back, b"40\n")
    back = klamm_out("consume", "counted-by-klamm", *to, "-e", "-o", "50:53")
    expect("a range", back, b"50\n51\n52\n")


def log_dirs(to, broker):
    klamm_out("produce", "sized-by-klamm", *to, given=b"some bytes\n")
    (row,) = lines_of(klamm_out("log-dirs", "sized-by-klamm", "--json", *to))
    expect_in("log-dirs", str(broker.log_dir), json.dumps(row))
    size = (broker.log_dir / "sized-by-klamm-0" / f"{0:020}.log").stat().st_size
    expect_in("size of the partition", f"{size}", json.dumps(row))


def directory(broker):
    """Reading a running broker's directory needs no lock."""
    expect("consume -d", klamm_out("consume", "sized-by-klamm", "-d", broker.log_dir, "-e"), b"some bytes\n")
    listed = [row["topic"] for row in lines_of(klamm_out("topics", "list", "--json", "-d", broker.log_dir))]
    expect_in("topics list -d", "sized-by-klamm", listed)


def bench(to):
    klamm_out("topics", "create", "benched", *to)
    produced = json.loads(klamm_out("bench", "produce", "benched", "-n", 50_000, "--json", *to))
    consumed = json.loads(klamm_out("bench", "consume", "benched", "-t", "1s", "--verify", "--json", *to))
    expect("both measured something", all(isinstance(row, dict) and row for row in (produced, consumed)), True)
    klamm_out("bench", "latency", "benched", "-t", "1s", "--json", *to)


def mistakes(to):
    code, _, err = run_klamm("consume", "no-such-topic-at-all", *to, "-e")
    expect("a topic that is not there: exit code", code, 1)
    expect_in("a topic that is not there", "no-such-topic-at-all", err.decode())
    code, _, err = run_klamm("produce", "bad name", *to, given=b"x\n")
    expect("a name that is none: exit code", code, 2)
    code, _, err = run_klamm("produce", "large", *to, given=b"x" * 3_000_000 + b"\nsmall\n")
    expect("a record too large: exit code", code, 1)
    expect("the other record is there", klamm_out("consume", "large", *to, "-e"), b"small\n")
    code, _, err = run_klamm("topics", "list", "-b", "127.0.0.1:1", "--timeout", "1s")
    expect("nobody there: exit code", code, 1)
    expect_in("nobody there", "127.0.0.1:1", err.decode())


def cases(world, book):
    if not world.has("klamm"):
        raise Mismatch("there is no klamm to run: cargo build --release")
    for kind in dict.fromkeys(("kafka", world.target)):
        broker = world.shared(kind)
        bootstrap = broker.bootstrap
        to = ("-b", bootstrap)
        for codec in CODECS:
            book.case(f"against {kind}: a pipe, {codec}", pipe, to, f"piped-{codec}", codec)
        book.case(f"against {kind}: keys, formats, tail, grep", keyed, to, "keyed-by-klamm")
        book.case(f"against {kind}: JSON with any bytes", binary, to, "binary-by-klamm")
        book.case(f"against {kind}: topics and configs", topics, world, to, bootstrap)
        book.case(f"against {kind}: offsets", offsets, world, to, bootstrap)
        book.case(f"against {kind}: log-dirs", log_dirs, to, broker)
        book.case(f"against {kind}: its directory", directory, broker)
        book.case(f"against {kind}: bench", bench, to)
        book.case(f"against {kind}: mistakes", mistakes, to)
