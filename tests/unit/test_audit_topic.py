"""The topic beside the store: each fault that can be planted in a topic is named."""

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from millrace.kafka.topics import Topic
from millrace.operations.audit.findings import Finding
from millrace.operations.audit.topic import TopicCheck
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
    assert "--recreate" not in finding.remedy


@pytest.mark.parametrize("deleted", [False, True])
def test_what_consumers_would_not_get_to_is_not_to_be_sent_at_the_end(deleted: bool) -> None:
    """They stand before the gap, or where their offset was deleted: only a recreated topic helps."""
    store, log = two_streams()
    for event in store.events[1:] if deleted else (store.events[0], store.events[4]):
        log.send(event)
    check = TopicCheck(TOPIC, EPOCH, "sales", beginning_deleted=deleted)

    missing = [one for one in audit(store, log, check) if one.kind == "missing-in-topic"]

    assert missing
    for finding in missing:
        late = deleted or "of a)" in finding.what
        assert ("republish sales --recreate" in finding.remedy) is late


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


def checked(head: int = 5, ended: Mapping[UUID, int] | None = None) -> TopicCheck:
    return TopicCheck(TOPIC, EPOCH, "sales", source="/test-service", ended=ended or {}, head=head)


def test_an_event_beyond_the_end_of_the_store_says_that_the_store_is_the_older_one() -> None:
    store, log = two_streams()
    for event in store.events:
        log.send(event)
    log.send(replace(store.events[4], position=6, version=4, event_id=uuid4()))

    (finding,) = audit(store, log, checked())

    assert finding.kind == "store-behind-topic"
    assert "ends at position 5: the store is older than its topic, or lost it" in finding.what
    assert "millrace restore sales" in finding.remedy
    assert "recreate" not in finding.remedy  # that would delete the last copy


def test_another_event_under_a_known_position_says_that_the_store_went_back_and_went_on() -> None:
    store, log = two_streams()
    for event in store.events[:4]:
        log.send(event)
    log.send(replace(store.events[4], event_id=uuid4()))

    first, second = audit(store, log, checked())

    assert (first.kind, second.kind) == ("store-forked", "missing-in-topic")
    assert "millrace restore sales" in first.remedy


def test_an_event_of_another_source_is_foreign() -> None:
    store, log = two_streams()
    for event in store.events:
        log.send(event)
    log.send(replace(store.events[4], position=6, version=4, event_id=uuid4()))
    log.records[-1].source_uri = "/another-service"

    (finding,) = audit(store, log, checked())

    assert finding.kind == "foreign-record"
    assert "find out who else may write" in finding.remedy


def test_a_record_that_no_relay_can_have_sent_is_foreign_and_no_last_copy() -> None:
    """Consumers park it: neither does the store lack it, nor does it take the place of the stream's true
    event."""
    store, log = two_streams()
    for event in store.events[:4]:
        log.send(event)
    log.send(replace(store.events[4], event_id=uuid4(), position=999_999_999_999_999_999))
    log.send(replace(store.events[4], event_id=uuid4(), position=6, version=7))
    log.send(replace(store.events[4], event_id=uuid4(), position=7), partition=0)
    log.send(replace(store.events[4], event_id=uuid4(), position=8, data=b"{"))

    found = audit(store, log, checked())

    assert kinds(found) == [*["foreign-record"] * 4, "missing-in-topic"]
    far, high, elsewhere, broken, missing = found
    assert "its position 999999999999999999 is 1,000,000,000 or more beyond" in far.what
    assert "a stream has no version 7 at position 6" in high.what
    assert "its stream belongs to partition 1" in elsewhere.what
    assert "its data is not JSON" in broken.what
    assert "find out who else may write" in far.remedy
    assert missing.where["version"] == 3


def test_a_far_record_is_foreign_in_a_partition_of_which_nothing_else_is_known() -> None:
    store, log = two_streams()
    for event in store.events:
        log.send(event)
    log.send(replace(store.events[4], stream_id="zz", position=10**18, version=1, event_id=uuid4()))

    assert kinds(audit(store, log, checked())) == ["foreign-record"]


def test_events_that_were_given_up_with_their_epoch_are_counted_and_known() -> None:
    store, log = two_streams()
    old = uuid4()
    for event in store.events:
        log.send(event, epoch=old)
    log.send(replace(store.events[4], position=6, version=4, event_id=uuid4()), epoch=old)
    check = checked(ended={old: 5})

    assert audit(store, log, check) == []
    assert check.lost_for_good == 1


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


def test_a_copy_of_an_event_with_another_id_behind_the_true_one_is_somebody_elses() -> None:
    store, log = two_streams()
    for event in store.events:
        log.send(event)
    log.send(replace(store.events[4], event_id=uuid4()))

    (finding,) = audit(store, log, checked())

    assert finding.kind == "foreign-record"
    assert "somebody else wrote it" in finding.what


def test_an_event_that_a_restore_moved_is_no_reason_to_restore_again() -> None:
    store, log = two_streams()
    for event in store.events[:4]:
        log.send(event)
    there = replace(store.events[4], event_id=uuid4())
    log.send(there)
    check = checked()
    stored = {event.position: event for event in store.events}

    (finding,) = check.apply(log.records, stored, {(there.event_id, there.recorded_at)})

    assert finding.kind == "moved-event"
    assert "--recreate" in finding.remedy
