package headwater.flink;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Header;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.internals.RecordHeader;

/** Framed results as records of the results' log topic, in the partition of their shard. */
public final class ResultRecords implements KafkaRecordSerializationSchema<byte[]> {
    private static final long serialVersionUID = 1;

    private final String logTopic;

    ResultRecords(String logTopic) {
        this.logTopic = logTopic;
    }

    @Override
    public ProducerRecord<byte[], byte[]> serialize(byte[] frame, KafkaSinkContext context, Long timestamp) {
        ByteBuffer head = ByteBuffer.wrap(frame);
        int shard = head.getInt();
        head.getLong();
        byte[] timestampUs = Long.toString(head.getLong()).getBytes(StandardCharsets.US_ASCII);
        byte[] key = Integer.toString(shard).getBytes(StandardCharsets.US_ASCII);
        byte[] value = Arrays.copyOfRange(frame, FramedRecords.HEAD_BYTES, frame.length);
        List<Header> headers = List.of(new RecordHeader(FramedRecords.TIMESTAMP_HEADER, timestampUs));
        return new ProducerRecord<>(logTopic, shard, null, key, value, headers);
    }
}
