// Members of consumer groups with Java's client, many in one JVM. What they read is printed as they read it.
//
//   GroupMembers BOOTSTRAP
//
// Lines on stdin: `start NAME TOPIC key=value…`, `stop NAME` (commits and leaves). A topic in slashes is a pattern.
// Lines on stdout: `NAME assigned TOPIC-PARTITION…`, `NAME record TOPIC PARTITION OFFSET VALUE`, `NAME stopped`, `NAME error WHY`.

import java.io.*;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

public class GroupMembers {
    static final Map<String, Member> members = new ConcurrentHashMap<>();

    static synchronized void say(String name, String what) {
        System.out.println(name + " " + what);
        System.out.flush();
    }

    static final class Member extends Thread implements ConsumerRebalanceListener {
        final String member, topic;
        final Properties properties;
        volatile boolean ends;
        KafkaConsumer<String, String> consumer;

        Member(String member, String topic, Properties properties) {
            this.member = member;
            this.topic = topic;
            this.properties = properties;
        }

        @Override public void run() {
            try {
                consumer = new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
                boolean isNew = "consumer".equals(properties.getProperty("group.protocol"));
                if (!topic.startsWith("/")) consumer.subscribe(List.of(topic), this);
                else if (isNew) consumer.subscribe(new SubscriptionPattern(topic.substring(1, topic.length() - 1)), this);
                else consumer.subscribe(Pattern.compile(topic.substring(1, topic.length() - 1)), this);
                while (!ends) {
                    ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
                    for (ConsumerRecord<String, String> record : records)
                        say(member, "record " + record.topic() + " " + record.partition() + " " + record.offset() + " " + record.value());
                    if (!records.isEmpty()) consumer.commitAsync();
                }
                consumer.commitSync(Duration.ofSeconds(10));
                consumer.close(CloseOptions.timeout(Duration.ofSeconds(10)));
                say(member, "stopped");
            } catch (Throwable error) {
                say(member, "error " + error);
            }
        }

        void show() {
            say(member, "assigned " + consumer.assignment().stream().map(TopicPartition::toString).sorted().collect(Collectors.joining(" ")));
        }

        @Override public void onPartitionsAssigned(Collection<TopicPartition> partitions) { show(); }

        @Override public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            if (!partitions.isEmpty()) try {
                consumer.commitSync(Duration.ofSeconds(5));
            } catch (RuntimeException error) {
                say(member, "commit " + error);
            }
        }

        @Override public void onPartitionsLost(Collection<TopicPartition> partitions) { say(member, "lost " + partitions.size()); }
    }

    public static void main(String[] args) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = lines.readLine()) != null; ) {
            String[] words = line.split(" ");
            if (words[0].equals("start")) {
                Properties properties = new Properties();
                properties.put("bootstrap.servers", args[0]);
                properties.put("auto.offset.reset", "earliest");
                properties.put("enable.auto.commit", "false");
                for (int i = 3; i < words.length; i++) {
                    String[] pair = words[i].split("=", 2);
                    properties.put(pair[0], pair[1]);
                }
                Member member = new Member(words[1], words[2], properties);
                members.put(words[1], member);
                member.start();
            } else if (words[0].equals("stop")) {
                members.remove(words[1]).ends = true;
            }
        }
        System.exit(0);
    }
}
