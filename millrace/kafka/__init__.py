"""Topics and records: all that knows how Kafka is spoken to."""
