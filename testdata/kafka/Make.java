// Fills an Apache Kafka broker with one of everything that a log directory can hold. `make` runs it.
//
// java Make.java BOOTSTRAP STEP…   where a step is the name of a method below.

import java.nio.charset.StandardCharsets;
import java.nio.ByteBuffer;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.quota.*;
import org.apache.kafka.common.record.*;
import org.apache.kafka.common.record.internal.*;
import org.apache.kafka.common.resource.*;
import org.apache.kafka.common.serialization.*;

public class Make {
    /// Nothing in the records depends on the day on which this runs.
    static final long T0 = 1_700_000_000_000L;
    static String bootstrap;
    static Admin admin;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        for (String step : Arrays.asList(args).subList(1, args.length)) {
            Make.class.getDeclaredMethod(step).invoke(null);
            System.err.println("made " + step);
        }
        // Left hanging on purpose where a step left a transaction open.
        Runtime.getRuntime().halt(0);
    }

    // ---- one topic for each thing that a record batch can be

    static void codecs() throws Exception {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            String topic = "codec-" + codec;
            create(topic, 1, Map.of());
            try (var producer = producer(Map.of("compression.type", codec, "enable.idempotence", "false"))) {
                everyRecord(producer, topic, 0);
                everyRecord(producer, topic, 100);
                repetitive(producer, topic);
            }
        }
    }

    static void idempotent() throws Exception {
        create("idempotent", 1, Map.of());
        for (int p = 0; p < 2; p++) {
            try (var producer = producer(Map.of("compression.type", p == 0 ? "none" : "zstd"))) {
                for (int batch = 0; batch < 3; batch++) everyRecord(producer, "idempotent", 100 * batch);
            }
        }
    }

    static void binary() throws Exception {
        create("binary", 1, Map.of());
        try (var producer = producer(Map.of())) {
            byte[] all = new byte[256];
            for (int i = 0; i < 256; i++) all[i] = (byte) i;
            send(producer, "binary", 0, T0, all, all, new RecordHeader("bytes", all));
            send(producer, "binary", 0, T0 + 1, new byte[] {(byte) 0xc3, 0x28}, "line\nbreak\ttab\r\0end".getBytes());
            send(producer, "binary", 0, T0 + 2, bytes("ключ"), bytes("значение 🦀"));
            send(producer, "binary", 0, T0 + 3, bytes("a: b"), bytes("payload: x"), new RecordHeader("a,b", null));
            producer.flush();
        }
    }

    static void appendTime() throws Exception {
        create("append-time", 1, Map.of("message.timestamp.type", "LogAppendTime"));
        try (var producer = producer(Map.of("compression.type", "lz4"))) {
            everyRecord(producer, "append-time", 0);
        }
        try (var producer = producer(Map.of())) {
            everyRecord(producer, "append-time", 100);
        }
    }

    // ---- segments, indexes, log start, compaction

    static void segments() throws Exception {
        create("segments", 2, rollEverySecond());
        try (var producer = producer(Map.of())) {
            for (int segment = 0; segment < 4; segment++) {
                for (int batch = 0; batch < 12; batch++) {
                    long time = T0 + segment * 10_000 + batch * 10;
                    for (int i = 0; i < 5; i++) {
                        byte[] value = bytes("segment " + segment + " batch " + batch + " record " + i + " " + "-".repeat(40));
                        // Times go back inside a batch: the largest is not the last.
                        send(producer, "segments", batch % 2, time + 5 - i, bytes("k" + i), value);
                    }
                    producer.flush();
                }
            }
        }
    }

    static void trimmed() throws Exception {
        create("trimmed", 1, rollEverySecond());
        try (var producer = producer(Map.of())) {
            for (int i = 0; i < 30; i++) {
                send(producer, "trimmed", 0, T0 + (i / 10) * 10_000 + i, bytes("k" + i), bytes("v" + i));
                if (i % 5 == 4) producer.flush();
            }
        }
        admin.deleteRecords(Map.of(new TopicPartition("trimmed", 0), RecordsToDelete.beforeOffset(13))).all().get();
        // Emptied to its end: a log that starts where it ends.
        create("emptied", 1, Map.of());
        try (var producer = producer(Map.of())) {
            for (int i = 0; i < 3; i++) send(producer, "emptied", 0, T0 + i, null, bytes("v" + i));
        }
        admin.deleteRecords(Map.of(new TopicPartition("emptied", 0), RecordsToDelete.beforeOffset(-1))).all().get();
    }

    static void compacted() throws Exception {
        Map<String, String> configs = new HashMap<>(rollEverySecond());
        configs.put("cleanup.policy", "compact");
        configs.put("min.cleanable.dirty.ratio", "0.01");
        create("compacted", 1, configs);
        try (var producer = producer(Map.of("compression.type", "gzip"))) {
            for (int i = 0; i < 40; i++) {
                byte[] value = i % 7 == 6 ? null : bytes("v" + i);
                send(producer, "compacted", 0, T0 + (i / 10) * 10_000 + i, bytes("k" + i % 9), value);
                if (i % 5 == 4) producer.flush();
            }
        }
        try (var producer = transactional("compactor")) {
            for (int i = 0; i < 4; i++) {
                producer.beginTransaction();
                send(producer, "compacted", 0, T0 + 50_000 + i * 10_000, bytes("t" + i % 2), bytes("in transaction " + i));
                if (i == 1) producer.abortTransaction(); else producer.commitTransaction();
            }
            producer.beginTransaction();
            send(producer, "compacted", 0, T0 + 200_000, bytes("last"), bytes("rolls the one before"));
            producer.commitTransaction();
        }
    }

    // ---- transactions and groups

    static void transactions() throws Exception {
        create("transactions", 2, rollEverySecond());
        try (var producer = transactional("mover")) {
            for (int t = 0; t < 6; t++) {
                producer.beginTransaction();
                for (int i = 0; i < 4; i++) {
                    send(producer, "transactions", i % 2, T0 + (t / 2) * 10_000 + t * 10 + i, bytes("t" + t), bytes("transaction " + t + " record " + i));
                }
                producer.flush();
                if (t % 3 == 1) producer.abortTransaction(); else producer.commitTransaction();
            }
        }
        try (var producer = producer(Map.of())) {
            send(producer, "transactions", 0, T0 + 30_000, null, bytes("outside of any transaction"));
        }
    }

    static void openTransaction() throws Exception {
        create("open-transaction", 1, Map.of());
        var first = transactional("early");
        first.beginTransaction();
        send(first, "open-transaction", 0, T0, null, bytes("aborted"));
        first.abortTransaction();
        first.beginTransaction();
        send(first, "open-transaction", 0, T0 + 1, null, bytes("open"));
        first.flush();
        try (var second = producer(Map.of())) {
            send(second, "open-transaction", 0, T0 + 2, null, bytes("behind the last stable offset"));
        }
    }

    static void groups() throws Exception {
        create("grouped", 2, Map.of());
        try (var producer = producer(Map.of())) {
            for (int i = 0; i < 20; i++) send(producer, "grouped", i % 2, T0 + i, bytes("k" + i), bytes("v" + i));
        }
        poll("classic-group", Map.of("group.protocol", "classic"), 20);
        poll("static-member", Map.of("group.protocol", "classic", "group.instance.id", "instance-1"), 20);
        poll("consumer-group", Map.of("group.protocol", "consumer"), 20);
        poll("forgotten", Map.of("group.protocol", "classic"), 20);
        admin.deleteConsumerGroups(List.of("forgotten")).all().get();
        try (var producer = transactional("committer")) {
            producer.beginTransaction();
            producer.sendOffsetsToTransaction(
                Map.of(new TopicPartition("grouped", 0), new OffsetAndMetadata(5, Optional.of(0), "in a transaction")),
                new ConsumerGroupMetadata("transactional-group", -1, "", Optional.empty()));
            producer.commitTransaction();
            producer.beginTransaction();
            producer.sendOffsetsToTransaction(
                Map.of(new TopicPartition("grouped", 0), new OffsetAndMetadata(9)), new ConsumerGroupMetadata("transactional-group", -1, "", Optional.empty()));
            producer.abortTransaction();
        }
    }

    static void shareGroups() throws Exception {
        create("shared", 1, Map.of());
        admin.incrementalAlterConfigs(Map.of(
            new ConfigResource(ConfigResource.Type.GROUP, "share-group"),
            List.of(new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET)))).all().get();
        try (var producer = producer(Map.of())) {
            for (int i = 0; i < 10; i++) send(producer, "shared", 0, T0 + i, null, bytes("v" + i));
        }
        try (var consumer = new KafkaShareConsumer<>(
                Map.<String, Object>of("bootstrap.servers", bootstrap, "group.id", "share-group", "share.acknowledgement.mode", "explicit"),
                new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of("shared"));
            int seen = 0;
            for (int turn = 0; turn < 100 && seen < 10; turn++) {
                for (var record : consumer.poll(Duration.ofMillis(200))) {
                    consumer.acknowledge(record, seen++ % 3 == 2 ? AcknowledgeType.REJECT : AcknowledgeType.ACCEPT);
                }
            }
            consumer.commitSync();
        }
    }

    // ---- what the metadata log can say

    static void metadata() throws Exception {
        create("altered", 2, Map.of("retention.ms", "123456"));
        admin.createPartitions(Map.of("altered", NewPartitions.increaseTo(4))).all().get();
        create("deleted", 1, Map.of());
        admin.deleteTopics(List.of("deleted")).all().get();
        configure(ConfigResource.Type.TOPIC, "altered", "max.message.bytes", "65536");
        configure(ConfigResource.Type.BROKER, "1", "log.cleaner.threads", "2");
        configure(ConfigResource.Type.BROKER, "", "message.max.bytes", "2097152");
        configure(ConfigResource.Type.CLIENT_METRICS, "metrics", "interval.ms", "60000");
        admin.incrementalAlterConfigs(Map.of(
            new ConfigResource(ConfigResource.Type.TOPIC, "altered"),
            List.of(new AlterConfigOp(new ConfigEntry("retention.ms", null), AlterConfigOp.OpType.DELETE)))).all().get();
        AclBinding acl = new AclBinding(
            new ResourcePattern(ResourceType.TOPIC, "alt", PatternType.PREFIXED),
            new AccessControlEntry("User:alice", "*", AclOperation.READ, AclPermissionType.ALLOW));
        admin.createAcls(List.of(acl)).all().get();
        admin.createAcls(List.of(new AclBinding(
            new ResourcePattern(ResourceType.GROUP, "*", PatternType.LITERAL),
            new AccessControlEntry("User:bob", "10.0.0.1", AclOperation.DESCRIBE, AclPermissionType.DENY)))).all().get();
        admin.deleteAcls(List.of(acl.toFilter())).all().get();
        for (ScramMechanism mechanism : List.of(ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)) {
            admin.alterUserScramCredentials(List.of(
                new UserScramCredentialUpsertion("alice", new ScramCredentialInfo(mechanism, 4096), "alice-secret"))).all().get();
        }
        admin.alterUserScramCredentials(List.of(new UserScramCredentialDeletion("alice", ScramMechanism.SCRAM_SHA_512))).all().get();
        admin.alterClientQuotas(List.of(
            new ClientQuotaAlteration(
                new ClientQuotaEntity(Map.of("user", "alice", "client-id", "app")),
                List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1048576.0))),
            new ClientQuotaAlteration(
                new ClientQuotaEntity(Collections.singletonMap("user", null)),
                List.of(new ClientQuotaAlteration.Op("request_percentage", 25.5))))).all().get();
    }

    /// Enough topics to pass the number of bytes after which a snapshot is written.
    static void manyTopics() throws Exception {
        List<NewTopic> topics = new ArrayList<>();
        for (int i = 0; i < 20; i++) topics.add(new NewTopic("many-" + i, 1, (short) 1));
        admin.createTopics(topics).all().get();
        admin.deleteTopics(topics.stream().map(NewTopic::name).toList()).all().get();
    }

    static void more() throws Exception {
        try (var producer = producer(Map.of())) {
            everyRecord(producer, "codec-none", 200);
            everyRecord(producer, "idempotent", 300);
            send(producer, "segments", 0, T0 + 60_000, null, bytes("in a later epoch"));
        }
    }

    /// Message formats 0 and 1, which no broker writes any more: Kafka's own builder does. Needs no broker.
    static void oldMagics() throws Exception {
        for (byte magic : new byte[] {0, 1}) {
            Path folder = Path.of(System.getenv("OLD_MAGIC"), "magic-" + magic + "-0");
            Files.createDirectories(folder);
            try (var log = Files.newOutputStream(folder.resolve("00000000000000000000.log"))) {
                long offset = 0;
                for (Compression codec : List.of(Compression.NONE, Compression.gzip().build())) {
                    var builder = MemoryRecords.builder(ByteBuffer.allocate(4096), magic, codec, TimestampType.CREATE_TIME, offset);
                    for (int i = 0; i < 3; i++) {
                        builder.append(magic == 0 ? RecordBatch.NO_TIMESTAMP : T0 + i, i == 1 ? null : bytes("k" + i), i == 2 ? null : bytes("v" + i));
                        offset++;
                    }
                    ByteBuffer built = builder.build().buffer();
                    log.write(built.array(), built.arrayOffset(), built.limit());
                }
            }
        }
    }

    /// Three replicas, all in sync: what one node of a cluster has on its disk.
    static void replicated() throws Exception {
        admin.createTopics(List.of(new NewTopic("replicated", 3, (short) 3), new NewTopic("elsewhere", 3, (short) 1))).all().get();
        try (var producer = producer(Map.of())) {
            for (int i = 0; i < 30; i++) send(producer, "replicated", i % 3, T0 + i, bytes("k" + i), bytes("v" + i));
            for (int i = 0; i < 9; i++) send(producer, "elsewhere", i % 3, T0 + i, null, bytes("v" + i));
        }
    }

    // ---- helpers

    static Map<String, String> rollEverySecond() {
        return Map.of("segment.ms", "1000", "index.interval.bytes", "200");
    }

    static void create(String topic, int partitions, Map<String, String> configs) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(configs))).all().get();
    }

    static void configure(ConfigResource.Type type, String name, String key, String value) throws Exception {
        admin.incrementalAlterConfigs(Map.of(
            new ConfigResource(type, name),
            List.of(new AlterConfigOp(new ConfigEntry(key, value), AlterConfigOp.OpType.SET)))).all().get();
    }

    static KafkaProducer<byte[], byte[]> producer(Map<String, String> configs) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "linger.ms", "60000", "batch.size", "200000", "acks", "all"));
        all.putAll(configs);
        return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaProducer<byte[], byte[]> transactional(String id) {
        var producer = producer(Map.of("transactional.id", id, "transaction.timeout.ms", "900000"));
        producer.initTransactions();
        return producer;
    }

    static void send(Producer<byte[], byte[]> producer, String topic, int partition, long time, byte[] key, byte[] value, Header... headers) {
        producer.send(new ProducerRecord<>(topic, partition, time, key, value, Arrays.asList(headers)));
    }

    /// One batch with every shape of record: null and empty keys and values, headers repeated, null and empty.
    static void everyRecord(Producer<byte[], byte[]> producer, String topic, int shift) {
        long time = T0 + shift;
        send(producer, topic, 0, time, bytes("key"), bytes("value " + shift));
        send(producer, topic, 0, time + 1, null, bytes("no key"));
        send(producer, topic, 0, time + 2, bytes("tombstone"), null);
        send(producer, topic, 0, time + 3, null, null);
        send(producer, topic, 0, time + 4, bytes(""), bytes(""));
        send(producer, topic, 0, time - 5, bytes("earlier"), bytes("a time before the one before"));
        send(producer, topic, 0, time + 6, bytes("headers"), bytes("with headers"),
            new RecordHeader("a", bytes("1")), new RecordHeader("b", null), new RecordHeader("a", bytes("2")),
            new RecordHeader("", bytes("")), new RecordHeader("c", bytes("")));
        send(producer, topic, 0, time + 7, bytes("ünï"), bytes("ço∂é"), new RecordHeader("ключ", bytes("значение")));
        producer.flush();
    }

    /// A batch that every codec makes smaller, longer than lz4's block of 64 KiB and snappy's of 32 KiB.
    static void repetitive(Producer<byte[], byte[]> producer, String topic) {
        boolean small = topic.endsWith("none");
        for (int i = 0; i < (small ? 10 : 80); i++) {
            send(producer, topic, 0, T0 + 200, bytes("k"), bytes(("record " + i + " ").repeat(small ? 5 : 110)));
            if (small && i % 5 == 4) producer.flush();
        }
        producer.flush();
    }

    static void poll(String group, Map<String, String> configs, int count) {
        Map<String, Object> all = new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap, "group.id", group, "auto.offset.reset", "earliest", "enable.auto.commit", "false"));
        all.putAll(configs);
        try (var consumer = new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of("grouped"));
            for (int turn = 0, seen = 0; turn < 100 && seen < count; turn++) {
                seen += consumer.poll(Duration.ofMillis(200)).count();
                consumer.commitSync();
            }
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
