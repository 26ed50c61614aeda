import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaFilter;

/** Probes of topics, configs and the cluster. */
final class Topics {
    private final Admin admin;
    private final Probes probes;

    Topics(String bootstrap, Probes probes) {
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap, "default.api.timeout.ms", "15000", "request.timeout.ms", "10000"));
        this.probes = probes;
    }

    private String create(String name, int partitions, int replicas, Map<String, String> configs) throws Exception {
        NewTopic topic = new NewTopic(name, partitions, (short) replicas).configs(configs);
        CreateTopicsResult made = admin.createTopics(List.of(topic));
        Probes.get(made.all());
        probes.lag();
        return Probes.get(made.numPartitions(name)) + " partitions, factor " + Probes.get(made.replicationFactor(name));
    }

    private void creating(String probe, String name, int partitions, int replicas, Map<String, String> configs) {
        probes.add("create " + probe, () -> create(name, partitions, replicas, configs));
    }

    private TopicDescription describe(String name) throws Exception {
        return Probes.get(admin.describeTopics(List.of(name)).allTopicNames()).get(name);
    }

    void add() {
        creating("a name with a slash", "a/b", 1, 1, Map.of());
        creating("an empty name", "", 1, 1, Map.of());
        creating("the name ..", "..", 1, 1, Map.of());
        creating("a name of 250 letters", "x".repeat(250), 1, 1, Map.of());
        creating("a name of 249 letters", (probes.name("") + "x".repeat(249)).substring(0, 249), 1, 1, Map.of());
        creating("no partitions", probes.name("none"), 0, 1, Map.of());
        creating("factor 2 on one broker", probes.name("two"), 1, 2, Map.of());
        creating("factor 0", probes.name("zero"), 1, 0, Map.of());
        creating("defaults", probes.name("defaults"), -1, -1, Map.of());
        creating("an unknown config", probes.name("unknown"), 1, 1, Map.of("no.such.key", "1"));
        creating("a value that is no number", probes.name("nan"), 1, 1, Map.of("retention.ms", "abc"));
        creating("a value out of bounds", probes.name("bounds"), 1, 1, Map.of("min.insync.replicas", "0"));
        creating("segment.bytes below 1 MiB", probes.name("segment"), 1, 1, Map.of("segment.bytes", "1000"));
        creating("a wrong cleanup policy", probes.name("policy"), 1, 1, Map.of("cleanup.policy", "shred"));
        creating("compaction", probes.name("compact"), 1, 1, Map.of("cleanup.policy", "compact"));
        creating("remote storage", probes.name("remote"), 1, 1, Map.of("remote.storage.enable", "true"));
        creating("a name that clashes: a.b", probes.name("a.b"), 1, 1, Map.of());
        creating("a name that clashes: a_b", probes.name("a_b"), 1, 1, Map.of());
        probes.add("create by assignment", () -> {
            int id = Probes.get(admin.describeCluster().nodes()).iterator().next().id();
            NewTopic topic = new NewTopic(probes.name("assigned"), Map.of(0, List.of(id), 1, List.of(id)));
            return Probes.get(admin.createTopics(List.of(topic)).numPartitions(probes.name("assigned")));
        });
        probes.add("create by assignment to an unknown broker", () -> Probes.get(admin.createTopics(
                List.of(new NewTopic(probes.name("nobody"), Map.of(0, List.of(99))))).all()));
        probes.add("create by assignment with a gap", () -> Probes.get(admin.createTopics(
                List.of(new NewTopic(probes.name("gap"), Map.of(1, List.of(1))))).all()));
        probes.add("create, validate only", () -> {
            NewTopic topic = new NewTopic(probes.name("dry"), 2, (short) 1);
            Probes.get(admin.createTopics(List.of(topic), new CreateTopicsOptions().validateOnly(true)).all());
            return "valid, listed: " + Probes.get(admin.listTopics().names()).contains(probes.name("dry"));
        });
        probes.add("create one name twice in a request", () -> Probes.get(admin.createTopics(List.of(
                new NewTopic(probes.name("twin"), 1, (short) 1), new NewTopic(probes.name("twin"), 2, (short) 1))).all()));
        addPartitions();
        addConfigs();
        addCluster();
    }

    private void addPartitions() {
        String name = probes.name("grow");
        creating("for partitions", name, 2, 1, Map.of());
        for (int count : new int[] {1, 2, 4}) {
            probes.add("partitions 2 to " + count, () -> {
                Probes.get(admin.createPartitions(Map.of(name, NewPartitions.increaseTo(count))).all());
                probes.lag();
                return describe(name).partitions().size();
            });
        }
        probes.add("partitions of an unknown topic",
                () -> Probes.get(admin.createPartitions(Map.of(probes.name("never"), NewPartitions.increaseTo(3))).all()));
        probes.add("describe an unknown topic", () -> describe(probes.name("never")));
        probes.add("describe a topic", () -> {
            TopicDescription d = describe(name);
            return Probes.list(d.isInternal(), d.partitions().size(), d.partitions().get(0).isr().size(),
                    d.partitions().get(0).elr().size(), d.authorizedOperations() == null, d.topicId().equals(Uuid.ZERO_UUID));
        });
        probes.add("describe by an unknown id", () -> Probes.get(
                admin.describeTopics(TopicCollection.ofTopicIds(List.of(new Uuid(7, 7)))).allTopicIds()));
        probes.add("describe by id", () -> Probes.get(admin.describeTopics(
                TopicCollection.ofTopicIds(List.of(describe(name).topicId()))).allTopicIds()).values().iterator().next().name());
        probes.add("delete an unknown topic", () -> Probes.get(admin.deleteTopics(List.of(probes.name("never"))).all()));
        probes.add("delete by an unknown id", () -> Probes.get(
                admin.deleteTopics(TopicCollection.ofTopicIds(List.of(new Uuid(7, 7)))).all()));
        probes.add("delete by id, create again", () -> {
            Uuid before = describe(name).topicId();
            Probes.get(admin.deleteTopics(TopicCollection.ofTopicIds(List.of(before))).all());
            probes.lag();
            create(name, 1, 1, Map.of());
            return "the same id: " + describe(name).topicId().equals(before);
        });
    }

    private static String show(ConfigEntry e) {
        return e.value() + " " + e.source() + (e.isReadOnly() ? " read-only" : "") + (e.isSensitive() ? " sensitive" : "")
                + " " + e.type();
    }

    private Map<String, String> configs(ConfigResource resource) throws Exception {
        Collection<ConfigEntry> entries = Probes.get(admin.describeConfigs(List.of(resource)).all()).get(resource).entries();
        Map<String, String> shown = new TreeMap<>();
        entries.forEach(e -> shown.put(e.name(), show(e)));
        return shown;
    }

    private Object alter(ConfigResource resource, String key, String value, AlterConfigOp.OpType op) throws Exception {
        Probes.get(admin.incrementalAlterConfigs(
                Map.of(resource, List.of(new AlterConfigOp(new ConfigEntry(key, value), op)))).all());
        probes.lag();
        return configs(resource).get(key);
    }

    private void addConfigs() {
        String name = probes.name("configured");
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, name);
        creating("with configs", name, 1, 1, Map.of("retention.ms", "1000000", "max.message.bytes", "200000"));
        probes.add("config", () -> configs(topic));
        probes.add("config with synonyms", () -> {
            DescribeConfigsOptions all = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
            ConfigEntry e = Probes.get(admin.describeConfigs(List.of(topic), all).all()).get(topic).get("retention.ms");
            Set<String> names = new TreeSet<>();
            e.synonyms().forEach(s -> names.add(s.name() + "=" + s.value() + " " + s.source()));
            return names + ", documented: " + (e.documentation() != null && !e.documentation().isEmpty());
        });
        probes.add("config of an unknown topic",
                () -> configs(new ConfigResource(ConfigResource.Type.TOPIC, probes.name("never"))));
        probes.add("config of an unknown broker", () -> configs(new ConfigResource(ConfigResource.Type.BROKER, "99")));
        probes.add("alter: set", () -> alter(topic, "retention.ms", "2000000", AlterConfigOp.OpType.SET));
        probes.add("alter: delete", () -> alter(topic, "retention.ms", "", AlterConfigOp.OpType.DELETE));
        probes.add("alter: delete what is not set", () -> alter(topic, "segment.ms", "", AlterConfigOp.OpType.DELETE));
        probes.add("alter: append to no list", () -> alter(topic, "retention.ms", "1", AlterConfigOp.OpType.APPEND));
        probes.add("alter: append to a list", () -> alter(topic, "cleanup.policy", "delete", AlterConfigOp.OpType.APPEND));
        probes.add("alter: an unknown key", () -> alter(topic, "no.such.key", "1", AlterConfigOp.OpType.SET));
        probes.add("alter: a wrong value", () -> alter(topic, "retention.ms", "abc", AlterConfigOp.OpType.SET));
        probes.add("alter: an unknown topic", () -> alter(new ConfigResource(ConfigResource.Type.TOPIC, probes.name("never")),
                "retention.ms", "1", AlterConfigOp.OpType.SET));
        probes.add("alter: a broker's read-only key", () -> {
            String id = Probes.get(admin.describeCluster().nodes()).iterator().next().idString();
            return alter(new ConfigResource(ConfigResource.Type.BROKER, id), "num.partitions", "3", AlterConfigOp.OpType.SET);
        });
    }

    private void addCluster() {
        probes.add("cluster", () -> {
            var c = admin.describeCluster();
            return Probes.list(Probes.get(c.nodes()).size(), Probes.get(c.clusterId()).length(),
                    Probes.get(c.controller()) != null, Probes.get(c.authorizedOperations()) == null);
        });
        probes.add("log dirs", () -> {
            int id = Probes.get(admin.describeCluster().nodes()).iterator().next().id();
            var dirs = Probes.get(admin.describeLogDirs(List.of(id)).allDescriptions()).get(id).values();
            var dir = dirs.iterator().next();
            return Probes.list(dirs.size(), dir.error() == null, dir.totalBytes().isPresent(), dir.usableBytes().isPresent(),
                    dir.replicaInfos().keySet().stream().anyMatch(tp -> tp.topic().equals(probes.name("configured"))));
        });
        probes.add("acls", () -> Probes.get(admin.describeAcls(AclBindingFilter.ANY).values()).size());
        probes.add("quotas", () -> Probes.get(admin.describeClientQuotas(ClientQuotaFilter.all()).entities()).size());
        probes.add("scram", () -> Probes.get(admin.describeUserScramCredentials().all()).size());
        probes.add("features", () -> {
            Map<String, Object> names = new HashMap<>();
            Probes.get(admin.describeFeatures().featureMetadata()).finalizedFeatures()
                    .forEach((n, v) -> names.put(n, v.maxVersionLevel()));
            return new TreeMap<>(names);
        });
        probes.add("quorum", () -> Probes.get(admin.describeMetadataQuorum().quorumInfo()).voters().size());
        probes.add("reassignments", () -> Probes.get(admin.listPartitionReassignments().reassignments()).size());
        probes.add("elect the preferred leader", () -> Probes.get(admin.electLeaders(ElectionType.PREFERRED,
                Set.of(new TopicPartition(probes.name("configured"), 0))).partitions()).values().iterator().next()
                .map(Probes::describe).orElse("elected"));
        probes.add("transactions", () -> Probes.get(admin.listTransactions().all()).size());
    }
}
