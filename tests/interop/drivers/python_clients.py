"""Python's Kafka clients behind one protocol: a line of JSON in, a line of JSON out. See harness.py, class Driver.

    python_clients.py confluent|kafka-python|aiokafka BOOTSTRAP
"""

import asyncio
import base64
import json
import sys
import time


# What one request changed another may show a moment later: Kafka's brokers follow the controller.
SETTLE_SECONDS = 0.3


def encode(data):
    return None if data is None else base64.b64encode(bytes(data)).decode()


def decode(text):
    return None if text is None else base64.b64decode(text)


def headers_in(record):
    return [(name, decode(value)) for name, value in record["headers"]]


def record_out(offset, timestamp, key, value, headers):
    headers = [[name, encode(value)] for name, value in headers or []]
    return {"offset": offset, "timestamp": timestamp, "key": encode(key), "value": encode(value), "headers": headers}


class Confluent:
    """librdkafka, the one that the wheel bundles."""

    def __init__(self, bootstrap):
        import confluent_kafka

        self.library = confluent_kafka
        self.bootstrap = bootstrap

    def produce(self, topic, records, codec="none", idempotent=False, linger_ms=20):
        producer = self.library.Producer({
            "bootstrap.servers": self.bootstrap,
            "compression.codec": codec,
            "enable.idempotence": idempotent,
            "linger.ms": linger_ms,
            "partitioner": "murmur2_random",
            "message.timeout.ms": 20000,
        })
        placed = [None] * len(records)
        errors = []

        def report(index):
            def delivered(error, message):
                if error:
                    errors.append(str(error))
                else:
                    placed[index] = [message.partition(), message.offset()]
            return delivered

        for index, record in enumerate(records):
            where = {} if record["partition"] is None else {"partition": record["partition"]}
            producer.produce(topic, decode(record["value"]), decode(record["key"]), on_delivery=report(index),
                             timestamp=record["timestamp"] or 0, headers=headers_in(record), **where)
        left = producer.flush(25)
        if errors or left:
            raise RuntimeError(f"{left} not sent, errors {errors[:3]}")
        return {"placed": placed}

    def consume(self, topic, partition, count, offset=0):
        consumer = self.library.Consumer({
            "bootstrap.servers": self.bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "check.crcs": True,
        })
        consumer.assign([self.library.TopicPartition(topic, partition, offset)])
        records = []
        for _ in range(200):
            for message in consumer.consume(1000, 0.1):
                if message.error():
                    raise RuntimeError(str(message.error()))
                records.append(record_out(message.offset(), message.timestamp()[1], message.key(), message.value(), message.headers()))
            if len(records) >= count:
                break
        consumer.close()
        return {"records": records}

    def admin(self, topic):
        from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for future in admin.create_topics([NewTopic(topic, 2, 1, config={"retention.ms": "12345"})]).values():
            future.result(20)
        for future in admin.create_partitions([NewPartitions(topic, 3)]).values():
            future.result(20)
        time.sleep(SETTLE_SECONDS)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        configs = next(iter(admin.describe_configs([resource]).values())).result(20)
        partitions = len(self.list_topics(admin)[topic].partitions)
        for future in admin.delete_topics([topic]).values():
            future.result(20)
        time.sleep(SETTLE_SECONDS)
        left = topic in self.list_topics(admin)
        return {"partitions": partitions, "retention.ms": configs["retention.ms"].value, "left": left}

    def list_topics(self, admin):
        # librdkafka gives up its bootstrap connection once it knows the broker; a request on it then fails.
        try:
            return admin.list_topics(timeout=20).topics
        except self.library.KafkaException:
            return admin.list_topics(timeout=20).topics


