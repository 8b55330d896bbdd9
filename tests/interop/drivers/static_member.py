"""A member with a fixed identity: prints `assigned 0 1 …` for each assignment and `fenced` when another has its identity.

    static_member.py confluent|confluent-consumer|kafka-python BOOTSTRAP GROUP TOPIC INSTANCE
"""

import sys

library, bootstrap, group, topic, instance = sys.argv[1:6]


told = None


def assigned(partitions):
    global told
    before, told = told, sorted(partition.partition for partition in partitions)
    if told and told != before:
        print("assigned", *told, flush=True)


def librdkafka():
    import confluent_kafka

    settings = {"bootstrap.servers": bootstrap, "group.id": group, "group.instance.id": instance, "auto.offset.reset": "earliest"}
    if library == "confluent-consumer":
        settings["group.protocol"] = "consumer"
    consumer = confluent_kafka.Consumer(settings)
    consumer.subscribe([topic])
    while True:
        message = consumer.poll(0.2)
        assigned(consumer.assignment())
        if message is not None and message.error() and message.error().code() == confluent_kafka.KafkaError._FATAL:
            return print("fenced", flush=True)


def kafka_python():
    import kafka

    class Listener(kafka.ConsumerRebalanceListener):
        def on_partitions_revoked(self, revoked):
            pass

        def on_partitions_assigned(self, partitions):
            assigned(partitions)

    consumer = kafka.KafkaConsumer(bootstrap_servers=bootstrap, group_id=group, group_instance_id=instance, auto_offset_reset="earliest")
    consumer.subscribe([topic], listener=Listener())
    try:
        while True:
            consumer.poll(timeout_ms=200)
    except kafka.errors.FencedInstanceIdError:
        print("fenced", flush=True)


kafka_python() if library == "kafka-python" else librdkafka()
