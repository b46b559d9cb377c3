-- Which topic? A name may stand for another one tomorrow: deleted and created anew, or in another Kafka.

-- The topic that the cursor speaks of, by the id that Kafka gave it (null: not known yet; zero: it has lost records);
-- where each of its partitions ended after the last acknowledgement ({"0": 17}); and the position up to which
-- somebody had it filled again.
ALTER TABLE relay_cursor
    ADD COLUMN topic_id        uuid,
    ADD COLUMN end_offsets     json   NOT NULL DEFAULT '{}',
    ADD COLUMN republish_until bigint NOT NULL DEFAULT 0;

-- The topic that next_offset is an offset of (null: not known).
ALTER TABLE consumer_positions ADD COLUMN topic_id uuid;

-- An offset names a record of one topic only: in a topic that was created anew another record has it. What is
-- parked already is recognised by its content (chassis/consumer/parking.py).
DO $$
DECLARE
    unique_offsets text := (SELECT conname FROM pg_constraint
                            WHERE conrelid = 'parked_events'::regclass AND contype = 'u');
BEGIN
    EXECUTE format('ALTER TABLE parked_events DROP CONSTRAINT %I', unique_offsets);
END
$$;
