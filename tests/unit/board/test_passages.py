"""When an event passed a place: as of the look that saw it first, and only when the board looked just before."""

from dataclasses import replace
from datetime import datetime, timedelta

from infra.board.passages import Passages, consumer_key, model_key, relay_key
from infra.board.raw import Seen
from tests.unit.board.views import AT, EPOCH, GROUP, NOW, TOPIC, applied, checkpoint, cursor, store, views

RELAY = relay_key("order", TOPIC)


def look(
    passages: Passages,
    second: float,
    position: int,
    *,
    fresh: bool = True,
    partitions: dict[int, int] | None = None,
) -> None:
    """The relay and the read model at `position`, the consumer in `partitions`, so many seconds after the beginning."""
    rows = [applied(n, 1, position=reached) for n, reached in (partitions or {}).items()]
    at = AT + second
    seen = views(
        replace(store("order", cursors=[cursor(position)], checkpoints=[checkpoint(position)]), at=at),
        replace(store("stock", applied=rows), at=at),
        None,
    )
    if not fresh:
        seen = replace(seen, seen={"postgres-order": Seen(False, "gone", AT)})
    passages.observe(replace(seen, at=at, wall=moment(second)))


def moment(second: float) -> datetime:
    return NOW + timedelta(seconds=second)


def test_what_lies_between_two_looks_passed_as_of_the_second_one() -> None:
    passages = Passages()
    look(passages, 0, 10)
    look(passages, 1, 10)
    look(passages, 2, 15)
    look(passages, 3, 16)

    assert [passages.when(RELAY, n) for n in (11, 15, 16)] == [moment(2), moment(2), moment(3)]
    assert passages.when(model_key("order", "orders", 1), 12) == moment(2)


def test_what_passed_before_the_first_look_or_has_not_passed_has_no_time() -> None:
    passages = Passages()
    look(passages, 0, 10)
    look(passages, 1, 12)

    assert passages.when(RELAY, 10) is None
    assert passages.when(RELAY, 13) is None
    assert passages.when(relay_key("order", "another"), 11) is None


def test_what_passed_while_nobody_looked_has_no_time() -> None:
    passages = Passages()
    look(passages, 0, 10)
    look(passages, 1, 11)
    look(passages, 2, 11, fresh=False)
    look(passages, 30, 20)
    look(passages, 31, 21)

    assert [passages.when(RELAY, n) for n in (11, 15, 20, 21)] == [None, None, None, moment(31)]


def test_who_was_not_there_at_the_last_look_began_since() -> None:
    passages = Passages()
    look(passages, 0, 10)
    look(passages, 1, 10, partitions={3: 7})

    def consumed(partition: int, position: int) -> datetime | None:
        return passages.when(consumer_key("stock", GROUP, EPOCH, TOPIC, partition), position)

    assert consumed(3, 7) == moment(1)
    assert consumed(4, 7) is None


def test_who_is_moved_back_passes_anew() -> None:
    passages = Passages()
    look(passages, 0, 0)
    look(passages, 1, 10)
    look(passages, 2, 4)
    look(passages, 3, 8)

    assert [passages.when(RELAY, n) for n in (3, 6, 9)] == [None, moment(3), None]


def test_what_is_remembered_is_bounded() -> None:
    passages = Passages()
    for second in range(3000):
        look(passages, second, second)

    assert passages.when(RELAY, 2999) == moment(2999)
    assert passages.when(RELAY, 2001) == moment(2001)
    assert passages.when(RELAY, 1000) is None
