package headwater.flink;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Header;
import org.apache.flink.types.Row;
import org.apache.flink.util.Collector;

/**
 * Records of the log as Row(key, frame): the frame is shard, offset and timestamp_us, big-endian, and then the value.
 *
 * <p>PyFlink's own deserializers give the value alone; the task needs the place that it came from.
 */
public final class FramedRecords implements KafkaRecordDeserializationSchema<Row> {
    static final int HEAD_BYTES = Integer.BYTES + Long.BYTES + Long.BYTES;
    static final String TIMESTAMP_HEADER = "timestamp_us";
    static final TypeInformation<Row> TYPE =
            Types.ROW(Types.INT, PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO);
    private static final long serialVersionUID = 1;

    private final int[] keys;

    FramedRecords(int[] keys) {
        this.keys = keys;
    }

    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Row> out) {
        if (record.partition() >= keys.length) {
            throw new IllegalStateException(
                    "partition " + record.partition() + " of a log that the job was told has " + keys.length
                            + ": set processor.partitions to what the log has");
        }
        byte[] value = record.value() == null ? new byte[0] : record.value();
        ByteBuffer frame = ByteBuffer.allocate(HEAD_BYTES + value.length);
        frame.putInt(record.partition()).putLong(record.offset()).putLong(timestampUs(record)).put(value);
        out.collect(Row.of(keys[record.partition()], frame.array()));
    }

    /** The log's own timestamp; Kafka's is the time of the append and stands in where a record came from elsewhere. */
    private static long timestampUs(ConsumerRecord<byte[], byte[]> record) {
        Header header = record.headers().lastHeader(TIMESTAMP_HEADER);
        if (header == null) {
            return record.timestamp() * 1000;
        }
        return Long.parseLong(new String(header.value(), StandardCharsets.US_ASCII));
    }

    @Override
    public TypeInformation<Row> getProducedType() {
        return TYPE;
    }
}
