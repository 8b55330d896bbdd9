// Java's Kafka client behind one protocol: a line of JSON in, a line of JSON out. See harness.py, class Driver.
//
//     JavaClient.java BOOTSTRAP

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.*;

public class JavaClient {
    static final ObjectMapper JSON = new ObjectMapper();
    static String bootstrap;
    /// What one request changed another may show a moment later: Kafka's brokers follow the controller.
    static final long SETTLE_MS = 300;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = lines.readLine()) != null; ) {
            Object answer;
            try {
                JsonNode request = JSON.readTree(line);
                answer = switch (request.get("op").asText()) {
                    case "produce" -> produce(request);
                    case "consume" -> consume(request);
                    case "admin" -> admin(request.get("topic").asText());
                    default -> throw new IllegalArgumentException(request.get("op").asText());
                };
            } catch (Exception error) {
                answer = Map.of("error", String.valueOf(error));
            }
            System.out.println(JSON.writeValueAsString(answer));
            System.out.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    static Object produce(JsonNode request) throws Exception {
        Map<String, Object> configs = new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap, "linger.ms", "20", "delivery.timeout.ms", "20000", "request.timeout.ms", "10000"));
        configs.put("compression.type", request.path("codec").asText("none"));
        configs.put("enable.idempotence", request.path("idempotent").asBoolean(false));
        String topic = request.get("topic").asText();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = new KafkaProducer<>(configs, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (JsonNode r : request.get("records")) {
                List<Header> headers = new ArrayList<>();
                for (JsonNode h : r.get("headers")) headers.add(new RecordHeader(h.get(0).asText(), bytes(h.get(1))));
                Integer partition = r.get("partition").isNull() ? null : r.get("partition").asInt();
                Long timestamp = r.get("timestamp").isNull() ? null : r.get("timestamp").asLong();
                sent.add(producer.send(new ProducerRecord<>(topic, partition, timestamp, bytes(r.get("key")), bytes(r.get("value")), headers)));
            }
        }
        List<Object> placed = new ArrayList<>();
        for (var future : sent) placed.add(List.of(future.get().partition(), future.get().offset()));
        return Map.of("placed", placed);
    }

    static Object consume(JsonNode request) {
        List<Object> records = new ArrayList<>();
        Map<String, Object> configs = Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "none", "check.crcs", "true");
        try (var consumer = new KafkaConsumer<>(configs, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            var partition = new TopicPartition(request.get("topic").asText(), request.get("partition").asInt());
            consumer.assign(List.of(partition));
            consumer.seek(partition, request.path("offset").asLong(0));
            for (int turn = 0; turn < 100 && records.size() < request.get("count").asInt(); turn++) {
                for (var r : consumer.poll(Duration.ofMillis(200))) {
                    Map<String, Object> out = new HashMap<>(Map.of("offset", r.offset(), "timestamp", r.timestamp()));
                    out.put("key", r.key());
                    out.put("value", r.value());
                    List<Object> headers = new ArrayList<>();
                    for (Header h : r.headers()) headers.add(Arrays.asList(h.key(), h.value()));
                    out.put("headers", headers);
                    records.add(out);
                }
            }
        }
        return Map.of("records", records);
    }

    static Object admin(String topic) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1).configs(Map.of("retention.ms", "12345")))).all().get();
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get();
            Thread.sleep(SETTLE_MS);
            var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            String retention = admin.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms").value();
            int partitions = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
            admin.deleteTopics(List.of(topic)).all().get();
            Thread.sleep(SETTLE_MS);
            boolean left = admin.listTopics().names().get().contains(topic);
            return Map.of("partitions", partitions, "retention.ms", retention, "left", left);
        }
    }

    static byte[] bytes(JsonNode text) {
        return text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }
}
