import java.io.FileOutputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ListOffsetsResult;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The cases, written once for kafka-clients 2.8 to 4.3. */
final class Cases {
    private static final Duration PATIENCE = Duration.ofSeconds(40);
    private static final short REPLICAS = Short.parseShort(System.getenv().getOrDefault("REPLICAS", "1"));

    private final String bootstrap;
    private final Map<String, Main.Case> all = new HashMap<>();

    Cases(String bootstrap) {
        this.bootstrap = bootstrap;
        all.put("create", this::create);
        all.put("produce", this::produce);
        all.put("consume", this::consume);
        all.put("seek", this::seek);
        all.put("seektime", this::seektime);
        all.put("resume", this::resume);
        all.put("topics", this::topics);
        all.put("configs", this::configs);
        all.put("offsets", this::offsets);
        all.put("send", this::send);
        all.put("member", this::member);
        all.put("load", a -> new Load(bootstrap, a).run());
    }

    Main.Case find(String name) {
        Main.Case found = all.get(name);
        if (found == null) throw new Main.Wrong("no case " + name);
        return found;
    }

    private KafkaProducer<byte[], byte[]> producer(String codec, boolean idempotent) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("compression.type", codec);
        p.put("enable.idempotence", String.valueOf(idempotent));
        p.put("acks", "all");
        p.put("max.in.flight.requests.per.connection", idempotent ? "5" : "1"); // else a retry may change the order
        p.put("linger.ms", "5");
        p.put("max.request.size", String.valueOf(4 << 20));
        return new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private KafkaConsumer<byte[], byte[]> consumer(String group, int limit) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", "earliest");
        p.put("max.poll.records", String.valueOf(limit));
        p.put("fetch.max.wait.ms", "100");
        p.put("session.timeout.ms", "6000");
        p.put("heartbeat.interval.ms", "500");
        if (group != null) p.put("group.id", group);
        return new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    private String produce(Main.Args a) throws Exception {
        int n = a.num("n");
        int parts = a.num("parts");
        AtomicReference<Exception> failed = new AtomicReference<>();
        try (KafkaProducer<byte[], byte[]> p = producer(a.get("codec"), "1".equals(a.get("idem")))) {
            for (int i = 0; i < n; i++) {
                Rule.Content c = a.record(i);
                p.send(new ProducerRecord<>(a.get("topic"), i % parts, c.ts, c.key, c.value, c.headers),
                        (meta, error) -> failed.compareAndSet(null, error));
            }
            p.flush();
        }
        if (failed.get() != null) throw failed.get();
        return n + " records";
    }

    private String send(Main.Args a) throws Exception {
        ByteBuffer data = ByteBuffer.wrap(Files.readAllBytes(Paths.get(a.get("file"))));
        AtomicReference<Exception> failed = new AtomicReference<>();
        int sent = 0;
        long began = System.nanoTime();
        try (KafkaProducer<byte[], byte[]> p = producer("zstd", true)) {
            for (; data.hasRemaining(); sent++) {
                if (a.get("rate") != null && sent % 200 == 0) pace(began, sent, a.num("rate"));
                byte[] key = Rule.field(data);
                p.send(new ProducerRecord<>(a.get("topic"), key, Rule.field(data)),
                        (meta, error) -> failed.compareAndSet(null, error));
            }
            p.flush();
        }
        if (failed.get() != null) throw failed.get();
        return sent + " records";
    }

    private static void pace(long began, int sent, int rate) throws InterruptedException {
        long ahead = sent * 1000L / rate - (System.nanoTime() - began) / 1_000_000;
        if (ahead > 0) Thread.sleep(ahead);
    }

