import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.HashMap;
import java.util.Map;

/** kafka-clients of any version: `Main BOOTSTRAP CASE [name=value ...]` (see ../README.md). */
public final class Main {
    /** The broker's answer is not what it must be. */
    static final class Wrong extends RuntimeException {
        Wrong(String what) {
            super(what);
        }
    }

    static final class Args {
        private final Map<String, String> map = new HashMap<>();

        Args(String[] words, int from) {
            map.put("rule", "mix");
            map.put("group", java.util.UUID.randomUUID().toString());
            for (int at = from; at < words.length; at++) {
                int eq = words[at].indexOf('=');
                map.put(words[at].substring(0, eq), words[at].substring(eq + 1));
            }
        }

        String get(String name) {
            return map.get(name);
        }

        String getOr(String name, String otherwise) {
            return map.getOrDefault(name, otherwise);
        }

        int num(String name) {
            return Integer.parseInt(map.get(name));
        }

        long t0() {
            return Long.parseLong(map.getOrDefault("t0", "0"));
        }

        /** The arguments whose names have a dot: topic configs. */
        Map<String, String> configs() {
            Map<String, String> configs = new HashMap<>(map);
            configs.keySet().removeIf(name -> !name.contains("."));
            return configs;
        }

        Rule.Content record(int i) {
            return Rule.record(get("rule"), num("seed"), i, t0());
        }
    }

    interface Case {
        String run(Args args) throws Exception;
    }

    public static void main(String[] words) throws Exception {
        Cases cases = new Cases(words[0]);
        if (!words[1].equals("serve")) {
            System.exit(run(cases, words[1], new Args(words, 2)) ? 0 : 1);
        }
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] parts = line.trim().split(" +");
            run(cases, parts[0], new Args(parts, 1));
        }
        System.exit(0);
    }

    private static boolean run(Cases cases, String name, Args args) {
        long began = System.nanoTime();
        boolean ok = true;
        String detail;
        try {
            detail = cases.find(name).run(args);
        } catch (Throwable error) {
            ok = false;
            detail = error.toString();
            if (!(error instanceof Wrong)) error.printStackTrace();
        }
        long ms = (System.nanoTime() - began) / 1_000_000;
        say("{\"case\":\"" + name + "\",\"ok\":" + ok + ",\"detail\":\"" + escape(detail) + "\",\"ms\":" + ms + "}");
        return ok;
    }

    /** A thread that ends when standard input does. */
    static Thread untilTold() {
        Thread told = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (java.io.IOException e) {
                // standard input is gone, which is what this thread waits for
            }
        });
        told.setDaemon(true);
        told.start();
        return told;
    }

    static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    static String escape(String text) {
        StringBuilder out = new StringBuilder();
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') out.append('\\').append(c);
            else if (c < 32 || c > 126) out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.toString();
    }
}
