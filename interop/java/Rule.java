import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** The common rule of record content (see ../README.md). */
final class Rule {
    static final class Content {
        byte[] key;
        byte[] value;
        List<Header> headers = new ArrayList<>();
        Long ts;
    }

    private static final byte[] TEXT = bytes("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    private static final int BIG = 1 << 20;

    private int x;

    private Rule(int seed, int i) {
        x = seed * (int) 2654435761L + i * 40503 + 1;
        if (x == 0) x = 1;
    }

    private int next() {
        x ^= x << 13;
        x ^= x >>> 17;
        x ^= x << 5;
        return x;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static byte[] value(int seed, int i, boolean text, boolean big) {
        Rule rng = new Rule(seed, i);
        int size = 1 + Integer.remainderUnsigned(rng.next(), 400);
        if (big) size = BIG;
        byte[] value = new byte[size];
        int block = Math.min(size, 4096);
        for (int at = 0; at < block; at++) {
            int next = rng.next() >>> 8;
            value[at] = text ? TEXT[next & 63] : (byte) next;
        }
        for (int at = block; at < size; at++) value[at] = value[at - block];
        return value;
    }

    static Content record(String rule, int seed, int i, long t0) {
        Content c = new Content();
        c.key = bytes("k-" + i);
        c.ts = t0 == 0 ? null : (Long) (t0 + 1000L * i);
        switch (rule) {
            case "big":
                c.value = value(seed, i, false, true);
                break;
            case "nullhdr":
                c.value = value(seed, i, true, false);
                c.headers.add(new RecordHeader("h0", (byte[]) null));
                c.headers.add(new RecordHeader("h1", bytes("v")));
                break;
            case "plain":
                c.value = i % 11 == 4 ? null : value(seed, i, true, false);
                if (i % 7 == 3 && c.value != null) c.key = null;
                c.ts = null;
                break;
            default:
                mix(c, seed, i);
        }
        return c;
    }

    private static void mix(Content c, int seed, int i) {
        c.value = i % 11 == 4 ? null : i % 11 == 8 ? new byte[0] : value(seed, i, false, false);
        if (i % 7 == 3 && c.value != null) c.key = null;
        else if (i % 7 == 5) c.key = new byte[0];
        List<Header> all = List.of(
                new RecordHeader("h0", bytes("v" + i)),
                new RecordHeader("h1", new byte[0]),
                new RecordHeader("h2", new byte[] {(byte) 0xff, (byte) 0xfe}));
        c.headers.addAll(all.subList(0, i % 4));
    }

    /** What is wrong with `got` as record i, or null. */
    static String difference(String rule, int seed, int i, long t0, ConsumerRecord<byte[], byte[]> got) {
        Content want = record(rule, seed, i, t0);
        if (!Arrays.equals(want.key, got.key())) return "record " + i + ": key is " + show(got.key()) + ", not " + show(want.key);
        if (!Arrays.equals(want.value, got.value()))
            return "record " + i + ": value is " + show(got.value()) + ", not " + show(want.value);
        if (!want.headers.equals(Arrays.asList(got.headers().toArray())))
            return "record " + i + ": headers are " + got.headers() + ", not " + want.headers;
        if (want.ts != null && want.ts.longValue() != got.timestamp())
            return "record " + i + ": timestamp is " + got.timestamp() + ", not " + want.ts;
        return null;
    }

    private static String show(byte[] value) {
        if (value == null) return "null";
        String text = new String(value, 0, Math.min(40, value.length), StandardCharsets.ISO_8859_1);
        return "'" + text + "' (" + value.length + " bytes)";
    }

    /** One record of a member's `out` file. */
    static byte[] pack(ConsumerRecord<byte[], byte[]> r) {
        int size = 20 + (r.key() == null ? 0 : r.key().length) + (r.value() == null ? 0 : r.value().length);
        ByteBuffer out = ByteBuffer.allocate(size).putInt(r.partition()).putLong(r.offset());
        for (byte[] field : new byte[][] {r.key(), r.value()}) {
            out.putInt(field == null ? -1 : field.length);
            if (field != null) out.put(field);
        }
        return out.array();
    }

    /** The next field of a record file. */
    static byte[] field(ByteBuffer data) {
        int size = data.getInt();
        if (size < 0) return null;
        byte[] field = new byte[size];
        data.get(field);
        return field;
    }
}
