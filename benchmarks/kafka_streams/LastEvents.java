import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Keeps the last 50 events of each user in RocksDB with a changelog, and forwards one message per
 * event. No model: what Kafka Streams needs for the state alone.
 *
 * <p>Arguments: bootstrap servers, source topic, output topic, application id, state folder,
 * at_least_once or exactly_once_v2, bytes of cache (0: none), commit interval in ms (0: the default
 * of the guarantee).
 */
public final class LastEvents {
  private static final String STORE = "last";
  private static final int KEPT = 50;
  /** Bytes of an event: time 8, id 8, item 4, category 4, price 4, quantity 2, type 1, padding 1. */
  private static final int ENTRY = 32;

  /** What of an event is read. */
  public static final class Event {
    public String type;
    public String event_id;
    public String user_id;
    public long event_time;
    public String item_id;
    public String category_id;
    public double price;
    public int quantity = 1;
  }

  private static final class Keeper implements Processor<String, byte[], String, byte[]> {
    private final ObjectReader reader =
        new ObjectMapper()
            .configure(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES, false)
            .readerFor(Event.class);
    private ProcessorContext<String, byte[]> context;
    private KeyValueStore<String, byte[]> store;

    @Override
    public void init(ProcessorContext<String, byte[]> context) {
      this.context = context;
      this.store = context.getStateStore(STORE);
    }

    @Override
    public void process(Record<String, byte[]> record) {
      Event event;
      try {
        event = reader.readValue(record.value());
      } catch (java.io.IOException error) {
        throw new java.io.UncheckedIOException(error);
      }
      byte[] kept = appended(store.get(record.key()), event);
      store.put(record.key(), kept);
      String message =
          "{\"event_id\":\"" + event.event_id + "\",\"user_id\":\"" + event.user_id
              + "\",\"event_time\":" + event.event_time + ",\"events\":" + kept.length / ENTRY + "}";
      context.forward(record.withValue(message.getBytes(StandardCharsets.UTF_8)));
    }
  }

  private static byte[] appended(byte[] before, Event event) {
    int length = before == null ? 0 : before.length;
    int dropped = length == KEPT * ENTRY ? ENTRY : 0;
    byte[] after = new byte[length - dropped + ENTRY];
    if (length > 0) {
      System.arraycopy(before, dropped, after, 0, length - dropped);
    }
    ByteBuffer.wrap(after, length - dropped, ENTRY)
        .putLong(event.event_time)
        .putLong(event.event_id.hashCode())
        .putInt(event.item_id == null ? 0 : event.item_id.hashCode())
        .putInt(event.category_id == null ? 0 : event.category_id.hashCode())
        .putFloat((float) event.price)
        .putShort((short) event.quantity)
        .put((byte) event.type.charAt(0));
    return after;
  }

  public static void main(String[] args) throws InterruptedException {
    long cache = Long.parseLong(args[6]);
    var settings = new Properties();
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[3]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, args[5]);
    settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, cache);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
    if (!args[7].equals("0")) {
      settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, args[7]);
    }
    var store =
        Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore(STORE), Serdes.String(), Serdes.ByteArray())
            .withLoggingEnabled(Map.of());
    var builder = new StreamsBuilder();
    builder.addStateStore(cache > 0 ? store.withCachingEnabled() : store.withCachingDisabled());
    builder.stream(args[1], Consumed.with(Serdes.String(), Serdes.ByteArray()))
        .process(Keeper::new, STORE)
        .to(args[2], Produced.with(Serdes.String(), Serdes.ByteArray()));
    var streams = new KafkaStreams(builder.build(), settings);
    var ended = new CountDownLatch(1);
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  streams.close();
                  ended.countDown();
                }));
    streams.start();
    ended.await();
  }
}
