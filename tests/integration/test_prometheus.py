"""A real Prometheus, with the configuration and the rules of infra/prometheus, on four real services and the
board's real exposition of a board in trouble.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from board.document import State
from infra.testing import PostgresServer
from tests.integration.prometheus_kit import Prometheus, prometheus_of
from tests.integration.traced_platform import SERVICES, traced_platform
from tests.support import eventually
from tests.unit import board_examples as examples
from tests.unit.board_poller import Shown, serving
from tests.unit.test_alerts import ALERTS, at_partition, sentence
from tests.unit.test_grafana import Query, queries

pytestmark = pytest.mark.asyncio(loop_scope="module")


def trouble() -> Shown:
    """A partition that is stuck, streams that are parked, and a group that came too late for a part of its
    topic."""
    poller = Shown()
    poller.board = examples.in_trouble()
    lost = at_partition(State.LOSING_DATA).model_copy(update={"id": "inventory/late", "projection": "late"})
    poller.board = poller.board.model_copy(update={"paths": [*poller.board.paths, lost]})
    return poller


@pytest.fixture(scope="module")
def poller() -> Shown:
    return trouble()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prometheus_server(
    postgres: PostgresServer, poller: Shown, prometheus: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Prometheus]:
    """One that has asked everybody, after an order was placed and mailed."""
    folder = tmp_path_factory.mktemp("prometheus")
    async with traced_platform(postgres, folder) as platform, serving(poller, folder / "history") as board:
        await platform.stock()
        await platform.place(await platform.register("Ada", "ada@example.com"))
        await eventually(lambda: len(platform.mail.mails) == 2, within=30, what="both e-mails are out")
        targets = {f"{name}-service": platform.internal[name] for name in SERVICES}
        async with prometheus_of(
            prometheus, folder, targets | {"board": board.removeprefix("http://")}
        ) as it:
            await eventually(lambda: scraped_twice(it), within=30, what="everybody is asked twice")
            await eventually(lambda: it.query("ALERTS"), within=30, what="the rules were looked at")
            yield it


async def scraped_twice(server: Prometheus) -> bool:
    samples = await server.query("count_over_time(up[1m])")
    return len(samples) == len(SERVICES) + 1 and all(int(each["value"][1]) >= 2 for each in samples)


async def test_every_target_is_up(prometheus_server: Prometheus) -> None:
    targets = (await prometheus_server.ask("targets"))["activeTargets"]

    assert {each["labels"]["job"]: (each["health"], each["lastError"]) for each in targets} == dict.fromkeys(
        ("board", *(f"{service}-service" for service in SERVICES)), ("up", "")
    )


async def test_it_knows_the_state_of_each_stage_of_each_path(
    prometheus_server: Prometheus, poller: Shown
) -> None:
    samples = await prometheus_server.query("millrace_path_status == 1")

    assert {
        (s["metric"]["service"], s["metric"]["projection"], s["metric"]["stage"], s["metric"]["state"])
        for s in samples
    } == {
        (path.service, path.projection, stage.kind.value, stage.state.value)
        for path in poller.board.paths
        for stage in path.stages
    }


async def test_it_knows_what_each_service_is(prometheus_server: Prometheus) -> None:
    samples = await prometheus_server.query("millrace_build_info")

    assert {(s["metric"]["job"], s["metric"]["service"]) for s in samples} == {
        (f"{service}-service", f"{service}-service") for service in SERVICES
    }


async def test_all_rules_are_loaded_and_none_fails(prometheus_server: Prometheus) -> None:
    groups = (await prometheus_server.ask("rules"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]

    assert {rule["name"] for rule in rules} == ALERTS.keys()
    assert not [rule["lastError"] for rule in rules if rule.get("lastError")]


async def test_a_path_that_is_stuck_is_pending_and_says_so(
    prometheus_server: Prometheus, poller: Shown
) -> None:
    stuck = next(path for path in poller.board.paths if path.state is State.STUCK)

    alert = await raised(prometheus_server, "PathStuck")

    assert alert["state"] in ("pending", "firing")
    assert alert["labels"]["projection"] == stuck.projection
    assert alert["annotations"]["summary"] == sentence(stuck)


async def test_data_that_are_lost_fire_at_once(prometheus_server: Prometheus) -> None:
    alert = await raised(prometheus_server, "PathLosingData")

    assert alert["state"] == "firing"
    assert alert["labels"]["projection"] == "late"
    assert (
        "has not seen records that are gone from partition 3 of orders.events"
        in alert["annotations"]["summary"]
    )


async def test_of_what_is_well_nothing_is_raised(prometheus_server: Prometheus) -> None:
    await raised(prometheus_server, "StreamsParked")
    alerts = (await prometheus_server.ask("alerts"))["alerts"]

    assert {alert["labels"]["alertname"] for alert in alerts} == {
        "PathStuck",
        "PathLosingData",
        "StreamsParked",
    }


NOTHING_WENT_WRONG = ('status=~"5xx|unanswered"', "millrace_relay_faults_total")
NO_REASON = {"reason"}  # of an e-mail that was sent; Prometheus drops a label that is empty


@pytest.mark.parametrize(
    "query", list(queries()), ids=lambda query: f"{query.panel}: {query.expression[:40]}"
)
async def test_the_dashboard_asks_what_can_be_answered(prometheus_server: Prometheus, query: Query) -> None:
    samples = await prometheus_server.query(query.expression)

    assert samples or any(part in query.expression for part in NOTHING_WENT_WRONG)
    for sample in samples:
        assert query.legend - NO_REASON <= sample["metric"].keys()


async def raised(server: Prometheus, name: str) -> dict[str, Any]:
    """The alert, once it is there."""

    async def found() -> list[dict[str, Any]]:
        alerts: list[dict[str, Any]] = (await server.ask("alerts"))["alerts"]
        return [alert for alert in alerts if alert["labels"]["alertname"] == name]

    alerts: list[dict[str, Any]] = await eventually(found, within=30, what=f"{name} is raised")
    assert len(alerts) == 1
    return alerts[0]
