import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;

import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Fills and reads a compacted topic of one partition.
 *
 *   Compaction write BOOTSTRAP TOPIC SEED BATCHES [no-transactions]
 *   Compaction read BOOTSTRAP TOPIC          a line for each committed record: offset, key, value in hex or "-"
 */
public class Compaction {
    private static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};

    public static void main(String[] args) throws Exception {
        if (args[0].equals("write")) {
            write(args[1], args[2], Long.parseLong(args[3]), Integer.parseInt(args[4]), args.length < 6);
        } else {
            read(args[1], args[2]);
        }
    }

    private static KafkaProducer<byte[], byte[]> producer(String bootstrap, String codec, String transactionalId) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("compression.type", codec);
        settings.put("linger.ms", "1000");
        settings.put("enable.idempotence", String.valueOf(transactionalId != null || !codec.equals("gzip")));
        if (transactionalId != null) {
            settings.put("transactional.id", transactionalId);
        }
        KafkaProducer<byte[], byte[]> producer =
            new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
        if (transactionalId != null) {
            producer.initTransactions();
        }
        return producer;
    }

    /** Each flush makes one batch, so that the same seed makes the same log. */
    private static void write(String bootstrap, String topic, long seed, int batches, boolean withTransactions) throws Exception {
        Random random = new Random(seed);
        Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
        for (int batch = 0; batch < batches; batch++) {
            boolean transactional = random.nextInt(3) == 0 && withTransactions;
            String codec = CODECS[random.nextInt(CODECS.length)];
            String id = transactional ? topic + "-" + codec : null;
            KafkaProducer<byte[], byte[]> producer =
                producers.computeIfAbsent(codec + "/" + id, name -> producer(bootstrap, codec, id));
            if (transactional) {
                producer.beginTransaction();
            }
            int parts = transactional ? 1 + random.nextInt(3) : 1;
            for (int part = 0; part < parts; part++) {
                int records = 1 + random.nextInt(6);
                for (int record = 0; record < records; record++) {
                    byte[] key = ("key-" + random.nextInt(25)).getBytes(StandardCharsets.UTF_8);
                    byte[] value = random.nextInt(5) == 0 ? null : new byte[random.nextInt(120)];
                    if (value != null) {
                        random.nextBytes(value);
                    }
                    producer.send(new ProducerRecord<>(topic, 0, key, value));
                }
                producer.flush();
            }
            if (transactional && random.nextInt(3) == 0) {
                producer.abortTransaction();
            } else if (transactional) {
                producer.commitTransaction();
            }
        }
        producers.values().forEach(KafkaProducer::close);
    }

    private static void read(String bootstrap, String topic) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("isolation.level", "read_committed");
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        TopicPartition partition = new TopicPartition(topic, 0);
        List<String> lines = new ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> consumer =
                 new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            while (consumer.position(partition) < end) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(5))) {
                    lines.add(record.offset() + " " + new String(record.key(), StandardCharsets.UTF_8) + " " + hex(record.value()));
                }
            }
        }
        lines.forEach(System.out::println);
    }

    private static String hex(byte[] bytes) {
        if (bytes == null) {
            return "-";
        }
        StringBuilder out = new StringBuilder("0x");
        for (byte one : bytes) {
            out.append(String.format("%02x", one));
        }
        return out.toString();
    }
}
