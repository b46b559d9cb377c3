"""The dashboard for Grafana: it is one, it asks for metrics that exist, and it calls states as the board
does.

That each of its questions is answered, with the labels that it shows, is tested on a real Prometheus:
tests/integration/test_prometheus.py.
"""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import pytest
import yaml

from board import formatting, metrics
from board.document import State
from infra.local.home import REPOSITORY
from tests.unit import board_examples as examples

FOLDER = REPOSITORY / "infra" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboards" / "millrace.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
COMPOSE = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]
NAME = re.compile(r"\b(?:millrace|kafka|process)_[a-z_]+")
PROMETHEUS_OWN = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
}  # of its client, for any process


class Query(NamedTuple):
    """A line of a panel. `legend`: the labels that its legend names."""

    panel: str
    expression: str
    legend: frozenset[str]


def queries(interval: str = "1m") -> Iterator[Query]:
    """Each question that the dashboard asks, of all services."""
    for panel in PANELS:
        for target in panel.get("targets", []):
            asked = target["expr"].replace("$__rate_interval", interval).replace('"$job"', '".+"')
            yield Query(panel["title"], asked, frozenset(re.findall(r"{{(\w+)}}", target["legendFormat"])))


def told() -> set[str]:
    """What there is to ask for: what the board tells, and what docs/metrics.md says of the services."""
    page, _ = metrics.exposition(examples.in_trouble(), "")
    of_board = set(re.findall(r"^# TYPE (\S+)", page.decode(), re.MULTILINE))
    return of_board | set(NAME.findall((REPOSITORY / "docs" / "metrics.md").read_text())) | PROMETHEUS_OWN


def test_each_metric_that_it_asks_for_exists() -> None:
    asked = {name for query in queries() for name in NAME.findall(query.expression)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}

    assert families <= told()


def test_it_asks_the_prometheus_that_is_chosen() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    targets = [target for panel in PANELS for target in panel.get("targets", [])]

    assert {json.dumps(each["datasource"]) for each in targets} == {json.dumps(chosen)}
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["datasource", "job"]


def test_panels_have_ids_of_their_own_and_room() -> None:
    ids = [panel["id"] for panel in PANELS]
    places = [panel["gridPos"] for panel in PANELS]

    assert len(set(ids)) == len(ids)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert not [(a, b) for a, b in combinations(places, 2) if overlap(a, b)]


def overlap(a: dict[str, int], b: dict[str, int]) -> bool:
    return all(
        a[start] < b[start] + b[size] and b[start] < a[start] + a[size]
        for start, size in (("x", "w"), ("y", "h"))
    )


def test_it_calls_the_states_as_the_board_does() -> None:
    (timeline,) = [panel for panel in PANELS if panel["type"] == "state-timeline"]
    (mapping,) = timeline["fieldConfig"]["defaults"]["mappings"]
    numbers = dict(re.findall(r'state="(\w+)"} \* (\d+)', timeline["targets"][0]["expr"]))

    assert {state: mapping["options"][number]["text"] for state, number in numbers.items()} == {
        state.value: formatting.WORD[state] for state in State
    }
    assert list(numbers) == [state.value for state in State], (
        "the worst state of a path is the one that shows"
    )


def test_grafana_finds_its_prometheus_and_its_dashboards() -> None:
    (source,) = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/millrace.yml").read_text())["providers"]
    mounts = dict(
        mount.removesuffix(":ro").split(":")
        for mount in COMPOSE["grafana"]["volumes"]
        if isinstance(mount, str)
    )

    assert source["url"] == "http://prometheus:9090"
    assert source["uid"] == DASHBOARD["templating"]["list"][0]["current"]["value"]
    assert mounts["./infra/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert mounts["./infra/grafana/dashboards"] == provider["options"]["path"]


@pytest.mark.parametrize("setting", ["GF_AUTH_ANONYMOUS_ENABLED", "GF_AUTH_DISABLE_LOGIN_FORM"])
def test_who_comes_to_grafana_can_look_and_do_nothing_else(setting: str) -> None:
    environment = COMPOSE["grafana"]["environment"]

    assert environment[setting] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert not [name for name in environment if "PASSWORD" in name]
