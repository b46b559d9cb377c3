"""What an audit keeps grows with the number of streams, not with that of events."""

import tracemalloc

from millrace.kafka.topics import Topic
from millrace.operations.audit.store import StoreCheck
from millrace.operations.audit.topic import TopicCheck
from tests.unit.audit_kit import EPOCH, Log, Store

TOPIC = Topic("sales.events", partitions=3)
STREAMS = 20


def test_fifty_times_the_events_take_no_more_memory() -> None:
    assert kept(versions=250) < kept(versions=5) + 2_000


def kept(versions: int) -> int:
    """Bytes that the checks keep of a store and a topic with so many events in each stream."""
    store, log = Store(), Log(TOPIC)
    for number in range(STREAMS * versions):
        log.send(store.append(f"stream-{number % STREAMS}"))
    stored = {event.position: event for event in store.events}
    assert all(event.event for event in store.events)  # decoded now, so that this does not count
    tracemalloc.start()
    try:
        topic, sound = TopicCheck(TOPIC, EPOCH, "sales"), StoreCheck()
        assert not any(topic.apply(log.records, stored))
        assert not any(any(sound.apply(event)) for event in store.events)
        # Only what the audit's own lines allocate: meanwhile the servers of later tests may be started in
        # threads.
        of_the_audit = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(True, "*/millrace/operations/audit/*")]
        )
        return sum(trace.size for trace in of_the_audit.traces)
    finally:
        tracemalloc.stop()
