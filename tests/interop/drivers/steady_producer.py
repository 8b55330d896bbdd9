"""Sends numbered records with librdkafka's idempotent producer until told to end, and says which were acknowledged.

    steady_producer.py BOOTSTRAP TOPIC PARTITIONS

Prints `PARTITION OFFSET NUMBER` for each acknowledgement, `failed NUMBER WHY` for each record given up.
Ends after a line on stdin, when everything sent has one or the other.
"""

import sys
import threading
import time

import confluent_kafka

bootstrap, topic, partitions = sys.argv[1], sys.argv[2], int(sys.argv[3])
producer = confluent_kafka.Producer({
    "bootstrap.servers": bootstrap,
    "enable.idempotence": True,
    "compression.codec": "lz4",
    "linger.ms": 2,
    "message.timeout.ms": 120000,
    "reconnect.backoff.max.ms": 500,
    "retry.backoff.max.ms": 200,
})
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()


def delivered(error, message):
    number = int(message.value().split()[0])
    if error:
        print(f"failed {number} {error}", flush=True)
    else:
        print(message.partition(), message.offset(), number, flush=True)


number = 0
while not ended.is_set():
    for _ in range(20):
        try:
            producer.produce(topic, f"{number} {'x' * 100}".encode(), partition=number % partitions, on_delivery=delivered)
            number += 1
        except BufferError:
            break
    producer.poll(0.002)
    time.sleep(0.002)
left = producer.flush(120)
print(f"sent {number} left {left}", flush=True)
