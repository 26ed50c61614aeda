import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs many command-line tools of a Kafka release in one JVM.
 *
 * Each line of standard input is `CLASS TAB STDIN TAB ARG TAB ...`, with \n and \t escaped in STDIN and ARGs; the answer is
 * one line of JSON: the exit status and what the tool wrote on both streams.
 */
public final class Tools {
    private static final class Ended extends RuntimeException {
        Ended() {
            super("", null, false, false);
        }
    }

    /** A stream whose target changes per tool: some classes keep the stream that they saw first. */
    private static final class Switch extends OutputStream {
        volatile ByteArrayOutputStream target = new ByteArrayOutputStream();

        @Override
        public void write(int b) {
            target.write(b);
        }

        @Override
        public void write(byte[] bytes, int from, int count) {
            target.write(bytes, from, count);
        }

        String take() {
            String text = target.toString(StandardCharsets.UTF_8);
            target = new ByteArrayOutputStream();
            return text;
        }
    }

    /** The first exit status that the tool asked for: some tools catch everything and then ask for another. */
    private static volatile Integer asked;

    private static final Switch OUT = new Switch();
    private static final Switch ERR = new Switch();

    public static void main(String[] args) throws IOException {
        PrintStream answers = System.out;
        InputStream requests = System.in;
        System.setOut(new PrintStream(OUT, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(ERR, true, StandardCharsets.UTF_8));
        Exit.setExitProcedure((status, message) -> {
            if (message != null) System.err.println(message);
            if (asked == null) asked = status;
            throw new Ended();
        });
        BufferedReader lines = new BufferedReader(new InputStreamReader(requests, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            asked = null;
            int returned = run(line.split("\t", -1));
            int status = asked == null ? returned : asked;
            System.out.flush();
            System.err.flush();
            answers.println("{\"exit\":" + status + ",\"out\":\"" + escape(OUT.take()) + "\",\"err\":\"" + escape(ERR.take()) + "\"}");
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private static int run(String[] words) {
        System.setIn(new ByteArrayInputStream(plain(words[1]).getBytes(StandardCharsets.UTF_8)));
        String[] args = new String[words.length - 2];
        for (int at = 0; at < args.length; at++) args[at] = plain(words[at + 2]);
        try {
            Class.forName(words[0]).getMethod("main", String[].class).invoke(null, (Object) args);
            return 0;
        } catch (InvocationTargetException e) {
            if (!(e.getCause() instanceof Ended)) e.getCause().printStackTrace();
            return 1;
        } catch (ReflectiveOperationException e) {
            e.printStackTrace();
            return 1;
        }
    }

    private static String plain(String word) {
        return word.replace("\\n", "\n").replace("\\t", "\t");
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
}
