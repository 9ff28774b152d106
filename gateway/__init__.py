"""At the bridge (2): end MQTT, admit or dead-letter, batch per shard, append to the log, only then acknowledge."""
