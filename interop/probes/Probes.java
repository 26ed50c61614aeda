import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.common.KafkaFuture;

/**
 * Small questions to a broker whose answers are text: `Probes BOOTSTRAP TAG LAG-MS`.
 *
 * Prints a JSON line `{"probe","answer"}` for each. The runner compares the answers of a real Kafka with those of another
 * broker; what differs per run (ids, times, ports, the tag of topic names) is left out of the answers.
 */
public final class Probes {
    interface Probe {
        Object ask() throws Exception;
    }

    private final Map<String, Probe> all = new LinkedHashMap<>();
    private final String tag;
    private final long lagMs;

    private Probes(String tag, long lagMs) {
        this.tag = tag;
        this.lagMs = lagMs;
    }

    /** A real Kafka answers a change before it knows it everywhere; this gives it the time. */
    void lag() throws InterruptedException {
        Thread.sleep(lagMs);
    }

    void add(String name, Probe probe) {
        all.put(name, probe);
    }

    /** A topic or group name that no other run used. */
    String name(String what) {
        return tag + "-" + what;
    }

    static <T> T get(KafkaFuture<T> future) throws Exception {
        return future.get(20, TimeUnit.SECONDS);
    }

    /** What went wrong, without what differs per run. */
    static String describe(Throwable error) {
        Throwable cause = error;
        while (cause instanceof ExecutionException && cause.getCause() != null) cause = cause.getCause();
        return cause instanceof TimeoutException ? "no answer" : cause.getClass().getSimpleName();
    }

    private void run() {
        for (Map.Entry<String, Probe> each : all.entrySet()) {
            Object answer;
            try {
                answer = each.getValue().ask();
            } catch (Throwable error) {
                answer = describe(error);
                System.err.println(each.getKey() + ": " + error);
            }
            if (answer instanceof Map) {
                ((Map<?, ?>) answer).forEach((key, value) -> say(each.getKey() + " " + key, String.valueOf(value)));
            } else {
                say(each.getKey(), String.valueOf(answer));
            }
        }
    }

    private void say(String probe, String answer) {
        System.out.println("{\"probe\":\"" + escape(probe.replace(tag, "TAG")) + "\",\"answer\":\"" + escape(answer.replace(tag, "TAG")) + "\"}");
        System.out.flush();
    }

    private static String escape(String text) {
        StringBuilder out = new StringBuilder();
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') out.append('\\').append(c);
            else if (c < 32 || c > 126) out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.toString();
    }

    static List<Object> list(Object... items) {
        return new ArrayList<>(List.of(items));
    }

    public static void main(String[] args) {
        Probes probes = new Probes(args[1], Long.parseLong(args[2]));
        Topics topics = new Topics(args[0], probes);
        topics.add();
        Records records = new Records(args[0], probes);
        records.add();
        Groups groups = new Groups(args[0], probes);
        groups.add();
        probes.run();
        Runtime.getRuntime().halt(0);
    }
}
