"""A thousand keys land in the partitions where the Java client puts them, whoever sends them."""

import base64

from harness import expect

PARTITIONS = 7
# Clients whose default (or, for librdkafka, murmur2_random) is Java's murmur2.
# @platformatic/kafka and sarama hash in their own way.
CLIENTS = ["confluent", "kafka-python", "aiokafka", "kafkajs", "franz", "kcat", "klamm"]


def keys():
    for i in range(1000):
        yield [f"key-{i}", str(i), f"ключ{i}", "x" * (i % 40 + 1) + str(i), f"{i:08x}"][i % 5].encode()


def records():
    return [
        {"partition": None, "timestamp": None, "key": base64.b64encode(key).decode(), "value": "dg==", "headers": []} for key in keys()
    ]


def placement(world, bootstrap, topic):
    """Key to partition, read by a client that is known to read right."""
    reader = world.client("confluent", bootstrap)
    placed = {}
    tools = world.tools()
    ends = tools.out("get-offsets", "--bootstrap-server", bootstrap, "--topic", topic)
    for line in ends.splitlines():
        _, partition, end = line.rsplit(":", 2)
        if int(end):
            for record in reader.consume(topic=topic, partition=int(partition), count=int(end))["records"]:
                placed[base64.b64decode(record["key"])] = int(partition)
    return placed


def place(world, bootstrap, name):
    topic = f"placed-by-{name}"
    world.tools().out("topics", "--bootstrap-server", bootstrap, "--create", "--topic", topic, "--partitions", PARTITIONS)
    world.client(name, bootstrap).produce(topic=topic, records=records(), codec="none", idempotent=False)
    placed = placement(world, bootstrap, topic)
    expect("number of keys", len(placed), 1000)
    return placed


def same(world, bootstrap, name, java):
    placed = place(world, bootstrap, name)
    different = {key: (placed[key], java[key]) for key in java if placed[key] != java[key]}
    expect("keys placed elsewhere than Java's: (here, Java's)", different, {})


def cases(world, book):
    bootstrap = world.shared().bootstrap
    java = book.case("java places 1,000 keys", place, world, bootstrap, "java")
    for name in CLIENTS:
        if java and world.has(name):
            book.case(f"{name} places them where Java does", same, world, bootstrap, name, java)
