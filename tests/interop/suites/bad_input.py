"""Bytes that are no requests. Each costs its own connection and nobody else anything: the broker answers the next one."""

import contextlib
import os
import random
import resource
import socket
import struct
import time

from harness import expect


def api_versions(version=0, correlation=7):
    # From version 3 on the header ends with tagged fields: none.
    body = struct.pack(">hhih", 18, version, correlation, -1) + b"\0" * (version >= 3)
    return struct.pack(">i", len(body)) + body


def produce(batch, acks=1, version=8, topic=b"bad-input"):
    """A Produce request with these bytes as the records of one partition."""
    records = struct.pack(">i", len(batch)) + batch
    body = struct.pack(">hhih", 0, version, 1, -1) + struct.pack(">hhi", -1, acks, 10000)
    body += struct.pack(">ih", 1, len(topic)) + topic + struct.pack(">ii", 1, 0) + records
    return struct.pack(">i", len(body)) + body


class Connection:
    def __init__(self, bootstrap):
        host, port = bootstrap.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=5)

    def send(self, data):
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def receive(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                return data
            data += part
        return data

    def answer(self):
        (size,) = struct.unpack(">i", self.receive(4))
        return self.receive(size)

    def is_closed(self, seconds=5):
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def still_answers(bootstrap):
    with Connection(bootstrap) as connection:
        connection.send(api_versions())
        answer = connection.answer()
        expect("correlation id and error of ApiVersions afterwards", struct.unpack(">ih", answer[:6]), (7, 0))


def ends_connection(bootstrap, data):
    with Connection(bootstrap) as connection:
        connection.send(data)
        expect("the connection is closed", connection.is_closed(), True)
    still_answers(bootstrap)


def half_frame(bootstrap):
    for size in (1, 3, 4, 5, 9):
        with Connection(bootstrap) as connection:
            connection.send(api_versions()[:size])
    still_answers(bootstrap)


def slow_frame(bootstrap):
    with Connection(bootstrap) as connection:
        for byte in api_versions():
            connection.send(bytes([byte]))
            time.sleep(0.005)
        expect("answer", struct.unpack(">ih", connection.answer()[:6]), (7, 0))


def pipelined(bootstrap):
    with Connection(bootstrap) as connection:
        connection.send(b"".join(api_versions(correlation=i) for i in range(500)))
        order = [struct.unpack(">i", connection.answer()[:4])[0] for _ in range(500)]
        expect("answers in order", order, list(range(500)))


def unknown_api_versions(bootstrap):
    with Connection(bootstrap) as connection:
        connection.send(api_versions(version=99))
        answer = connection.answer()
        expect("UNSUPPORTED_VERSION in version 0", struct.unpack(">ih", answer[:6]), (7, 35))
        connection.send(api_versions(version=0))
        expect("the connection goes on", struct.unpack(">ih", connection.answer()[:6]), (7, 0))


def random_bytes(bootstrap):
    seed = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
    rng = random.Random(seed)
    print(f"        seed {seed}")
    for _ in range(200):
        body = struct.pack(">hh", rng.randrange(0, 94), rng.randrange(0, 14)) + rng.randbytes(rng.randrange(0, 200))
        with Connection(bootstrap) as connection:
            connection.send(struct.pack(">i", len(body)) + body)
    still_answers(bootstrap)


def s1_8_10000_idle_connections(bootstrap):
    """As many as max.connections leaves room for beside the clients of other suites."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with contextlib.ExitStack() as stack:
            for number in range(min(9_950, hard - 500)):
                stack.enter_context(Connection(bootstrap))
                if number % 40 == 39:
                    # The queue of connections to accept holds 50: behind an answer it is empty.
                    still_answers(bootstrap)
            still_answers(bootstrap)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    still_answers(bootstrap)


def error_of(bootstrap, batch, **options):
    with Connection(bootstrap) as connection:
        connection.send(produce(batch, **options))
        answer = connection.answer()
    # correlation, topics, name, partitions, index, error
    at = 4 + 4 + 2 + len(b"bad-input") + 4 + 4
    return struct.unpack(">h", answer[at:at + 2])[0]


def batch(crc=None, magic=2, count=1, last_delta=0, attributes=0, base=0, records=None, timestamp=None):
    timestamp = int(time.time() * 1000) if timestamp is None else timestamp
    records = b"\x10\x00\x00\x00\x01\x04hi\x00" if records is None else records
    rest = struct.pack(">hiqqqhii", attributes, last_delta, timestamp, timestamp, -1, -1, -1, count) + records
    crc = crc32c(rest) if crc is None else crc
    return struct.pack(">qiibI", base, 9 + len(rest), -1, magic, crc) + rest


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 if crc & 1 else crc >> 1
    return crc ^ 0xFFFFFFFF


# What Apache Kafka 4.3.1 answers; a pair where klamm is clearer than Kafka's UNKNOWN_SERVER_ERROR.
PRODUCED = [
    ("a sound batch", batch, {}, {}, 0),
    ("a wrong CRC", batch, {"crc": 1}, {}, 2),
    ("a count that disagrees", batch, {"count": 2}, {}, 87),
    ("a last offset delta that disagrees", batch, {"last_delta": 3}, {}, 87),
    ("a client's control bit", batch, {"attributes": 0x20}, {}, 87),
    ("a base offset", batch, {"base": 5}, {}, 87),
    ("no records", batch, {"count": 0, "records": b"", "last_delta": -1}, {}, 87),
    ("magic 1", batch, {"magic": 1}, {}, 87),
    ("no batch", bytes, {}, {}, 87),
    ("two batches", lambda: batch() + batch(), {}, {}, 87),
    ("a time tomorrow", batch, {"timestamp": int(time.time() * 1000) + 86_400_000}, {}, 32),
    ("garbage as gzip", batch, {"attributes": 1}, {}, {"kafka": -1, "klamm": 87}),
    ("codec 5", batch, {"attributes": 5}, {}, {"kafka": -1, "klamm": 87}),
    ("the transactional bit without an id", batch, {"attributes": 0x10}, {}, 53),
    ("acks=5", batch, {}, {"acks": 5}, 21),
]


def bad_produce(world, bootstrap, make, made, options, expected):
    if isinstance(expected, dict):
        expected = expected[world.target]
    expect("error code", error_of(bootstrap, make(**made), **options), expected)
    still_answers(bootstrap)


FRAMES = [
    ("a TLS hello", bytes.fromhex("16030100c8010000c40303") + bytes(200)),
    ("an HTTP request", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("a negative size", struct.pack(">i", -1)),
    ("the largest size", struct.pack(">i", 2**31 - 1)),
    ("a frame of no bytes", struct.pack(">i", 0)),
    ("a frame shorter than a header", struct.pack(">i", 3) + b"abc"),
    ("an API key that is none", struct.pack(">ihhih", 10, 999, 0, 1, -1)),
    ("a version that is none", struct.pack(">ihhih", 10, 3, 999, 1, -1)),
    ("a client id longer than the frame", struct.pack(">ihhih", 10, 18, 0, 1, 30000)),
    ("an array longer than the frame", struct.pack(">ihhihi", 14, 3, 1, 1, -1, 2**31 - 1)),
]


def cases(world, book):
    bootstrap = world.shared().bootstrap
    for name, data in FRAMES:
        book.case(name, ends_connection, bootstrap, data)
    book.case("half a frame and a close", half_frame, bootstrap)
    book.case("a frame byte by byte", slow_frame, bootstrap)
    book.case("500 requests at once are answered in order", pipelined, bootstrap)
    book.case("an ApiVersions version that is none", unknown_api_versions, bootstrap)
    book.case("random bodies", random_bytes, bootstrap)
    book.case("10,000 idle connections", s1_8_10000_idle_connections, bootstrap)
    world.client("confluent", bootstrap).produce(
        topic="bad-input", records=[{"partition": 0, "timestamp": None, "key": None, "value": "dg==", "headers": []}])
    for name, make, made, options, expected in PRODUCED:
        book.case(f"produce {name}", bad_produce, world, bootstrap, make, made, options, expected)
