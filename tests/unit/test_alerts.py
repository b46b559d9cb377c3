"""The alert rules: each fires when it should, and says of a path what the board's answer line says of it."""

import math
import re
from pathlib import Path as File
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from board import metrics
from board.document import Board, HeldEvent, Path, StageKind, State
from board.headline import headline
from infra.local.home import REPOSITORY
from tests.prometheus import Promtool
from tests.unit import board_examples as examples
from tests.unit.test_grafana import NAME, told

FOLDER = REPOSITORY / "infra" / "prometheus"
RULES = FOLDER / "alerts.yml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}
TESTS = sorted((FOLDER / "tests").glob("*.yml"))

ALERT_OF = {
    State.STUCK: "PathStuck",
    State.STOPPED: "PathStopped",
    State.LOSING_DATA: "PathLosingData",
    State.AHEAD: "PathAhead",
    State.NOT_STARTED: "PathNotStarted",
    State.MOVED_BACK: "PathMovedBack",
    State.REBALANCING: "PathRebalancing",
    State.FALLING_BEHIND: "PathFallingBehind",
}
NO_ALERT = {
    State.UP_TO_DATE,
    State.CATCHING_UP,  # it does what it should
    State.WARMING_UP,  # the board will say more in a few seconds
    State.SUSPENDED,  # the store's alert says so, once and not for each path: StoreRefusesCommands
    State.CANT_SEE,  # the server's alert says so, once and not for each path: BoardCantSee
}


def held_at(kind: StageKind, state: State, **more: Any) -> Path:
    """reservations, held up in one stage."""
    path = examples.usual_paths()[4]
    held = {"state": state, "age": 230.0, "pending": 1209, "slowest": True} | more
    stages = [each.model_copy(update=held) if each.kind is kind else each for each in path.stages]
    end = {"state": state, "age": 252.0, "pending": 1209, "stages": stages}
    return path.model_copy(update=end)


def everywhere(kind: StageKind, state: State) -> Path:
    """reservations, held up in each partition of a stage."""
    parts = [examples.partition(number, state, 230.0, pending=3) for number in range(examples.PARTITIONS)]
    return held_at(kind, state, partitions=parts)


def at_partition(state: State, number: int = 3) -> Path:
    parts = [
        examples.partition(each, state if each == number else State.UP_TO_DATE, 230.0) for each in range(12)
    ]
    return held_at(StageKind.CONSUMER, state, partitions=parts)


def with_rate(path: Path, net_rate: float | None, age: float | None = 252.0) -> Path:
    return path.model_copy(update={"net_rate": net_rate, "age": age})


def at_its_end(kind: StageKind, pending: int, age: float) -> Path:
    """The process of the path's service is gone."""
    parts = [
        examples.partition(
            each, State.STOPPED, age if each == 0 else 0.0, pending=pending if each == 0 else 0
        )
        for each in range(12)
    ]
    ended = {"partitions": parts, "ended": True, "pending": pending, "age": age}
    return held_at(kind, State.STOPPED, **ended).model_copy(update={"age": age, "pending": pending})


def shipped(**more: Any) -> HeldEvent:
    given: dict[str, Any] = {
        "type": "OrderShipped",
        "stream_id": "order-1",
        "waiting": 230.0,
        "attempts": 7,
        "error": "KeyError",
    }
    return HeldEvent(**given | more)


