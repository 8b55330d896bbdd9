"""Each client × codec × idempotent or not: what it produces a second client reads back, and it reads what Java produced.

Consuming is without groups: assign(), kcat -C, a fetch by hand. kafkajs can only consume in a group.
"""

import base64
import time

from harness import CODECS, expect

# An hour ago: not beyond any retention, and not what a broker would put there.
T0 = int(time.time() * 1000) - 3_600_000

# What a client can say. "nulls": null keys and values; "null-header": a header without a value; "repeated": one header
# name twice; "time": a timestamp of its own; "text-headers": header values are printed as text.
EVERYTHING = {"nulls", "null-header", "repeated", "time"}
CLIENTS = {
    # name:          (codecs,                            can say)
    "java":         (CODECS, EVERYTHING),
    "confluent":    (CODECS, EVERYTHING),
    "kafka-python": (CODECS, EVERYTHING - {"null-header"}),
    "aiokafka":     (CODECS, EVERYTHING),
    "kafkajs":      (("none", "gzip", "snappy", "lz4"), {"nulls", "repeated", "time"}),
    "platformatic": (("none", "gzip", "snappy", "lz4"), {"nulls", "time"}),
    "franz":        (CODECS, EVERYTHING),
    "sarama":       (CODECS, EVERYTHING),
    "kcat":         (CODECS, {"nulls", "repeated", "null-header", "text-headers"}),
    "klamm":        (CODECS, EVERYTHING),
}
# kafkajs consumes in groups only; platformatic's snappy ends on the framing that Java writes, whoever the broker is.
CANNOT_CONSUME = {*(("kafkajs", codec) for codec in CODECS), ("platformatic", "snappy")}


def b64(data):
    return None if data is None else base64.b64encode(data).decode()


def record(number, key, value, headers=(), needs=()):
    return {
        "partition": 0, "timestamp": T0 + number, "key": b64(key), "value": b64(value),
        "headers": [[name, b64(data)] for name, data in headers], "needs": set(needs),
    }


RECORDS = [
    record(0, b"key", b"value"),
    record(1, None, b"no key", needs=["nulls"]),
    record(2, b"tombstone", None, needs=["nulls"]),
    record(3, "ключ".encode(), "значение 🦀".encode()),
    record(4, b"one header", b"v", [("a", b"1")]),
    record(5, b"repeated", b"v", [("a", b"1"), ("b", b"2"), ("a", b"3")], needs=["repeated"]),
    record(6, b"null header", b"v", [("a", b"1"), ("n", None)], needs=["null-header"]),
    record(7, b"large", b"0123456789abcdef" * 6000),
    *[record(8 + i, b"k%d" % (i % 7), b"value %d " % i * 10) for i in range(50)],
]
for one in RECORDS:
    if one["headers"]:
        one["needs"].add("headers")


def records_for(name):
    can = CLIENTS[name][1] | {"headers"}
    chosen = [dict(r) for r in RECORDS if r["needs"] <= can]
    for r in chosen:
        del r["needs"]
        if "time" not in can:
            r["timestamp"] = None
    return chosen


def fingerprint(r, time=True, headers=True):
    return (r["key"], r["value"], tuple(map(tuple, r["headers"])) if headers else None, r["timestamp"] if time else None)


def compare(got, sent, time, headers=True):
    # kcat sends one call per set of headers, and kafkajs moves repeated headers together: order is held elsewhere.
    def normal(r):
        key, value, names, at = fingerprint(r, time, headers)
        return (key, value, tuple(sorted(names, key=str)) if names is not None else None, at)

    expect("number of records", len(got), len(sent))
    for left, right in zip(sorted(map(normal, got), key=str), sorted(map(normal, sent), key=str)):
        expect("record", left, right)


def produce(world, bootstrap, name, topic, codec, idempotent):
    sent = records_for(name)
    answer = world.client(name, bootstrap).produce(topic=topic, records=sent, codec=codec, idempotent=idempotent)
    if "placed" in answer:
        expect("offsets", [offset for _, offset in answer["placed"]], list(range(len(sent))))
    reader = "java" if name != "java" else "confluent"
    got = world.client(reader, bootstrap).consume(topic=topic, partition=0, count=len(sent))["records"]
    expect("offsets read", [r["offset"] for r in got], list(range(len(sent))))
    can = CLIENTS[name][1]
    compare(got, sent, time="time" in can)
    if name not in ("kcat", "kafkajs"):
        expect("order", [fingerprint(r, "time" in can) for r in got], [fingerprint(r, "time" in can) for r in sent])


def consume(world, bootstrap, name, topic, sent):
    got = world.client(name, bootstrap).consume(topic=topic, partition=0, count=len(sent))["records"]
    texts = [r.pop("headers_text", None) for r in got]
    if any(text is not None for text in texts):
        # kcat prints NULL for a header without a value.
        expected = [",".join(f"{n}={base64.b64decode(v).decode() if v else 'NULL'}" for n, v in r["headers"]) for r in sent]
        expect("headers as text", texts, expected)
        got = [dict(r, headers=s["headers"]) for r, s in zip(got, sent)]
    expect("offsets", [r["offset"] for r in got], list(range(len(sent))))
    for left, right in zip(got, sent):
        expect("record", fingerprint(left), fingerprint(right))


def cases(world, book):
    bootstrap = world.shared().bootstrap
    sent = {}
    for codec in CODECS:
        topic = f"from-java-{codec}"
        records = records_for("java")
        if book.case(f"java writes {codec} for the others", world.client("java", bootstrap).produce,
                     topic=topic, records=records, codec=codec, idempotent=True):
            sent[codec] = (topic, records)
    for name, (codecs, _) in CLIENTS.items():
        if not world.has(name):
            continue
        for codec in codecs:
            for idempotent in (False, True):
                kind = "idempotent" if idempotent else "plain"
                topic = f"{name}-{codec}-{kind}"
                book.case(f"{name} produces {codec}, {kind}", produce, world, bootstrap, name, topic, codec, idempotent)
            if (name, codec) not in CANNOT_CONSUME and codec in sent:
                book.case(f"{name} consumes {codec}", consume, world, bootstrap, name, *sent[codec])
