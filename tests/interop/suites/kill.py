"""kill -9 at random moments while an idempotent producer sends: everything acknowledged is there, in order, once."""

import os
import random
import subprocess
import time

from harness import BROKERS, HERE, PEERS_HOME, Mismatch, expect, free_ports

PARTITIONS = 3
KILLS = {"klamm": 6, "kafka": 2}


def killed_under_load(world):
    seed = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
    rng = random.Random(seed)
    print(f"        seed {seed}")
    port = free_ports(2)
    make = BROKERS[world.target]
    directory = world.folder / "killed"

    def start():
        broker = make(directory, port=port)
        world.running.append(broker)
        return broker

    broker = start()
    world.client("java", broker.bootstrap).admin(topic="warm-up")
    create_topic(world, broker.bootstrap)
    command = [PEERS_HOME / "python/bin/python", HERE / "drivers/steady_producer.py", broker.bootstrap, "steady", str(PARTITIONS)]
    acknowledgements = open(world.folder / "acknowledged", "w+")
    producer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=acknowledgements, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(KILLS[world.target]):
            time.sleep(rng.uniform(0.3, 1.5))
            broker.kill()
            broker = start()
        time.sleep(1)
        producer.communicate("end\n", timeout=150)
    finally:
        producer.kill()
    acknowledgements.seek(0)
    acknowledged, talk = {partition: {} for partition in range(PARTITIONS)}, []
    for line in acknowledgements.read().splitlines():
        words = line.split()
        if words[0].isdigit():
            partition, offset, number = map(int, words)
            acknowledged[partition][number] = offset
        else:
            talk.append(line)
    failed = [line for line in talk if line.startswith("failed")]
    expect("records given up by the producer", failed[:3], [])
    total = sum(map(len, acknowledged.values()))
    if total < 500:
        raise Mismatch(f"only {total} acknowledged: {talk[-1:]}")
    check(world, broker.bootstrap, acknowledged)
    broker.stop()
    return total


def create_topic(world, bootstrap):
    out = world.tools().out("topics", "--bootstrap-server", bootstrap, "--create", "--topic", "steady", "--partitions", PARTITIONS)
    expect("create", "Created" in out, True)


def check(world, bootstrap, acknowledged):
    import base64

    ends = world.tools().out("get-offsets", "--bootstrap-server", bootstrap, "--topic", "steady").splitlines()
    for line in ends:
        _, partition, end = line.rsplit(":", 2)
        partition, end = int(partition), int(end)
        records = world.client("confluent", bootstrap).consume(topic="steady", partition=partition, count=end)["records"]
        numbers = [int(base64.b64decode(record["value"]).split()[0]) for record in records]
        expect(f"partition {partition}: offsets", [record["offset"] for record in records], list(range(end)))
        expect(f"partition {partition}: each once", len(set(numbers)), len(numbers))
        expect(f"partition {partition}: in order", numbers, sorted(numbers))
        lost = sorted(set(acknowledged[partition]) - set(numbers))
        expect(f"partition {partition}: acknowledged and lost", lost, [])
        places = dict(zip(numbers, range(end)))
        # librdkafka reports no offset (-1) where the broker answered that it has the batch already.
        moved = {n: (o, places[n]) for n, o in acknowledged[partition].items() if o not in (places[n], -1001, -1)}
        expect(f"partition {partition}: acknowledged at another offset", moved, {})


def cases(world, book):
    book.case(f"{KILLS[world.target]} kills under load lose, double and reorder nothing", killed_under_load, world)