OWN = examples.usual_paths()[0]
HELD_UP = {
    "an event": examples.stuck(examples.usual_paths()[4]),
    "a record that is no event of ours": held_at(
        StageKind.CONSUMER, State.STUCK, event=shipped(type="unknown", attempts=None, error=None)
    ),
    "somebody's open transaction": held_at(
        StageKind.CONSUMER,
        State.STUCK,
        event=HeldEvent(type=None, stream_id=None, waiting=24.0, transaction_at=12),
    ),
    "an event in each of several partitions": held_at(
        StageKind.CONSUMER,
        State.STUCK,
        partitions=[
            examples.partition(each, State.STUCK if each < 3 else State.UP_TO_DATE, 230.0, event=shipped())
            for each in range(12)
        ],
    ),
    "a relay that is stuck": held_at(StageKind.RELAY, State.STUCK),
    "slowly growing": with_rate(held_at(StageKind.RELAY, State.STUCK), 3.21),
    "shrinking": with_rate(held_at(StageKind.RELAY, State.STUCK), -3.0),
    "an unknown age": with_rate(held_at(StageKind.RELAY, State.STUCK, age=None), 40.0, None),
    "a relay that does not run": held_at(StageKind.RELAY, State.STOPPED),
    "a relay that does not run, with one event": held_at(StageKind.RELAY, State.STOPPED, pending=1),
    "a group that is gone": everywhere(StageKind.CONSUMER, State.STOPPED),
    "a projector that is gone": OWN.model_copy(
        update={
            "state": State.STOPPED,
            "age": 12.0,
            "stages": [
                OWN.stages[0],
                OWN.stages[1].model_copy(update={"state": State.STOPPED, "age": 12.0, "pending": 2}),
            ],
        }
    ),
    "a service that ended": at_its_end(StageKind.READ_MODEL, pending=2, age=12.0),
    "a service that ended, and nothing waits": at_its_end(StageKind.CONSUMER, pending=0, age=0.0),
    "a topic that is not there": held_at(StageKind.TOPIC, State.NOT_STARTED, partitions=[]),
    "a topic that is not there, and nothing to put into it": held_at(
        StageKind.TOPIC, State.NOT_STARTED, partitions=[]
    ).model_copy(update={"pending": 0, "age": 0.0}),
    "a topic that is filled again": held_at(StageKind.RELAY, State.MOVED_BACK),
    "a relay that never started": held_at(StageKind.RELAY, State.NOT_STARTED),
    "a group that never started": everywhere(StageKind.CONSUMER, State.NOT_STARTED),
    "a topic that lost its end": held_at(StageKind.TOPIC, State.LOSING_DATA, partitions=[]),
    "a group that came too late": at_partition(State.LOSING_DATA),
    "offsets of another topic": at_partition(State.AHEAD, 5),
    "somebody moved the offsets": at_partition(State.MOVED_BACK, 0),
    "moved back and up to date in time": with_rate(at_partition(State.MOVED_BACK, 0), None, 0.0),
    "a rebalance": everywhere(StageKind.CONSUMER, State.REBALANCING),
    "more comes than goes": with_rate(everywhere(StageKind.CONSUMER, State.FALLING_BEHIND), 38.4),
    "more comes than goes, a little": with_rate(everywhere(StageKind.CONSUMER, State.FALLING_BEHIND), 9.96),
}


def sentence(path: Path) -> str:
    """the headline for this path alone, with durations and numbers in Prometheus' notation, without the
    error."""
    return in_prometheus(headline(examples.AT, [path], [examples.source("kafka")]).text)


def in_prometheus(said: str) -> str:
    said = re.sub(r"(\d+) min (\d+) s", r"\1m \2s", said)
    said = re.sub(r"(\d) s\b", r"\1s", said)
    said = re.sub(r"(\d),(\d{3})", r"\1\2", said)
    said = re.sub(
        r"republish \w+ --", "republish SERVICE --", said
    )  # the alert does not know whose topic it is
    said = re.sub(r" \(at offset \d+\)", "", said)  # no label: each transaction would be a series
    return re.sub(r"\((attempt \d+): [^)]*\)", r"(\1)", said)


def series(board: Board) -> list[dict[str, str]]:
    """What the board tells Prometheus, all the time."""
    body, _ = metrics.exposition(board, "")
    return [
        {
            "series": f"{sample.name}{{{labels(sample.labels)}}}",
            "values": " ".join([number(sample.value)] * 41),
        }
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    ]


def number(value: float) -> str:
    return "NaN" if math.isnan(value) else str(value)


def labels(given: dict[str, str]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in given.items())


def fires(promtool: Promtool, folder: File, board: Board, expected: dict[str, list[dict[str, Any]]]) -> None:
    """Asserts that these alerts fire after five minutes of this board, and no others."""
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "10s",
        "tests": [
            {
                "interval": "10s",
                "input_series": series(board),
                "alert_rule_test": [
                    {"eval_time": "5m", "alertname": name, "exp_alerts": expected.get(name, [])}
                    for name in ALERTS
                    if name not in ("BoardDown", "BoardNotLooking")  # this board does not go on
                ],
            }
        ],
    }
    file = folder / "test.yml"
    file.write_text(yaml.safe_dump(test))
    ran = promtool("test", "rules", file)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def of_path(name: str, path: Path) -> dict[str, Any]:
    rule = ALERTS[name]
    annotations = {text: rule["annotations"][text] for text in ("board", "runbook")}
    end = {"service": path.service, "projection": path.projection, "topic": path.topic or ""}
    return {
        "exp_labels": rule["labels"] | {label: value for label, value in end.items() if value},
        "exp_annotations": annotations | {"summary": sentence(path)},
    }


