"""Each client's admin calls: create a topic with a configuration, add a partition, describe, delete, list."""

from harness import expect, wait_until

CLIENTS = ["java", "confluent", "kafka-python", "aiokafka", "kafkajs", "platformatic", "franz", "sarama", "klamm"]


def manage(world, bootstrap, name):
    got = world.client(name, bootstrap).admin(topic=f"admin-{name}")
    expect("what it saw", got, {"partitions": 3, "retention.ms": "12345", "left": False})


def metadata(world, bootstrap):
    kcat = world.client("kcat", bootstrap)

    def listed():
        brokers = [broker["name"] for broker in kcat.list()["brokers"]]
        return brokers == [bootstrap]

    wait_until("kcat -L lists the one broker under its address", listed, 5)


def cases(world, book):
    bootstrap = world.shared().bootstrap
    for name in CLIENTS:
        if not world.has(name):
            continue
        book.case(f"{name} creates, describes and deletes a topic", manage, world, bootstrap, name)
    book.case("kcat lists the brokers", metadata, world, bootstrap)
