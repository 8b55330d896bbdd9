"""Clients that write down all that they see, for a checker (history.py). Each is a process of its own, by librdkafka.

    chaos_clients.py produce BOOTSTRAP TOPIC PARTITIONS ID RATE [KEY=VALUE…]   idempotent, acks=all
    chaos_clients.py read BOOTSTRAP TOPIC PARTITIONS [KEY=VALUE…]              every partition from its beginning
    chaos_clients.py group BOOTSTRAP TOPIC GROUP [KEY=VALUE…]                  a member that commits what it read
    chaos_clients.py watch BOOTSTRAP TOPIC PARTITIONS GROUP                    the commits of a group, again and again
    chaos_clients.py pulse BOOTSTRAP TOPIC PARTITIONS                          a record every 10 ms: when it is acknowledged

A line on stdin ends each in order; a producer then waits for what it has sent, a reader reads up to the end. What they print, a line each:

    + PARTITION OFFSET ID NUMBER  acknowledged (offset -1: the broker had it already)
    - PARTITION ID NUMBER WHY     given up: it may be there or not
    ~ ID WHY                      the producer could not go on; what it had not heard of may be there or not. Another one
                                  goes on under the next id, ten larger
    r PARTITION OFFSET ID NUMBER  read
    a PARTITION                   assigned to this member
    c TIME PARTITION OFFSET       a commit was acknowledged before TIME
    o TIME PARTITION OFFSET       this commit was seen by a question asked after TIME (-1: there is none)
    ! WHY                         what must not happen
    # TALK                        what may happen
    = ID NUMBER                   its numbers are below this one
    p TIME PARTITION              a record of the pulse was acknowledged at TIME

TIME is the machine's monotonic clock, in seconds.
"""

import contextlib
import sys
import threading
import time
from pathlib import Path

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from history import value  # noqa: E402

COMMON = {
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 500,
    "topic.metadata.refresh.interval.ms": 2_000,
    "socket.timeout.ms": 10_000,
    "socket.connection.setup.timeout.ms": 3_000,
    "log_level": 2,
}
# Reading from where nothing is any more is a loss, and is said.
READING = {**COMMON, "auto.offset.reset": "error", "enable.auto.commit": False, "fetch.wait.max.ms": 100, "check.crcs": True}
GONE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION, KafkaError._BAD_MSG}

ended = threading.Event()
printing = threading.Lock()


def say(*lines):
    with printing:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()


def record_line(message):
    words = message.value().split(b" ")
    identity, number = int(words[0]), int(words[1])
    if message.value() != value(identity, number):
        return f"! damaged record at {message.partition()}:{message.offset()}: {message.value()[:60]!r}"
    return f"r {message.partition()} {message.offset()} {identity} {number}"


def settings(words):
    return dict(word.split("=", 1) for word in words)


def produce(bootstrap, topic, partitions, identity, rate, *words):
    identity, number = int(identity), 0
    while not ended.is_set():
        life = Life(identity, number, {"bootstrap.servers": bootstrap, **settings(words)})
        life.run(topic, int(partitions), float(rate))
        identity, number = identity + 10, life.number


class Life:
    """A producer until it is told to end, or can go on no more: then what it had not heard of is nobody's."""

    def __init__(self, identity, number, options):
        self.identity, self.number, self.lines, self.is_over = identity, number, [], False
        self.producer = Producer({
            **COMMON, "enable.idempotence": True, "acks": "all", "request.timeout.ms": 10_000, "message.timeout.ms": 300_000,
            "retry.backoff.ms": 50, "retry.backoff.max.ms": 500, "linger.ms": 5, "queue.buffering.max.messages": 20_000,
            "error_cb": lambda error: say(f"# {error}"), **options,
        })

    def delivered(self, error, message):
        number = int(message.value().split(b" ", 2)[1])
        if not error:
            offset = -1 if message.offset() is None else message.offset()
            self.lines.append(f"+ {message.partition()} {offset} {self.identity} {number}")
        elif not self.is_over:
            self.lines.append(f"- {message.partition()} {self.identity} {number} {error.name()}")

    def run(self, topic, partitions, rate):
        first, began = self.number, time.monotonic()
        try:
            while not ended.is_set():
                due = first + (time.monotonic() - began) * rate
                if due - self.number > rate:
                    began = time.monotonic() - (self.number - first) / rate
                self.send(topic, partitions, due)
                self.producer.poll(0.01)
                self.tell()
            left = self.producer.flush(300)
            self.tell(*([f"! {left} records have no answer"] if left else []))
        except KafkaException as error:
            self.is_over = True
            say(f"~ {self.identity} {error.args[0]}")
            with contextlib.suppress(KafkaException):
                self.producer.purge()
                self.producer.flush(10)
        self.tell(f"= {self.identity} {self.number}")

    def send(self, topic, partitions, due):
        try:
            while self.number < due:
                self.producer.produce(topic, value(self.identity, self.number), partition=self.number % partitions, on_delivery=self.delivered)
                self.number += 1
        except BufferError:
            pass

    def tell(self, *others):
        if self.lines or others:
            say(*self.lines, *others)
            self.lines.clear()


