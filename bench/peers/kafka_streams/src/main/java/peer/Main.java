package peer;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Properties;
import org.apache.avro.Schema;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/** Decides until it is told to end: BOOTSTRAP_SERVERS APP INPUT OUTPUT SCHEMA_FILE VALID_FOR_MS THREADS STATE_FOLDER. */
public final class Main {
    private static final Duration CLOSE_WITHIN = Duration.ofSeconds(10);

    private Main() {}

    public static void main(String[] arguments) throws Exception {
        Schema proposal = new Schema.Parser().parse(Files.readString(Path.of(arguments[4])));
        long validForMs = Long.parseLong(arguments[5]);
        Topology topology = topology(arguments[2], arguments[3], proposal, validForMs);
        KafkaStreams streams = new KafkaStreams(
                topology, settings(arguments[0], arguments[1], arguments[6], arguments[7]));
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.ERROR) {
                Runtime.getRuntime().halt(1);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close(CLOSE_WITHIN);
            Runtime.getRuntime().halt(0); // Java itself would say 143: that it was told to end
        }));
        streams.start();
    }

    private static Topology topology(String input, String output, Schema proposal, long validForMs) {
        Topology topology = new Topology();
        topology.addSource("proposals", new ByteArrayDeserializer(), new ByteArrayDeserializer(), input);
        topology.addProcessor("decider", () -> new Decider(proposal, validForMs), "proposals");
        topology.addStateStore(store(Decider.STATES), "decider");
        topology.addStateStore(store(Decider.MEMORY), "decider");
        topology.addSink("decisions", output, new ByteArraySerializer(), new ByteArraySerializer(), "decider");
        return topology;
    }

    private static StoreBuilder<KeyValueStore<byte[], byte[]>> store(String name) {
        return Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(name), Serdes.ByteArray(), Serdes.ByteArray())
                .withCachingEnabled();
    }

    private static Properties settings(String servers, String app, String threads, String folder) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", servers);
        settings.put("application.id", app);
        settings.put("processing.guarantee", "exactly_once_v2");
        settings.put("num.stream.threads", threads);
        settings.put("state.dir", folder);
        settings.put("commit.interval.ms", "100");
        settings.put("statestore.cache.max.bytes", String.valueOf(100 << 20));
        settings.put("consumer.auto.offset.reset", "earliest");
        settings.put("consumer.max.poll.records", "10000");
        settings.put("producer.compression.type", "lz4"); // this one and those below: as the gate's own
        settings.put("producer.linger.ms", "2");
        settings.put("producer.batch.size", "262144");
        return settings;
    }
}
