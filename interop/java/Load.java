import java.io.BufferedWriter;
import java.io.FileWriter;
import java.io.IOException;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The case `load`: numbered records until standard input ends, and a line for the fate of each (see ../README.md). */
final class Load {
    private final Main.Args args;
    private final Properties settings = new Properties();
    private long acknowledged;
    private long failed;

    Load(String bootstrap, Main.Args args) {
        this.args = args;
        settings.put("bootstrap.servers", bootstrap);
        settings.put("acks", "all");
        settings.put("enable.idempotence", "true");
        if (args.get("defaults") != null) return;
        int timeout = 1000 * Integer.parseInt(args.getOr("timeout", "120"));
        settings.put("linger.ms", "5");
        settings.put("delivery.timeout.ms", String.valueOf(timeout));
        settings.put("max.block.ms", String.valueOf(timeout));
        settings.put("retry.backoff.ms", "50");
        settings.put("reconnect.backoff.ms", "20");
        settings.put("reconnect.backoff.max.ms", "200");
    }

    String run() throws Exception {
        Thread told = Main.untilTold();
        int parts = args.num("parts");
        double rate = args.num("rate");
        int tick = Integer.parseInt(args.getOr("tick", "10"));
        long began = System.nanoTime();
        long sent = 0;
        try (Writer acks = new BufferedWriter(new FileWriter(args.get("acks")))) {
            try (KafkaProducer<byte[], byte[]> p =
                    new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
                while (told.isAlive()) {
                    while (told.isAlive() && sent < (System.nanoTime() - began) / 1e9 * rate) {
                        send(p, acks, (int) (sent % parts), sent / parts);
                        sent++;
                    }
                    synchronized (this) {
                        acks.flush();
                    }
                    Thread.sleep(tick);
                }
            }
        }
        return "sent " + sent + " acknowledged " + acknowledged + " failed " + failed;
    }

    private void send(KafkaProducer<byte[], byte[]> p, Writer acks, int partition, long number) {
        String id = args.get("id");
        byte[] key = id.getBytes(StandardCharsets.US_ASCII);
        p.send(new ProducerRecord<>(args.get("topic"), partition, key, numbered(id, partition, number)),
                (meta, error) -> note(acks, partition, number, meta, error));
    }

    private synchronized void note(Writer acks, int partition, long number, RecordMetadata meta, Exception error) {
        try {
            if (error == null) {
                acknowledged++;
                long now = ChronoUnit.MICROS.between(Instant.EPOCH, Instant.now());
                long offset = meta.hasOffset() ? meta.offset() : -1;
                acks.write(partition + " " + offset + " " + number + " " + now + "\n");
            } else {
                failed++;
                acks.write("! " + partition + " " + number + " " + error + "\n");
            }
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    /** Value of record `number` that the writer `name` sends to a partition. */
    private static byte[] numbered(String name, int partition, long number) {
        byte[] head = (name + " " + partition + " " + number + " ").getBytes(StandardCharsets.US_ASCII);
        int size = 24 + (int) ((number * 7919 + partition * 104729L) % 600);
        byte[] value = new byte[Math.max(size, head.length)];
        for (int at = 0; at < value.length; at++) value[at] = head[at % head.length];
        return value;
    }
}