class KafkaPython:
    def __init__(self, bootstrap):
        import kafka

        self.library = kafka
        self.bootstrap = bootstrap

    def produce(self, topic, records, codec="none", idempotent=False):
        producer = self.library.KafkaProducer(
            bootstrap_servers=self.bootstrap, acks="all", linger_ms=20, enable_idempotence=idempotent,
            compression_type=None if codec == "none" else codec, max_block_ms=20000)
        futures = [
            producer.send(topic, decode(r["value"]), decode(r["key"]), headers_in(r), r["partition"], r["timestamp"])
            for r in records
        ]
        placed = [future.get(20) for future in futures]
        producer.close()
        return {"placed": [[p.partition, p.offset] for p in placed]}

    def consume(self, topic, partition, count, offset=0):
        consumer = self.library.KafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=None, auto_offset_reset="none", check_crcs=True)
        where = self.library.TopicPartition(topic, partition)
        consumer.assign([where])
        consumer.seek(where, offset)
        records = []
        for _ in range(200):
            for batch in consumer.poll(100).values():
                records += [record_out(r.offset, r.timestamp, r.key, r.value, r.headers) for r in batch]
            if len(records) >= count:
                break
        consumer.close()
        return {"records": records}

    def admin(self, topic):
        from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewPartitions, NewTopic

        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        admin.create_topics([NewTopic(topic, 2, 1, topic_configs={"retention.ms": "12345"})])
        admin.create_partitions({topic: NewPartitions(3)})
        time.sleep(SETTLE_SECONDS)
        configs = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        partitions = len(admin.describe_topics([topic])[0]["partitions"])
        admin.delete_topics([topic])
        time.sleep(SETTLE_SECONDS)
        left = topic in admin.list_topics()
        admin.close()
        retention = configs[ConfigResourceType.TOPIC.name.lower()][topic]["retention.ms"]["value"]
        return {"partitions": partitions, "retention.ms": retention, "left": left}


class AioKafka:
    def __init__(self, bootstrap):
        import aiokafka

        self.library = aiokafka
        self.bootstrap = bootstrap

    def produce(self, **request):
        return asyncio.run(self._produce(**request))

    async def _produce(self, topic, records, codec="none", idempotent=False):
        producer = self.library.AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, acks="all", linger_ms=20, enable_idempotence=idempotent,
            compression_type=None if codec == "none" else codec)
        await producer.start()
        try:
            futures = [
                await producer.send(topic, decode(r["value"]), decode(r["key"]), r["partition"], r["timestamp"], headers_in(r))
                for r in records
            ]
            placed = [await asyncio.wait_for(future, 20) for future in futures]
        finally:
            await producer.stop()
        return {"placed": [[p.partition, p.offset] for p in placed]}

    def consume(self, **request):
        return asyncio.run(self._consume(**request))

    async def _consume(self, topic, partition, count, offset=0):
        consumer = self.library.AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=None, auto_offset_reset="none")
        where = self.library.TopicPartition(topic, partition)
        consumer.assign([where])
        await consumer.start()
        records = []
        try:
            consumer.seek(where, offset)
            for _ in range(200):
                for batch in (await consumer.getmany(timeout_ms=100)).values():
                    records += [record_out(r.offset, r.timestamp, r.key, r.value, r.headers) for r in batch]
                if len(records) >= count:
                    break
        finally:
            await consumer.stop()
        return {"records": records}

    def admin(self, topic):
        return asyncio.run(self._admin(topic))

    async def _admin(self, topic):
        from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
        from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(topic, 2, 1, topic_configs={"retention.ms": "12345"})])
            await admin.create_partitions({topic: NewPartitions(3)})
            await asyncio.sleep(SETTLE_SECONDS)
            answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            configs = {config[0]: config[1] for answer in answers for resource in answer.resources for config in resource[4]}
            partitions = len((await admin.describe_topics([topic]))[0]["partitions"])
            await admin.delete_topics([topic])
            await asyncio.sleep(SETTLE_SECONDS)
            left = topic in await admin.list_topics()
        finally:
            await admin.close()
        return {"partitions": partitions, "retention.ms": configs["retention.ms"], "left": left}


def main():
    client = {"confluent": Confluent, "kafka-python": KafkaPython, "aiokafka": AioKafka}[sys.argv[1]](sys.argv[2])
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(client, request.pop("op"))(**request)
        except Exception as error:  # noqa: BLE001 the answer says what happened
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
