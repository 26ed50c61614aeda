import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Probes of consumer groups. */
final class Groups {
    private static final String STICKY = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";

    private final String bootstrap;
    private final Admin admin;
    private final Probes probes;

    Groups(String bootstrap, Probes probes) {
        this.bootstrap = bootstrap;
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap, "default.api.timeout.ms", "15000", "request.timeout.ms", "10000"));
        this.probes = probes;
    }

    private KafkaConsumer<String, String> consumer(String group, String... more) {
        Map<String, Object> p = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "group.id", probes.name(group),
                "enable.auto.commit", "false", "auto.offset.reset", "earliest", "default.api.timeout.ms", "10000", "request.timeout.ms", "10000"));
        for (int at = 0; at < more.length; at += 2) p.put(more[at], more[at + 1]);
        return new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer());
    }

    private String topic;

    private TopicPartition partition(int p) throws Exception {
        if (topic == null) {
            String name = probes.name("grouped");
            Probes.get(admin.createTopics(List.of(new NewTopic(name, 4, (short) 1))).all());
            probes.lag();
            topic = name;
        }
        return new TopicPartition(topic, p);
    }

    /** Polls all until each owns something and together they own all four partitions. */
    @SafeVarargs
    private static void settle(KafkaConsumer<String, String>... members) {
        for (long end = System.nanoTime() + 20_000_000_000L; System.nanoTime() < end; ) {
            int sum = 0;
            boolean each = true;
            for (KafkaConsumer<String, String> m : members) {
                m.poll(Duration.ofMillis(100));
                sum += m.assignment().size();
                each &= !m.assignment().isEmpty();
            }
            if (each && sum == 4) return;
        }
        throw new IllegalStateException("not settled");
    }

    private KafkaConsumer<String, String> join(String group, String... more) throws Exception {
        KafkaConsumer<String, String> c = consumer(group, more);
        c.subscribe(List.of(partition(0).topic()));
        return c;
    }

    private ConsumerGroupDescription describe(String group) throws Exception {
        String name = probes.name(group);
        return Probes.get(admin.describeConsumerGroups(List.of(name)).all()).get(name);
    }

    void add() {
        addCommits();
        addAdmin();
        addMembers();
    }

    private void addCommits() {
        probes.add("commit without a group's members", () -> {
            try (KafkaConsumer<String, String> c = consumer("standalone")) {
                c.assign(List.of(partition(0)));
                c.commitSync(Map.of(partition(0), new OffsetAndMetadata(7, "note")));
                return c.committed(Set.of(partition(0), partition(1)));
            }
        });
        probes.add("commit with metadata of 5000 letters", () -> {
            try (KafkaConsumer<String, String> c = consumer("standalone")) {
                c.assign(List.of(partition(0)));
                c.commitSync(Map.of(partition(0), new OffsetAndMetadata(8, "x".repeat(5000))));
                return c.committed(Set.of(partition(0)));
            }
        });
        probes.add("commit for a topic that is not there", () -> {
            TopicPartition none = new TopicPartition(probes.name("never"), 0);
            try (KafkaConsumer<String, String> c = consumer("standalone")) {
                c.assign(List.of(partition(0)));
                c.commitSync(Map.of(none, new OffsetAndMetadata(1)));
                return "committed";
            }
        });
        probes.add("commit from outside of an active group", () -> {
            try (KafkaConsumer<String, String> member = join("busy"); KafkaConsumer<String, String> other = consumer("busy")) {
                settle(member);
                other.assign(List.of(partition(0)));
                other.commitSync(Map.of(partition(0), new OffsetAndMetadata(1)));
                return "committed";
            }
        });
        probes.add("offsets of an unknown group", () -> Probes.get(
                admin.listConsumerGroupOffsets(probes.name("never")).partitionsToOffsetAndMetadata()).size());
        probes.add("alter offsets of an empty group", () -> {
            Probes.get(admin.alterConsumerGroupOffsets(probes.name("standalone"),
                    Map.of(partition(0), new OffsetAndMetadata(3))).all());
            return Probes.get(admin.listConsumerGroupOffsets(probes.name("standalone")).partitionsToOffsetAndMetadata());
        });
    }

    private void addAdmin() {
        probes.add("describe an unknown group", () -> describe("never").groupState());
        probes.add("describe a group without members", () -> {
            ConsumerGroupDescription d = describe("standalone");
            return Probes.list(d.groupState(), d.type(), d.members().size(), d.isSimpleConsumerGroup());
        });
        probes.add("describe an active group", () -> {
            try (KafkaConsumer<String, String> member = join("active", "client.id", "me")) {
                settle(member);
                ConsumerGroupDescription d = describe("active");
                var m = d.members().iterator().next();
                return Probes.list(d.groupState(), d.type(), d.partitionAssignor(), d.members().size(), m.clientId(),
                        m.host(), m.assignment().topicPartitions().size(), m.consumerId().startsWith("me-"));
            }
        });
        probes.add("list groups", () -> Probes.get(admin.listGroups().all()).stream()
                .filter(g -> g.groupId().equals(probes.name("standalone")))
                .map(g -> Probes.list(g.groupState(), g.type(), g.protocol()).toString()).collect(Collectors.toList()));
        probes.add("list consumer groups", () -> Probes.get(admin.listGroups(ListGroupsOptions.forConsumerGroups()).all())
                .stream().filter(g -> g.groupId().startsWith(probes.name(""))).map(g -> g.groupId()).sorted()
                .collect(Collectors.toList()));
        probes.add("delete an unknown group",
                () -> Probes.get(admin.deleteConsumerGroups(List.of(probes.name("never"))).all()));
        probes.add("delete an active group", () -> {
            try (KafkaConsumer<String, String> member = join("active")) {
                settle(member);
                return Probes.get(admin.deleteConsumerGroups(List.of(probes.name("active"))).all());
            }
        });
        probes.add("delete offsets of a subscribed topic", () -> {
            try (KafkaConsumer<String, String> member = join("active")) {
                settle(member);
                member.commitSync(Map.of(partition(0), new OffsetAndMetadata(0)));
                return Probes.get(admin.deleteConsumerGroupOffsets(probes.name("active"), Set.of(partition(0))).all());
            }
        });
        probes.add("alter offsets of an active group", () -> {
            try (KafkaConsumer<String, String> member = join("active")) {
                settle(member);
                return Probes.get(admin.alterConsumerGroupOffsets(probes.name("active"),
                        Map.of(partition(0), new OffsetAndMetadata(3))).all());
            }
        });
        probes.add("remove all members", () -> {
            try (KafkaConsumer<String, String> member = join("removed")) {
                settle(member);
                Probes.get(admin.removeMembersFromConsumerGroup(probes.name("removed"),
                        new RemoveMembersFromConsumerGroupOptions()).all());
                return describe("removed").groupState();
            }
        });
        probes.add("remove an unknown static member", () -> {
            try (KafkaConsumer<String, String> member = join("removed")) {
                settle(member);
                return Probes.get(admin.removeMembersFromConsumerGroup(probes.name("removed"),
                        new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("nobody")))).all());
            }
        });
    }

    private void addMembers() {
        probes.add("a static member comes back", () -> {
            int before;
            try (KafkaConsumer<String, String> other = join("static", "group.instance.id", "b")) {
                try (KafkaConsumer<String, String> member = join("static", "group.instance.id", "a")) {
                    settle(member, other);
                    before = member.groupMetadata().generationId();
                }
                try (KafkaConsumer<String, String> member = join("static", "group.instance.id", "a")) {
                    settle(member, other);
                    return "generations apart: " + (member.groupMetadata().generationId() - before);
                }
            }
        });
        probes.add("a static member is replaced", () -> {
            try (KafkaConsumer<String, String> first = join("fenced", "group.instance.id", "a");
                    KafkaConsumer<String, String> second = join("fenced", "group.instance.id", "a")) {
                settle(first);
                settle(second);
                for (int i = 0; i < 50; i++) first.poll(Duration.ofMillis(100));
                return "not noticed";
            }
        });
        probes.add("two cooperative members", () -> {
            try (KafkaConsumer<String, String> a = join("coop", "partition.assignment.strategy", STICKY);
                    KafkaConsumer<String, String> b = join("coop", "partition.assignment.strategy", STICKY)) {
                settle(a);
                settle(a, b);
                return Probes.list(a.assignment().size(), b.assignment().size());
            }
        });
        probes.add("two members without a common assignor", () -> {
            try (KafkaConsumer<String, String> a = join("odd", "partition.assignment.strategy", STICKY);
                    KafkaConsumer<String, String> b = join("odd", "partition.assignment.strategy",
                            "org.apache.kafka.clients.consumer.RoundRobinAssignor")) {
                settle(a);
                for (int i = 0; i < 20; i++) b.poll(Duration.ofMillis(100));
                return "joined";
            }
        });
        probes.add("a session timeout below the minimum", () -> {
            try (KafkaConsumer<String, String> c = join("hasty", "session.timeout.ms", "1000", "heartbeat.interval.ms", "300")) {
                for (int i = 0; i < 20; i++) c.poll(Duration.ofMillis(100));
                return "joined";
            }
        });
        probes.add("create the topic __consumer_offsets", () -> Probes.get(
                admin.createTopics(List.of(new NewTopic("__consumer_offsets", 1, (short) 1))).all()));
        probes.add("an empty group id", () -> {
            try (KafkaConsumer<String, String> c = consumer("x", "group.id", "")) {
                return "made";
            }
        });
        probes.add("the consumer protocol of KIP-848", () -> {
            try (KafkaConsumer<String, String> c = consumer("next", "group.protocol", "consumer")) {
                c.subscribe(List.of(partition(0).topic()));
                settle(c);
                return "joined";
            }
        });
    }
}