def test_the_rules_are_rules(promtool: Promtool) -> None:
    checked = promtool("check", "rules", RULES)

    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_each_rule_fires_when_it_should_and_only_then(promtool: Promtool, file: File) -> None:
    ran = promtool("test", "rules", file)

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_each_rule_has_a_test_that_it_fires_and_one_that_it_does_not() -> None:
    checks = [
        (check["alertname"], bool(check.get("exp_alerts")))
        for file in TESTS
        for test in yaml.safe_load(file.read_text())["tests"]
        for check in test["alert_rule_test"]
    ]

    assert set(checks) == {(name, fires) for name in ALERTS for fires in (True, False)}


def test_each_state_has_an_alert_or_a_reason_why_not() -> None:
    assert ALERT_OF.keys() | NO_ALERT == set(State)
    for state, name in ALERT_OF.items():
        assert f'{{state="{state.value}"}}' in ALERTS[name]["expr"]


def test_each_alert_says_how_bad_it_is_and_where_to_read_on() -> None:
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert (REPOSITORY / rule["annotations"]["runbook"].partition("#")[0]).exists(), name


def test_no_alert_waits_longer_than_a_failed_scrape() -> None:
    """What has to last, the states know: six seconds, whatever the traffic."""
    assert {rule.get("for", "0s") for rule in ALERTS.values()} <= {"0s", "20s"}


@pytest.mark.parametrize("path", HELD_UP.values(), ids=HELD_UP)
def test_an_alert_says_what_the_answer_line_says(path: Path, promtool: Promtool, tmp_path: File) -> None:
    name = ALERT_OF[path.state]

    fires(promtool, tmp_path, examples.board([path]), {name: [of_path(name, path)]})


def test_nothing_fires_when_all_is_well(promtool: Promtool, tmp_path: File) -> None:
    fires(promtool, tmp_path, examples.board(), {})


@pytest.mark.parametrize("state", sorted(NO_ALERT - {State.UP_TO_DATE}))
def test_what_passes_by_itself_is_no_alert(state: State, promtool: Promtool, tmp_path: File) -> None:
    fires(promtool, tmp_path, examples.board([held_at(StageKind.CONSUMER, state)]), {})


def test_what_nobody_declared_is_no_alert(promtool: Promtool, tmp_path: File) -> None:
    left = everywhere(StageKind.CONSUMER, State.STOPPED).model_copy(update={"declared": False})

    fires(promtool, tmp_path, examples.board([left]), {})


def test_a_server_that_was_never_seen_is_said_to_be_that(promtool: Promtool, tmp_path: File) -> None:
    unseen = examples.source("postgres-order", seen=False, as_of=None, age=None)
    rule = ALERTS["BoardCantSee"]
    annotations = {text: rule["annotations"][text] for text in ("board", "runbook")}
    alert = {
        "exp_labels": rule["labels"] | {"source": "postgres-order"},
        "exp_annotations": annotations | {"summary": "Postgres of order not seen yet."},
    }

    fires(promtool, tmp_path, examples.board(sources=[unseen]), {"BoardCantSee": [alert]})


@pytest.mark.parametrize("since", [0.0, 12.0, 252.0])
@pytest.mark.parametrize("refuses", ["behind", "moved"])
def test_the_alert_of_a_store_says_what_the_answer_line_says(
    refuses: str, since: float, promtool: Promtool, tmp_path: File
) -> None:
    store, rule = examples.store("order", refuses, since), ALERTS["StoreRefusesCommands"]
    annotations = {text: rule["annotations"][text] for text in ("board", "runbook")}
    said = in_prometheus(headline(examples.AT, [], [examples.source("kafka")], [store]).text)
    alert = {
        "exp_labels": rule["labels"] | {"service": "order"},
        "exp_annotations": annotations | {"summary": said},
    }
    stores = [store, examples.store("user")]

    fires(promtool, tmp_path, examples.board(stores=stores), {"StoreRefusesCommands": [alert]})


def test_every_metric_of_a_rule_is_one_that_is_told() -> None:
    texts = [text for rule in ALERTS.values() for text in (rule["expr"], rule["annotations"]["summary"])]

    assert {name for text in texts for name in NAME.findall(text)} <= told()
