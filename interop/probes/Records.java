import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Probes of writing, reading and offsets. */
final class Records {
    private final String bootstrap;
    private final Admin admin;
    private final Probes probes;

    Records(String bootstrap, Probes probes) {
        this.bootstrap = bootstrap;
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap, "default.api.timeout.ms", "15000", "request.timeout.ms", "10000"));
        this.probes = probes;
    }

    private KafkaProducer<String, String> producer(String... more) {
        Map<String, Object> p = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "max.block.ms", "8000",
                "delivery.timeout.ms", "15000", "request.timeout.ms", "8000", "max.request.size", 8 << 20));
        for (int at = 0; at < more.length; at += 2) p.put(more[at], more[at + 1]);
        return new KafkaProducer<>(p, new StringSerializer(), new StringSerializer());
    }

    private KafkaConsumer<String, String> consumer(String... more) {
        Map<String, Object> p = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "earliest",
                "fetch.max.wait.ms", "100", "default.api.timeout.ms", "10000", "request.timeout.ms", "10000"));
        for (int at = 0; at < more.length; at += 2) p.put(more[at], more[at + 1]);
        return new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer());
    }

    private TopicPartition topic(String what, String... configs) throws Exception {
        Map<String, String> map = new HashMap<>();
        for (int at = 0; at < configs.length; at += 2) map.put(configs[at], configs[at + 1]);
        String name = probes.name(what);
        Probes.get(admin.createTopics(List.of(new NewTopic(name, 1, (short) 1).configs(map))).all());
        probes.lag();
        return new TopicPartition(name, 0);
    }

    private RecordMetadata send(TopicPartition tp, Long ts, String key, String value, String... more) throws Exception {
        try (KafkaProducer<String, String> p = producer(more)) {
            return p.send(new ProducerRecord<>(tp.topic(), tp.partition(), ts, key, value)).get();
        }
    }

    private List<ConsumerRecord<String, String>> read(TopicPartition tp, long from, int count, String... more) {
        List<ConsumerRecord<String, String>> got = new ArrayList<>();
        try (KafkaConsumer<String, String> c = consumer(more)) {
            c.assign(List.of(tp));
            c.seek(tp, from);
            for (long end = System.nanoTime() + 10_000_000_000L; got.size() < count && System.nanoTime() < end; ) {
                c.poll(Duration.ofMillis(200)).forEach(got::add);
            }
        }
        return got;
    }

    void add() {
        addWriting();
        addReading();
        addOffsets();
    }

    private void addWriting() {
        for (String acks : new String[] {"0", "1", "all"}) {
            probes.add("write with acks=" + acks, () -> {
                RecordMetadata m = send(topic("acks" + acks), null, "k", "v", "acks", acks, "enable.idempotence", "false");
                return "offset known: " + m.hasOffset();
            });
        }
        probes.add("write more than max.message.bytes",
                () -> send(topic("large", "max.message.bytes", "1000"), null, "k", "x".repeat(5000)).offset());
        probes.add("write two hours ahead",
                () -> send(topic("ahead"), System.currentTimeMillis() + 7_200_000, "k", "v").offset());
        probes.add("write long ago", () -> send(topic("ago", "retention.ms", "-1"), 1L, "k", "v").offset());
        probes.add("write too long ago", () -> send(
                topic("old", "message.timestamp.before.max.ms", "1000"), System.currentTimeMillis() - 60_000, "k", "v").offset());
        probes.add("LogAppendTime", () -> {
            TopicPartition tp = topic("append", "message.timestamp.type", "LogAppendTime");
            RecordMetadata m = send(tp, 5L, "k", "v");
            ConsumerRecord<String, String> r = read(tp, 0, 1).get(0);
            return Probes.list(m.timestamp() > 5, r.timestamp() == m.timestamp(), r.timestampType());
        });
        probes.add("a topic that compresses", () -> {
            TopicPartition tp = topic("gzip", "compression.type", "gzip");
            send(tp, null, "k", "x".repeat(100_000));
            return read(tp, 0, 1).get(0).value().length();
        });
        probes.add("a topic that takes compression off", () -> {
            TopicPartition tp = topic("plain", "compression.type", "uncompressed");
            send(tp, null, "k", "x".repeat(100_000), "compression.type", "zstd");
            return read(tp, 0, 1).get(0).value().length();
        });
        probes.add("a null key in a compacted topic",
                () -> send(topic("keyed", "cleanup.policy", "compact"), null, null, "v").offset());
        probes.add("write to a topic that is made by it", () -> {
            TopicPartition tp = new TopicPartition(probes.name("auto"), 0);
            return send(tp, null, "k", "v").offset() + ", partitions " + Probes.get(admin.describeTopics(
                    List.of(tp.topic())).allTopicNames()).get(tp.topic()).partitions().size();
        });
        probes.add("write to a name with a slash", () -> send(new TopicPartition("a/b", 0), null, "k", "v").offset());
        probes.add("write to a partition that is not there",
                () -> send(new TopicPartition(topic("narrow").topic(), 7), null, "k", "v").offset());
        probes.add("write to __consumer_offsets", () -> send(new TopicPartition("__consumer_offsets", 0), null, "k", "v").offset());
        probes.add("min.insync.replicas above the factor",
                () -> send(topic("minisr", "min.insync.replicas", "2"), null, "k", "v", "acks", "all").offset());
        probes.add("begin a transaction", () -> {
            try (KafkaProducer<String, String> p = producer("transactional.id", probes.name("tx"))) {
                p.initTransactions();
                return "begun";
            }
        });
        probes.add("producers of a partition", () -> {
            TopicPartition tp = topic("producers");
            for (int i = 0; i < 2; i++) send(tp, null, "k", "v");
            List<String> shown = new ArrayList<>();
            for (ProducerState s : Probes.get(admin.describeProducers(List.of(tp)).all()).get(tp).activeProducers()) {
                shown.add(Probes.list(s.producerEpoch(), s.lastSequence(), s.coordinatorEpoch(), s.lastTimestamp() > 0,
                        s.currentTransactionStartOffset()).toString());
            }
            return shown;
        });
    }

    private TopicPartition hundred;

    private TopicPartition hundred() throws Exception {
        if (hundred == null) {
            TopicPartition tp = topic("hundred", "retention.ms", "-1");
            try (KafkaProducer<String, String> p = producer()) {
                for (int i = 0; i < 100; i++) p.send(new ProducerRecord<>(tp.topic(), 0, 1_000_000_000_000L + i, "k" + i, "v" + i));
            }
            hundred = tp;
        }
        return hundred;
    }

    private void addReading() {
        probes.add("read from the middle", () -> read(hundred(), 42, 58).get(0).key());
        probes.add("read past the end, reset to earliest", () -> read(hundred(), 1000, 1).get(0).offset());
        probes.add("read past the end, no reset", () -> read(hundred(), 1000, 1, "auto.offset.reset", "none").size());
        probes.add("read with fetch.max.bytes=1",
                () -> read(hundred(), 0, 100, "fetch.max.bytes", "1", "max.partition.fetch.bytes", "1").size());
        probes.add("read committed", () -> read(hundred(), 0, 100, "isolation.level", "read_committed").size());
        probes.add("read without CRC checks", () -> read(hundred(), 0, 100, "check.crcs", "false").size());
        probes.add("partitions of an unknown topic, not made", () -> {
            try (KafkaConsumer<String, String> c = consumer("allow.auto.create.topics", "false")) {
                return c.partitionsFor(probes.name("never-made")).size();
            }
        });
        probes.add("read an unknown topic, not made", () -> read(new TopicPartition(probes.name("never-made"), 0), 0, 1,
                "allow.auto.create.topics", "false").size());
    }

    private Object offset(TopicPartition tp, OffsetSpec spec) throws Exception {
        var found = Probes.get(admin.listOffsets(Map.of(tp, spec)).partitionResult(tp));
        return Probes.list(found.offset(), found.timestamp(), found.leaderEpoch().isPresent());
    }

    private void addOffsets() {
        probes.add("offsets: earliest", () -> offset(hundred(), OffsetSpec.earliest()));
        probes.add("offsets: latest", () -> offset(hundred(), OffsetSpec.latest()));
        probes.add("offsets: max timestamp", () -> offset(hundred(), OffsetSpec.maxTimestamp()));
        probes.add("offsets: earliest local", () -> offset(hundred(), OffsetSpec.earliestLocal()));
        probes.add("offsets: latest tiered", () -> offset(hundred(), OffsetSpec.latestTiered()));
        probes.add("offsets: before all", () -> offset(hundred(), OffsetSpec.forTimestamp(5)));
        probes.add("offsets: in the middle", () -> offset(hundred(), OffsetSpec.forTimestamp(1_000_000_000_050L)));
        probes.add("offsets: after all", () -> offset(hundred(), OffsetSpec.forTimestamp(1_000_000_000_100L)));
        probes.add("offsets: max timestamp of an empty topic", () -> offset(topic("empty"), OffsetSpec.maxTimestamp()));
        probes.add("offsets: of an unknown topic",
                () -> offset(new TopicPartition(probes.name("never"), 0), OffsetSpec.latest()));
        for (long before : new long[] {10, 5, 1000, -1}) {
            probes.add("delete records before " + before, () -> Probes.get(admin.deleteRecords(
                    Map.of(hundred(), RecordsToDelete.beforeOffset(before))).lowWatermarks().get(hundred())).lowWatermark());
        }
        probes.add("read what was deleted", () -> read(hundred(), 0, 1, "auto.offset.reset", "none").size());
        probes.add("delete records of an unknown topic", () -> {
            TopicPartition tp = new TopicPartition(probes.name("never"), 0);
            return Probes.get(admin.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(0))).lowWatermarks().get(tp));
        });
    }
}
