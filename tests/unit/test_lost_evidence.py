"""Whether a lost stream is gone, or may still exist: only a topic that is complete proves it."""

from datetime import UTC, datetime
from uuid import UUID

from millrace.kafka.topics import Topic
from millrace.operations.audit.records import Extent
from millrace.operations.lost.evidence import Evidence
from millrace.operations.lost.streams import LostStream
from tests.unit.audit_kit import Log, Store

OLD, NEW = UUID(int=1), UUID(int=2)
ENDED_AT = 3
TOPIC = Topic("orders.events", partitions=1)
NOTED = datetime(2026, 1, 1, tzinfo=UTC)


def lost(stream_id: str, *, epoch: UUID = OLD, ended_at: int = ENDED_AT) -> LostStream:
    return LostStream("stock", stream_id, epoch, ended_at, version=1, position=9, noted_at=NOTED)


def evidence(log: Log, *, starts: int = 0, partitions: int = 1) -> Evidence:
    """What the records of `log` say of `order-1` and `order-2`."""
    each = range(partitions)
    extent = Extent(dict.fromkeys(each, starts), dict.fromkeys(each, len(log.records)))
    found = Evidence(log.topic, extent, [lost("order-1"), lost("order-2")])
    for record in log.records:
        found.see(record)
    return found


def sent(*events: tuple[str, int, UUID], topic: Topic = TOPIC) -> Log:
    """Stream, position and epoch of each."""
    store, log = Store(), Log(topic)
    for stream_id, position, epoch in events:
        log.send(store.append(stream_id, position=position), epoch=epoch)
    return log


def test_what_a_topic_that_goes_on_behind_the_loss_lacks_is_gone() -> None:
    found = evidence(sent(("order-1", 2, NEW), ("order-3", 4, NEW)))

    assert found.gone() == {"order-2"}
    assert found.holds("order-1")


def test_a_topic_that_is_still_being_filled_proves_nothing() -> None:
    found = evidence(sent(("order-3", 3, NEW)))

    assert found.gone() == set()
    assert found.unproven("order-2") == "orders.events partition 0 has no event behind position 3 yet"


def test_records_that_are_left_over_from_the_lost_events_neither_count_nor_prove_anything() -> None:
    found = evidence(sent(("order-1", 4, OLD)))
    assert not found.holds("order-1")
    assert found.gone() == set()

    assert evidence(sent(("order-1", 4, OLD), ("order-3", 4, NEW))).gone() == {"order-1", "order-2"}


def test_records_of_the_old_epoch_that_the_store_still_has_count() -> None:
    assert evidence(sent(("order-1", 3, OLD), ("order-3", 4, NEW))).gone() == {"order-2"}


def test_a_record_that_cannot_be_read_may_be_the_order() -> None:
    log = sent(("order-3", 4, NEW))
    log.send_raw(0, b"order-1", b"{}")

    assert evidence(log).gone() == {"order-2"}


def test_another_services_event_is_no_evidence() -> None:
    log = sent(("order-1", 4, NEW), topic=Topic("orders.events", 1, source="/order-service"))

    found = evidence(log)  # sent by /test-service

    assert not found.holds("order-1")
    assert found.gone() == set()


def test_a_topic_that_lost_its_beginning_proves_nothing() -> None:
    found = evidence(sent(("order-3", 4, NEW)), starts=5)

    assert found.unproven("order-1") == (
        "orders.events partition 0 begins at offset 5: older records were deleted"
    )


def test_a_topic_with_other_partitions_proves_nothing() -> None:
    found = evidence(sent(("order-3", 4, NEW)), partitions=2)

    assert found.unproven("order-1") == "orders.events has 2 partitions, declared are 1"


def test_a_stream_that_was_lost_twice_needs_the_later_end() -> None:
    rows = [lost("order-1"), lost("order-1", epoch=NEW, ended_at=8)]
    log = sent(("order-3", 8, UUID(int=3)))
    found = Evidence(TOPIC, Extent({0: 0}, {0: 1}), rows)
    found.see(log.records[0])

    assert found.unproven("order-1") == "orders.events partition 0 has no event behind position 8 yet"