    /** Reads counts[p] records of each p from offset starts[p]; offsets must be dense. */
    private int read(Main.Args a, Map<Integer, Long> starts, Map<Integer, Integer> counts) {
        String topic = a.get("topic");
        Map<Integer, Long> at = new HashMap<>(starts);
        int want = counts.values().stream().mapToInt(c -> c).sum();
        int seen = 0;
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        try (KafkaConsumer<byte[], byte[]> c = consumer(null, 500)) {
            c.assign(starts.keySet().stream().map(p -> new TopicPartition(topic, p)).collect(Collectors.toList()));
            starts.forEach((p, offset) -> c.seek(new TopicPartition(topic, p), offset));
            while (seen < want) {
                if (System.nanoTime() > deadline) throw new Main.Wrong(seen + " of " + want + " records after 40 s");
                for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(500))) {
                    int p = r.partition();
                    if (at.get(p) - starts.get(p) >= counts.get(p)) continue;
                    check(a, r, at.get(p));
                    at.put(p, r.offset() + 1);
                    seen++;
                }
            }
        }
        return seen;
    }

    private static void check(Main.Args a, ConsumerRecord<byte[], byte[]> r, long due) {
        String where = "partition " + r.partition() + " offset " + r.offset() + ": ";
        if (r.offset() != due) throw new Main.Wrong(where + due + " was due");
        int i = (int) r.offset() * a.num("parts") + r.partition();
        String wrong = Rule.difference(a.get("rule"), a.num("seed"), i, a.t0(), r);
        if (wrong != null) throw new Main.Wrong(where + wrong);
    }

    private static int share(Main.Args a, int p) {
        return (a.num("n") - p + a.num("parts") - 1) / a.num("parts");
    }

    private String consume(Main.Args a) {
        Map<Integer, Long> starts = new HashMap<>();
        Map<Integer, Integer> counts = new HashMap<>();
        for (int p = 0; p < a.num("parts"); p++) {
            starts.put(p, 0L);
            counts.put(p, share(a, p));
        }
        return read(a, starts, counts) + " records";
    }

    private String seek(Main.Args a) {
        long each = a.num("n") / a.num("parts");
        read(a, Map.of(0, each / 2), Map.of(0, 5));
        read(a, Map.of(0, each - 3), Map.of(0, 3));
        read(a, Map.of(0, 1L), Map.of(0, 5));
        return "three places";
    }

    private String seektime(Main.Args a) {
        TopicPartition tp = new TopicPartition(a.get("topic"), 1);
        try (KafkaConsumer<byte[], byte[]> c = consumer(null, 500)) {
            for (long offset : new long[] {0, 7}) {
                long at = a.t0() + 1000 * (offset * a.num("parts") + 1) - 500;
                OffsetAndTimestamp found = c.offsetsForTimes(Map.of(tp, at)).get(tp);
                if (found == null || found.offset() != offset) throw new Main.Wrong("time " + at + " is at " + found);
            }
            long after = a.t0() + 1000L * a.num("n") + 1;
            OffsetAndTimestamp found = c.offsetsForTimes(Map.of(tp, after)).get(tp);
            if (found != null) throw new Main.Wrong("a time after the last record has offset " + found.offset());
        }
        read(a, Map.of(1, 7L), Map.of(1, 4));
        return "found, and none after the end";
    }

    private String resume(Main.Args a) {
        int n = a.num("n");
        Set<String> seen = new HashSet<>();
        int read = 0;
        List<Integer> runs = new ArrayList<>();
        for (int goal : new int[] {n / 2, n}) {
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            int before = read;
            try (KafkaConsumer<byte[], byte[]> c = consumer(a.get("group"), 50)) {
                c.subscribe(List.of(a.get("topic")));
                while (read < goal) {
                    if (System.nanoTime() > deadline) throw new Main.Wrong(read + " of " + goal + " after 40 s");
                    for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(500))) {
                        seen.add(r.partition() + "/" + r.offset());
                        read++;
                    }
                    c.commitSync();
                }
            }
            runs.add(read - before);
        }
        if (read != n || seen.size() != n) throw new Main.Wrong(read + " read, " + seen.size() + " different, of " + n);
        return runs.get(0) + " then " + runs.get(1);
    }

    private String create(Main.Args a) throws Exception {
        NewTopic topic = new NewTopic(a.get("topic"), a.num("parts"), REPLICAS).configs(a.configs());
        try (Admin admin = admin()) {
            admin.createTopics(List.of(topic)).all().get(20, TimeUnit.SECONDS);
        }
        return a.get("parts") + " partitions";
    }

    private String topics(Main.Args a) throws Exception {
        String name = a.get("topic");
        NewTopic topic = new NewTopic(name, 3, REPLICAS).configs(Map.of("retention.ms", "86400000"));
        try (Admin admin = admin(); KafkaConsumer<byte[], byte[]> c = consumer(null, 500)) {
            admin.createTopics(List.of(topic)).all().get(20, TimeUnit.SECONDS);
            try {
                admin.createTopics(List.of(topic)).all().get(20, TimeUnit.SECONDS);
                throw new Main.Wrong("the topic could be created twice");
            } catch (ExecutionException e) {
                if (!(e.getCause() instanceof TopicExistsException)) throw e;
            }
            await(() -> names(admin).contains(name), "the new topic is not listed");
            if (c.partitionsFor(name).size() != 3) throw new Main.Wrong("described with other than 3 partitions");
            admin.deleteTopics(List.of(name)).all().get(20, TimeUnit.SECONDS);
            await(() -> !names(admin).contains(name), "the deleted topic is still listed");
        }
        return "created, refused, listed, deleted";
    }

    private static Set<String> names(Admin admin) {
        try {
            return admin.listTopics().names().get(20, TimeUnit.SECONDS);
        } catch (Exception e) {
            throw new KafkaException(e);
        }
    }

    private static void await(Supplier<Boolean> done, String complaint) throws InterruptedException {
        long deadline = System.nanoTime() + Duration.ofSeconds(10).toNanos();
        while (!done.get()) {
            if (System.nanoTime() > deadline) throw new Main.Wrong(complaint);
            Thread.sleep(100);
        }
    }

    private String configs(Main.Args a) throws Exception {
        try (Admin admin = admin()) {
            String broker = admin.describeCluster().nodes().get(20, TimeUnit.SECONDS).iterator().next().idString();
            ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, a.get("topic"));
            ConfigResource node = new ConfigResource(ConfigResource.Type.BROKER, broker);
            Map<ConfigResource, Config> found = admin.describeConfigs(List.of(topic, node)).all().get(20, TimeUnit.SECONDS);
            String value = found.get(topic).get(a.get("key")).value();
            if (!a.get("value").equals(value)) throw new Main.Wrong(a.get("key") + " is " + value);
            for (String key : List.of("num.partitions", "log.dirs"))
                if (found.get(node).get(key) == null) throw new Main.Wrong("the broker does not describe " + key);
            return found.get(topic).entries().size() + " of a topic, " + found.get(node).entries().size() + " of a broker";
        }
    }

    private String offsets(Main.Args a) throws Exception {
        List<TopicPartition> tps = IntStream.range(0, a.num("parts"))
                .mapToObj(p -> new TopicPartition(a.get("topic"), p)).collect(Collectors.toList());
        try (Admin admin = admin()) {
            for (OffsetSpec spec : List.of(OffsetSpec.earliest(), OffsetSpec.latest())) {
                Map<TopicPartition, OffsetSpec> asked = tps.stream().collect(Collectors.toMap(tp -> tp, tp -> spec));
                ListOffsetsResult answer = admin.listOffsets(asked);
                for (TopicPartition tp : tps) {
                    long due = spec instanceof OffsetSpec.EarliestSpec ? 0 : share(a, tp.partition());
                    long got = answer.partitionResult(tp).get(20, TimeUnit.SECONDS).offset();
                    if (got != due) throw new Main.Wrong(tp + " is at " + got + ", not " + due);
                }
            }
        }
        return "earliest and latest of " + tps.size();
    }

    private String member(Main.Args a) throws Exception {
        Thread told = Main.untilTold();
        try (KafkaConsumer<byte[], byte[]> c = consumer(a.get("group"), 500);
                OutputStream out = a.get("out") == null ? null : new FileOutputStream(a.get("out"), true)) {
            c.subscribe(List.of(a.get("topic")), new Watcher(c));
            while (told.isAlive()) {
                List<ConsumerRecord<byte[], byte[]>> batch = new ArrayList<>();
                c.poll(Duration.ofMillis(200)).forEach(batch::add);
                if (batch.isEmpty()) continue;
                if (out != null) for (ConsumerRecord<byte[], byte[]> r : batch) out.write(Rule.pack(r));
                report(batch);
                try {
                    c.commitSync(Duration.ofSeconds(10));
                } catch (CommitFailedException | RetriableException e) {
                    System.err.println("not committed: " + e); // the next owner reads these again
                }
            }
        }
        return "left";
    }

    private static final class Watcher implements ConsumerRebalanceListener {
        private final KafkaConsumer<byte[], byte[]> consumer;

        Watcher(KafkaConsumer<byte[], byte[]> consumer) {
            this.consumer = consumer;
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> added) {
            assigned(consumer.assignment());
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> gone) {
            Set<TopicPartition> left = new HashSet<>(consumer.assignment());
            left.removeAll(gone);
            assigned(left);
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> gone) {
            assigned(Collections.emptySet());
        }
    }

    private static void assigned(Collection<TopicPartition> owned) {
        TreeSet<Integer> parts = owned.stream().map(TopicPartition::partition).collect(Collectors.toCollection(TreeSet::new));
        Main.say("{\"event\":\"assigned\",\"partitions\":" + parts + "}");
    }

    private static void report(List<ConsumerRecord<byte[], byte[]>> batch) {
        for (int at = 0; at < batch.size(); ) {
            int p = batch.get(at).partition();
            long from = batch.get(at).offset();
            long to = from;
            for (at++; at < batch.size() && batch.get(at).partition() == p && batch.get(at).offset() == to + 1; at++) to++;
            Main.say("{\"event\":\"batch\",\"p\":" + p + ",\"from\":" + from + ",\"to\":" + to + "}");
        }
    }
}
