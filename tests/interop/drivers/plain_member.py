"""A member of a group that prints `PARTITION OFFSET` for each record, commits as its library does, and leaves on SIGTERM.

    plain_member.py confluent|confluent-consumer|kafka-python BOOTSTRAP GROUP TOPIC
"""

import signal
import sys

library, bootstrap, group, topic = sys.argv[1:5]
ended = False


def end(*_):
    global ended
    ended = True


signal.signal(signal.SIGTERM, end)


def librdkafka():
    import confluent_kafka

    settings = {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest", "auto.commit.interval.ms": 300}
    if library == "confluent-consumer":
        settings["group.protocol"] = "consumer"
    else:
        settings["session.timeout.ms"] = 6000
    consumer = confluent_kafka.Consumer(settings)
    consumer.subscribe([topic])
    while not ended:
        message = consumer.poll(0.2)
        if message is not None and not message.error():
            print(message.partition(), message.offset(), flush=True)
    consumer.close()


def kafka_python():
    import kafka
    from kafka.coordinator.assignors.range import RangePartitionAssignor

    consumer = kafka.KafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", session_timeout_ms=6000,
        heartbeat_interval_ms=1000, auto_commit_interval_ms=300, partition_assignment_strategy=[RangePartitionAssignor])
    while not ended:
        for records in consumer.poll(timeout_ms=200).values():
            for record in records:
                print(record.partition, record.offset, flush=True)
    consumer.close()


kafka_python() if library == "kafka-python" else librdkafka()
