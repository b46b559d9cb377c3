"""The topic beside the store: each fault that can be planted in a topic is named."""

from dataclasses import replace
from uuid import UUID, uuid4

from chassis.audit.findings import Finding
from chassis.audit.topic import TopicCheck
from chassis.topics import Topic
from tests.unit.audit_kit import EPOCH, Log, Sold, Store, kinds

TOPIC = Topic("sales.events", partitions=3, generation=2)


def audit(store: Store, log: Log, check: TopicCheck | None = None) -> list[Finding]:
    """Every record, then every event that was relayed."""
    check = check or TopicCheck(TOPIC, EPOCH, "sales")
    stored = {event.position: event for event in store.events}
    found = list(check.apply(log.records, stored))
    for event in store.events:
        found += check.missing(event)
    return found


def two_streams() -> tuple[Store, Log]:
    store = Store()
    for stream in ("a", "b", "a", "b", "a"):
        store.append(stream)
    return store, Log(TOPIC)


def test_a_faithful_copy_is_clean() -> None:
    store, log = two_streams()
    for event in store.events:
        log.send(event)

    assert audit(store, log) == []


def test_what_was_sent_again_is_counted_and_nothing_else() -> None:
    store, log = two_streams()
    for event in [*store.events, *store.events[1:4]]:
        log.send(event)
    check = TopicCheck(TOPIC, EPOCH, "sales")

    assert audit(store, log, check) == []
    assert (check.records, check.events, check.duplicates) == (8, 5, 3)


def test_an_event_that_is_not_there_is_missing() -> None:
    store, log = two_streams()
    for event in store.events[:-1]:
        log.send(event)

    (finding,) = audit(store, log)

    assert finding.kind == "missing-in-topic"
    assert finding.where["position"] == 5
    assert "version 3 of a" in finding.what
    assert "republish sales" in finding.remedy


def test_a_gap_is_named_with_the_version_that_is_missing_and_the_one_that_came_first() -> None:
    store, log = two_streams()
    for event in (store.events[0], store.events[4]):
        log.send(event)

    found = audit(store, log)

    assert kinds(found) == ["out-of-order", "missing-in-topic", "missing-in-topic", "missing-in-topic"]
    assert "version 2 is missing or comes later" in found[0].what


def test_events_in_the_wrong_order_are_named_once_and_are_not_missing() -> None:
    store, log = two_streams()
    for number in (0, 1, 4, 2, 3):  # of stream a: 1, 3, 2
        log.send(store.events[number])

    assert kinds(audit(store, log)) == ["out-of-order"]


def test_an_event_that_the_store_does_not_have_is_foreign() -> None:
    store, log = two_streams()
    for event in store.events:
        log.send(event)
    log.send(replace(store.events[4], position=6, version=4, event_id=uuid4()))

    (finding,) = audit(store, log)

    assert finding.kind == "foreign-record"
    assert "position 6 holds nothing" in finding.what


def test_another_event_under_a_known_position_is_foreign_and_the_real_one_is_missing() -> None:
    store, log = two_streams()
    for event in store.events[:4]:
        log.send(event)
    log.send(replace(store.events[4], event_id=uuid4()))

    assert kinds(audit(store, log)) == ["foreign-record", "missing-in-topic"]


def test_a_record_that_nobody_can_read_is_foreign() -> None:
    store, log = two_streams()
    log.send_raw(0, b"a", b"{}")
    for event in store.events:
        log.send(event)

    (finding,) = audit(store, log)

    assert finding.kind == "foreign-record"
    assert "ce_specversion" in finding.what


def test_a_record_that_says_something_else_than_the_event_is_altered() -> None:
    store, log = two_streams()
    for event in store.events:
        log.send(event if event.version == 1 else replace(event, data=Sold(n=99).to_json()))

    found = audit(store, log)

    assert kinds(found) == ["altered-record"] * 3
    assert "differs from the stored event in data" in found[0].what


def test_every_field_of_an_event_counts() -> None:
    store = Store()
    event = store.append("a")
    changes = (
        {"event_type": "Bought"},
        {"schema_version": 2},
        {"recorded_at": store.append("b").recorded_at},
    )
    for change in changes:
        log = Log(TOPIC)
        log.send(replace(event, **change))

        (finding, _) = audit(store, log)

        assert finding.kind == "altered-record"
        assert finding.what.endswith(next(iter(change)))


def test_a_stream_in_the_wrong_partition_is_named_with_the_right_one() -> None:
    store, log = two_streams()
    for event in store.events:
        log.send(event)
    right = log.records[0].partition
    log.send(store.events[0], partition=(right + 1) % 3)

    (finding,) = audit(store, log)

    assert finding.kind == "wrong-partition"
    assert f"belongs to partition {right}" in finding.what


def test_records_of_a_restored_store_are_named() -> None:
    store, log = two_streams()
    for event in store.events:
        log.send(event, epoch=UUID(int=8) if event.position == 3 else EPOCH)

    assert kinds(audit(store, log)) == ["foreign-epoch"]


def test_older_generations_are_passed_over() -> None:
    store, log = two_streams()
    for event in reversed(store.events):
        log.send(event, generation=1, partition=0)
    for event in store.events:
        log.send(event)

    assert audit(store, log) == []


def test_an_event_in_an_older_generation_only_is_missing() -> None:
    store, log = two_streams()
    for event in store.events:
        log.send(event, generation=1)

    assert kinds(audit(store, log)) == ["missing-in-topic"] * 5
