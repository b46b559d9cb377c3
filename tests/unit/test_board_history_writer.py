"""What of a board is kept: ages by partition, and nothing of what can't be seen."""

from board import history_writer
from board.document import StageKind, State
from tests.unit import board_examples as examples

PATH = "inventory/reservations"


def test_a_stage_keeps_the_ages_of_its_partitions() -> None:
    kept = {sample.series: sample for sample in history_writer.samples(examples.in_trouble())}
    consumer = kept[history_writer.series_of(PATH, StageKind.CONSUMER)]
    assert list(consumer.seconds) == [230.0 if number == 3 else 0.0 for number in range(12)]
    assert (consumer.pending, consumer.rate_out) == (1209, 3.5)


def test_a_path_keeps_what_came_in_and_what_reached_its_end() -> None:
    kept = {sample.series: sample for sample in history_writer.samples(examples.board())}
    path = kept["order/orders"]
    assert (list(path.seconds), path.rate_in, path.rate_out) == ([0.4], 42.0, 42.0)


def test_partitions_keep_their_places_when_some_are_missing() -> None:
    path = examples.topic_path("order", "saga", "inventory", "inventory.events", "g")
    parts = [examples.partition(2, State.CATCHING_UP, 9.0)]
    path = path.model_copy(update={"stages": [examples.stage(StageKind.CONSUMER, "g", partitions=parts)]})
    kept = {sample.series: sample for sample in history_writer.samples(examples.board([path]))}
    assert list(kept["order/saga:consumer"].seconds) == [None, None, 9.0]


def test_what_cannot_be_seen_has_no_age_though_the_board_still_shows_the_last_one() -> None:
    blind = examples.stage(
        StageKind.CONSUMER, "g", State.CANT_SEE, 17.0, partitions=[examples.partition(0, age=17.0)]
    )
    path = examples.topic_path(
        "order", "saga", "inventory", "inventory.events", "g", state=State.CANT_SEE, age=17.0
    )
    path = path.model_copy(update={"stages": [examples.stage(StageKind.STORE, "order"), blind]})
    kept = {sample.series: sample for sample in history_writer.samples(examples.board([path]))}
    assert list(kept["order/saga:consumer"].seconds) == [None]
    assert (list(kept["order/saga"].seconds), kept["order/saga"].rate_out) == ([None], None)


def test_every_series_has_a_name_of_its_own() -> None:
    names = [sample.series for sample in history_writer.samples(examples.board())]
    assert len(names) == len(set(names))


def test_what_happened_is_kept_with_what_it_happened_to() -> None:
    (mark,) = history_writer.marks(examples.in_trouble())
    assert (mark.series, mark.kind, mark.text) == (
        "inventory-service.stock",
        "rebalance",
        "2 members, was 1",
    )
