"""The board for Prometheus: names and labels that dashboards expect, and no number that is only
remembered."""

from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from board import metrics
from board.document import Board, Partition, Path, StageKind, State
from tests.unit import board_examples as examples

GROUP = {"cluster_name": "millrace", "group": "inventory-service.stock"}
PARTITION = GROUP | {"topic": "orders.events", "partition": "3"}
CONSUMER = {
    "service": "inventory", "stage": "consumer", "projection": "reservations", "topic": "orders.events",
    "partition": "3",
}  # fmt: skip
STATUS = {name: value for name, value in CONSUMER.items() if name != "partition"}


def families(board: Board | None) -> dict[str, Metric]:
    body, _ = metrics.exposition(board, "")
    return {family.name: family for family in text_string_to_metric_families(body.decode())}


def value(board: Board, name: str, labels: dict[str, str]) -> float | None:
    """The sample's value; None when there is no such sample."""
    found = [
        each.value
        for family in families(board).values()
        for each in family.samples
        if each.name == name and each.labels == labels
    ]
    assert len(found) <= 1, f"{name}{labels} is there {len(found)} times"
    return found[0] if found else None


def test_lag_has_the_names_and_labels_of_kafka_lag_exporter() -> None:
    board = examples.in_trouble()
    assert value(board, "kafka_consumergroup_group_lag", PARTITION) == 1209
    assert value(board, "kafka_consumergroup_group_lag_seconds", PARTITION) == 230
    assert value(board, "kafka_consumergroup_group_max_lag", GROUP) == 1209
    assert value(board, "kafka_consumergroup_group_max_lag_seconds", GROUP) == 230
    assert value(board, "kafka_consumergroup_group_sum_lag", GROUP) == 1209
    topic = {name: PARTITION[name] for name in ("cluster_name", "topic", "partition")}
    assert value(board, "kafka_partition_latest_offset", topic) == 4003
    assert value(board, "kafka_partition_earliest_offset", topic) == 0


def test_each_stage_of_each_path_has_its_age_and_its_count() -> None:
    board = examples.in_trouble()
    assert value(board, "millrace_path_oldest_pending_seconds", CONSUMER) == 230
    assert value(board, "millrace_path_pending_events", CONSUMER) == 1209
    own = {"service": "order", "stage": "read model", "projection": "orders", "topic": "", "partition": ""}
    assert value(board, "millrace_path_oldest_pending_seconds", own) == 0.4
    behind = {"service": "order", "projection": "orders", "topic": ""}
    assert value(board, "millrace_path_behind_seconds", behind) == 0.4


def test_a_stage_is_in_exactly_one_state() -> None:
    board = examples.in_trouble()
    states = {state: value(board, "millrace_path_status", STATUS | {"state": state}) for state in State}
    assert states == {state: float(state is State.STUCK) for state in State}


def blind(state: State) -> Board:
    """The consumer can't be seen; its last numbers are still in the board, for people."""
    path = examples.stuck(examples.usual_paths()[4])
    stages = [
        stage.model_copy(update={"state": state}) if stage.kind is StageKind.CONSUMER else stage
        for stage in path.stages
    ]
    kafka = examples.source("kafka", seen=False, problem="connection refused")
    return examples.board([path.model_copy(update={"stages": stages})], sources=[kafka])


def test_what_cannot_be_seen_has_no_number() -> None:
    board = blind(State.CANT_SEE)
    assert value(board, "kafka_consumergroup_group_lag", PARTITION) is None
    assert value(board, "kafka_consumergroup_group_sum_lag", GROUP) is None
    assert value(board, "millrace_path_oldest_pending_seconds", CONSUMER) is None
    assert value(board, "millrace_path_status", STATUS | {"state": "CANT_SEE"}) == 1
    assert not families(board)["kafka_partition_latest_offset"].samples
    assert value(board, "millrace_board_source_seen", {"source": "kafka"}) == 0


def test_an_age_that_is_not_known_is_no_zero() -> None:
    def unknown(part: Partition) -> Partition:
        return part.model_copy(update={"age": None, "pending": None})

    path = examples.usual_paths()[4]
    stages = [
        stage.model_copy(update={"partitions": [unknown(each) for each in stage.partitions]})
        for stage in path.stages
    ]
    board = examples.board([path.model_copy(update={"stages": stages})])
    assert value(board, "kafka_consumergroup_group_lag_seconds", PARTITION) is None
    assert value(board, "kafka_consumergroup_group_max_lag_seconds", GROUP) is None


def test_two_paths_of_one_group_and_topic_are_counted_once() -> None:
    path = examples.stuck(examples.usual_paths()[4])
    twin = path.model_copy(update={"id": "inventory/other", "projection": "other"})
    assert value(examples.board([path, twin]), "kafka_consumergroup_group_sum_lag", GROUP) == 1209