def read(bootstrap, topic, partitions, *words):
    consumer = Consumer({**READING, "bootstrap.servers": bootstrap, "group.id": "unused", **settings(words)})
    asked = [TopicPartition(topic, partition, 0) for partition in range(int(partitions))]
    consumer.assign(asked)
    while not ended.is_set():
        say_records(consumer.consume(2_000, 0.2))
    deadline, ends = time.monotonic() + 120, {}
    while time.monotonic() < deadline and not ends:
        try:
            ends = {one.partition: consumer.get_watermark_offsets(one, timeout=10)[1] for one in asked}
        except KafkaException as error:
            say(f"# {error.args[0]}")
    while time.monotonic() < deadline and any(one.offset < ends.get(one.partition, 0) for one in consumer.position(asked)):
        say_records(consumer.consume(2_000, 0.2))
    consumer.close()


def say_records(messages, positions=None):
    """`positions` has the partitions that are the reader's, if they change."""
    lines = []
    for message in messages:
        error = message.error()
        if error is None and positions is None:
            lines.append(record_line(message))
        elif error is None and message.partition() in positions:
            lines.append(record_line(message))
            positions[message.partition()] = message.offset() + 1
        elif error is None:
            continue
        elif error.code() in GONE:
            lines.append(f"! partition {message.partition()}: {error}")
        else:
            lines.append(f"# {error}")
    if lines:
        say(*lines)


def group(bootstrap, topic, group_id, *words):
    consumer = Consumer({**READING, "auto.offset.reset": "earliest", "bootstrap.servers": bootstrap, "group.id": group_id,
                         "session.timeout.ms": 10_000, **settings(words)})
    positions = {}

    def commit():
        wanted = [TopicPartition(topic, partition, offset) for partition, offset in positions.items() if offset >= 0]
        if not wanted:
            return
        try:
            for done in consumer.commit(offsets=wanted, asynchronous=False):
                say(f"# commit of {done.partition}: {done.error}" if done.error else f"c {time.monotonic()} {done.partition} {done.offset}")
        except KafkaException as error:
            say(f"# commit: {error.args[0]}")

    def assigned(_, partitions):
        positions.update((one.partition, -1) for one in partitions)
        say(*(f"a {one.partition}" for one in partitions))

    def revoked(_, partitions):
        commit()
        for one in partitions:
            positions.pop(one.partition, None)

    def lost(_, partitions):
        for one in partitions:
            positions.pop(one.partition, None)

    consumer.subscribe([topic], on_assign=assigned, on_revoke=revoked, on_lost=lost)
    due = time.monotonic() + 0.5
    while not ended.is_set():
        say_records(consumer.consume(1_000, 0.2), positions)
        if time.monotonic() > due:
            commit()
            due = time.monotonic() + 0.5
    commit()
    consumer.close()


def watch(bootstrap, topic, partitions, group_id):
    """Each look with a consumer that knows nothing from before."""
    consumer = Consumer({**READING, "bootstrap.servers": bootstrap, "group.id": group_id})
    asked = [TopicPartition(topic, partition) for partition in range(int(partitions))]
    while not ended.is_set():
        began = time.monotonic()
        try:
            found = consumer.committed(asked, timeout=20)
        except KafkaException as error:
            say(f"# {error.args[0]}")
            continue
        say(*(f"# {one.error}" if one.error else f"o {began} {one.partition} {max(one.offset, -1)}" for one in found))
        ended.wait(0.3)
    consumer.close()


def pulse(bootstrap, topic, partitions):
    """As impatient as a client can be, so that the cluster is what is measured."""
    producer = Producer({
        **COMMON, "bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": 0, "retry.backoff.ms": 10,
        "retry.backoff.max.ms": 20, "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50, "topic.metadata.refresh.fast.interval.ms": 10,
        "topic.metadata.refresh.interval.ms": 100, "message.timeout.ms": 300_000,
    })

    def delivered(error, message):
        say(f"! {error}" if error else f"p {time.monotonic()} {message.partition()}")

    while not ended.is_set():
        for partition in range(int(partitions)):
            producer.produce(topic, b"pulse", partition=partition, on_delivery=delivered)
        due = time.monotonic() + 0.01
        while time.monotonic() < due:
            producer.poll(max(0, due - time.monotonic()))
    producer.flush(60)


def main():
    threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
    say(f"# librdkafka {confluent_kafka.libversion()[0]}")
    {"produce": produce, "read": read, "group": group, "watch": watch, "pulse": pulse}[sys.argv[1]](*sys.argv[2:])


main()
