"""One member of a consumer group with librdkafka: prints what it is assigned and what it reads, until told to end.

    group_member.py BOOTSTRAP NAME TOPIC key=value…

Prints `NAME assigned TOPIC-PARTITION…`, `NAME record TOPIC PARTITION OFFSET VALUE`, `NAME stopped`, `NAME error WHY`.
A record is committed after it was printed. Ends after a line on stdin: commits and leaves.
"""

import contextlib
import sys
import threading

import confluent_kafka

bootstrap, name, topic, *settings = sys.argv[1:]
consumer = confluent_kafka.Consumer({
    "bootstrap.servers": bootstrap,
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    # A commit takes what is stored when librdkafka's own thread comes to it: by then more may have been handed over.
    "enable.auto.offset.store": False,
    "reconnect.backoff.max.ms": 500,
    **dict(setting.split("=", 1) for setting in settings),
})
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
is_new = "group.protocol=consumer" in settings


def say(*words):
    print(name, *words, flush=True)


def show():
    say("assigned", *sorted(f"{it.topic}-{it.partition}" for it in consumer.assignment()))


def assigned(_, partitions):
    (consumer.incremental_assign if is_new else consumer.assign)(partitions)
    show()


def revoked(_, partitions):
    try:
        consumer.commit(asynchronous=False)
    except confluent_kafka.KafkaException as error:
        say("commit", error)
    if is_new:
        consumer.incremental_unassign(partitions)
    else:
        consumer.unassign()


consumer.subscribe([topic], on_assign=assigned, on_revoke=revoked, on_lost=lambda _, lost: say("lost", len(lost)))
while not ended.is_set():
    messages = consumer.consume(200, timeout=0.1)
    for message in messages:
        if message.error():
            say("error", message.error())
        else:
            say("record", message.topic(), message.partition(), message.offset(), message.value().decode())
            with contextlib.suppress(confluent_kafka.KafkaException):  # of a partition that was revoked meanwhile
                consumer.store_offsets(message)
    if messages:
        consumer.commit(asynchronous=True)
consumer.close()
say("stopped")