HELD = {"service": "inventory", "projection": "reservations", "topic": "orders.events"}
STUCK = HELD | {
    "state": "STUCK", "stage": "consumer", "name": "inventory-service.stock",
    "held_at": "partition 3 of orders.events",
}  # fmt: skip


def test_what_holds_a_path_up_is_told_in_labels() -> None:
    board = examples.in_trouble()
    assert value(board, "millrace_path_held_seconds", STUCK | {"event_type": "OrderShipped"}) == 230
    assert value(board, "millrace_path_held_attempts", HELD) == 7
    assert value(board, "millrace_path_net_rate", HELD) == 38.5
    assert len(families(board)["millrace_path_held_seconds"].samples) == 1, "one path is held up"


def test_a_type_that_somebody_made_up_is_no_label() -> None:
    path = examples.stuck(examples.usual_paths()[4])
    board = examples.board([held_by(path, "ada@example.com")])
    assert value(board, "millrace_path_held_seconds", STUCK | {"event_type": "unknown"}) == 230
    assert not [
        1
        for family in families(board).values()
        for sample in family.samples
        if "ada@example.com" in sample.labels.values()
    ]


def held_by(path: Path, event_type: str) -> Path:
    """The same, held up by an event of another type."""

    def at(part: Partition) -> Partition:
        event = part.event and part.event.model_copy(update={"type": event_type})
        return part.model_copy(update={"event": event})

    stages = [
        stage.model_copy(update={"partitions": [at(part) for part in stage.partitions]})
        for stage in path.stages
    ]
    return path.model_copy(update={"stages": stages})


def test_of_bulk_groups_there_are_the_sums_and_nothing_that_counts_twice() -> None:
    board = examples.in_trouble()
    bulk = [
        path.model_copy(
            update={
                "stages": [
                    stage.model_copy(
                        update={
                            "partitions": stage.partitions[:2],
                            "partition_count": 250,
                            "pending": 7000,
                            "age": 99.0,
                        }
                    )
                    if stage.kind is StageKind.CONSUMER
                    else stage
                    for stage in path.stages
                ]
            }
        )
        for path in board.paths
    ]
    board = board.model_copy(update={"paths": bulk})
    whole = GROUP | {"topic": "orders.events", "partition": ""}
    assert value(board, "kafka_consumergroup_group_lag", whole) == 7000
    assert value(board, "kafka_consumergroup_group_lag", PARTITION) is None
    assert value(board, "kafka_consumergroup_group_sum_lag", GROUP) == 7000
    assert value(board, "kafka_consumergroup_group_max_lag_seconds", GROUP) == 99
    assert value(board, "kafka_consumergroup_group_max_lag", GROUP) is None
    assert value(board, "millrace_path_pending_events", CONSUMER | {"partition": ""}) == 7000


def test_a_store_that_refuses_commands_says_so_for_how_long_and_why() -> None:
    stores = [examples.store("order", "behind", 12.0), examples.store("user", lost_streams=3)]
    board = examples.board(stores=stores)

    def told(name: str, **labels: str) -> float | None:
        return value(board, f"millrace_board_store_{name}", labels)

    assert (told("refuses_commands", service="order"), told("refuses_commands", service="user")) == (1, 0)
    assert told("refused_seconds", service="order", topic="orders.events", why="behind") == 12
    assert len(families(board)["millrace_board_store_refused_seconds"].samples) == 1
    assert told("lost_streams", service="user") == 3


def test_before_the_first_pass_it_says_that_and_nothing_else() -> None:
    assert [sample.value for sample in families(None)["millrace_board_up"].samples] == [0]
    assert families(None).keys() == {"millrace_board_up"}


@pytest.mark.parametrize("prefix", ["millrace_canary", pytest.param("millrace_probe", id="its older name")])
def test_the_canary_is_there_when_it_came_through(prefix: str) -> None:
    labels = {"service": "order", "projection": "saga", "topic": "inventory.events"}

    def told(**more: Any) -> list[float | None]:
        board = examples.board(canaries=[examples.canary("order", "saga", "inventory.events", **more)])
        names = ("roundtrip", "waiting", "age")
        return [value(board, f"{prefix}_{name}_seconds", labels) for name in names]

    assert told(round_trip=0.08, waiting=None, age=3.0) == [0.08, 0.0, 3.0]
    assert told(round_trip=None, waiting=2.0, age=2.0) == [None, 2.0, 2.0]
    assert told(round_trip=None, waiting=None, age=None) == [None, None, None]


def test_no_label_holds_an_id() -> None:
    board = examples.in_trouble()
    labels = {
        text
        for family in families(board).values()
        for sample in family.samples
        for text in sample.labels.values()
    }
    assert not [text for text in labels if examples.ORDER in text or "0195c3a4" in text or "worker" in text]
    assert "KeyError 'carrier'" not in labels


def test_openmetrics_is_given_to_who_asks_for_it() -> None:
    body, media_type = metrics.exposition(examples.board(), "application/openmetrics-text; version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
