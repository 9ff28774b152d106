package headwater.flink;

import java.util.Set;
import java.util.TreeSet;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.types.Row;

/**
 * Passes records on and, right in front of each checkpoint's barrier, a mark (an empty frame) for every key seen since.
 *
 * <p>A Python function is not told of checkpoints, so it would have to hand its whole state over with every record. The mark
 * tells it when: all records before the barrier are before the mark, and none is between the two.
 */
public final class CheckpointMarks extends AbstractStreamOperator<Row> implements OneInputStreamOperator<Row, Row> {
    private static final long serialVersionUID = 1;
    private static final byte[] MARK = new byte[0];

    private transient Set<Integer> keys;

    @Override
    public void open() throws Exception {
        super.open();
        keys = new TreeSet<>();
    }

    @Override
    public void processElement(StreamRecord<Row> element) {
        keys.add((Integer) element.getValue().getField(0));
        output.collect(element);
    }

    @Override
    public void prepareSnapshotPreBarrier(long checkpointId) {
        for (Integer key : keys) {
            output.collect(new StreamRecord<>(Row.of(key, MARK)));
        }
        keys.clear();
    }
}
