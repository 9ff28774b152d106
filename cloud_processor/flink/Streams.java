package headwater.flink;

import java.util.Map;
import java.util.Properties;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.functions.KeySelector;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.runtime.state.KeyGroupRangeAssignment;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.types.Row;

/** The Java side of the job: from the log to the Python function, keyed by shard, and from there to the results. */
public final class Streams {
    private Streams() {}

    /** Reads the readings, keyed by shard, with marks in front of every checkpoint. */
    public static KeyedStream<Row, Row> readings(
            StreamExecutionEnvironment environment, String servers, String logTopic, String incarnation,
            Map<String, String> settings, int partitions, int maxParallelism) {
        KafkaSource<Row> source = KafkaSource.<Row>builder()
                .setBootstrapServers(servers)
                .setTopics(logTopic)
                .setGroupId("headwater-flink")
                .setStartingOffsets(OffsetsInitializer.earliest())
                .setDeserializer(new FramedRecords(keys(partitions, maxParallelism)))
                .setProperties(properties(settings))
                .build();
        // Event time lives in the task (per device, in data); Flink's own watermarks and timers play no part.
        return environment.fromSource(source, WatermarkStrategy.noWatermarks(), "readings")
                // Offsets are those of one log: a log that replaced it begins at its oldest record.
                .uid("readings-" + incarnation)
                .transform("marks", FramedRecords.TYPE, new CheckpointMarks())
                .uid("marks")
                .keyBy(new ShardKey(), Types.ROW(Types.INT));
    }

    /** Writes framed results; a checkpoint waits until they are acknowledged. */
    public static void results(DataStream<byte[]> stream, String servers, String logTopic, Map<String, String> settings) {
        KafkaSink<byte[]> sink = KafkaSink.<byte[]>builder()
                .setBootstrapServers(servers)
                .setRecordSerializer(new ResultRecords(logTopic))
                .setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE)
                .setKafkaProducerConfig(properties(settings))
                .build();
        stream.sinkTo(sink).name("results").uid("results");
    }

    /** Keys whose groups lie evenly over all parallel tasks; hashed as they are, a few shards would crowd on one. */
    static int[] keys(int partitions, int maxParallelism) {
        int[] keys = new int[partitions];
        int candidate = 0;
        for (int shard = 0; shard < partitions; shard++) {
            int group = (int) ((long) shard * maxParallelism / partitions);
            while (KeyGroupRangeAssignment.assignToKeyGroup(Row.of(candidate), maxParallelism) != group) {
                candidate++;
            }
            keys[shard] = candidate++;
        }
        return keys;
    }

    private static Properties properties(Map<String, String> settings) {
        Properties properties = new Properties();
        properties.putAll(settings);
        return properties;
    }

    /** The key of a framed record, as PyFlink's keyed functions want it: a row of one. */
    private static final class ShardKey implements KeySelector<Row, Row> {
        private static final long serialVersionUID = 1;

        @Override
        public Row getKey(Row record) {
            return Row.of(record.getField(0));
        }
    }
}
