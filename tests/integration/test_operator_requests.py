"""An operator's redrive, from the board's auth to the effect: asked of the board, carried out by the service,
written down."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

import inventory_service.app as inventory
import notification_service.app as notification
import order_service.app as order
from board.actions import Actions
from board.app import create_app
from board.auth import OperatorAuth
from board.history import History
from board.requests import Redrive, Requests
from board.watch import Watch
from infra.testing import DatabaseUrls, KafkaServer
from inventory_service.settings import InventorySettings
from millrace.domain.ids import new_id
from millrace.migrations import migrate
from millrace.operations.operator_requests import TAKES, OperatorRequests
from millrace.postgres.leader import open_leader_session
from millrace.process.settings import ServiceSettings
from millrace.runtime.worker import Role
from millrace.testing.certificates import tls_settings
from millrace.testing.databases import LOGIN
from notification_service.settings import NotificationSettings
from order_service.settings import OrderSettings
from tests.integration.consumer_kit import ConsumerKit, open_consumer_kit
from tests.integration.store_kit import crashing, running
from tests.integration.test_parked_command import everything, park_bad
from tests.support import eventually
from tests.unit import board_examples as examples
from tests.unit.board_poller import Shown

TOKEN = "an operator's token, as long as one has to be"


@dataclass(frozen=True)
class OperatorKit:
    """A consumer whose streams get parked, the service's worker for operators' requests, and the board's
    app."""

    consumer: ConsumerKit
    board: httpx.AsyncClient

    def worker(self) -> OperatorRequests:
        """One process of the service."""
        kit = self.consumer
        return OperatorRequests(kit.database.service, kit.pool, [kit.consumer()], interval=0.02)

    async def ask(self, *, who: str = "Ada", **wanted: Any) -> str:
        """Over HTTP, as the page does; returns the path of the request."""
        body = {"service": "counting", "consumer": self.consumer.name, "who": who, **wanted}
        answer = await self.board.post("/actions/redrive", json=body)
        assert answer.status_code == 202, answer.text
        path: str = answer.headers["location"]
        return path

    async def seen(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.board.get(path)).json()
        return found

    async def done(self, path: str) -> dict[str, Any]:
        """The request, when it has been carried out."""

        async def ended() -> dict[str, Any] | None:
            found = await self.seen(path)
            return found if found["done_at"] else None

        found: dict[str, Any] | None = await eventually(ended, 15.0, "the request is done")
        assert found is not None
        return found


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer, tmp_path: Path) -> AsyncIterator[OperatorKit]:
    history = History(tmp_path / "history.sqlite")
    async with open_consumer_kit(database, kafka) as consumer:
        watch = Watch(poller=Shown(), history=history, interval=1.0)
        path = examples.topic_path("counting", "echo", "counter", consumer.topic.name, consumer.name)
        watch.board = examples.board([path])
        app = create_app(
            watch, actions=Actions(OperatorAuth(TOKEN), Requests({"counting": database.operator}))
        )
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://127.0.0.1",
            headers={"Authorization": f"Bearer {TOKEN}"},
        ) as board:
            yield OperatorKit(consumer, board)
    history.close()


async def test_a_parked_stream_is_tried_then_redriven_and_the_record_says_who_when_and_what(
    kit: OperatorKit,
) -> None:
    await park_bad(kit.consumer)
    before = await everything(kit.consumer)
    async with running(kit.worker()):
        tried = await kit.done(await kit.ask(stream_id="bad"))
        assert await everything(kit.consumer) == before
        made = await kit.done(await kit.ask(stream_id="bad", dry_run=False, confirmed=True))

    assert (tried["dry_run"], made["dry_run"]) == (True, False)
    for one in (tried, made):
        assert one["outcome"] == {
            "streams": 1,
            "flowing": 1,
            "applied": 2,
            "left": 0,
            "problem": None,
            "results": [{"stream_id": "bad", "applied": 2, "left": 0, "error": None, "dropped": 0}],
        }
    assert await kit.consumer.applied() == {"bad": [1, 2, 3], "good": [1]}
    assert await kit.consumer.parked() == []
    rows = await kit.consumer.fetch(
        "SELECT requested_by, database_role, action, consumer, stream_id, takes, requested_at < taken_at,"
        " taken_at < done_at FROM operator_requests ORDER BY requested_at DESC LIMIT 1"
    )
    who = f"{LOGIN}_operator"
    assert rows == [("Ada", who, "redrive", kit.consumer.name, "bad", 1, True, True)]
    listed = (await kit.board.get("/actions")).json()
    assert listed == {"actions": [made, tried], "unseen": {}}


async def test_what_fails_again_stays_parked_and_the_outcome_says_why(kit: OperatorKit) -> None:
    await park_bad(kit.consumer)
    kit.consumer.recorder.poison = {13}
    async with running(kit.worker()):
        made = await kit.done(await kit.ask(dry_run=False, confirmed=True))
    assert (made["outcome"]["flowing"], made["outcome"]["left"]) == (0, 2)
    assert made["outcome"]["results"][0]["error"] == "KeyError: 'carrier of {13}'"
    assert await kit.consumer.applied() == {"bad": [1], "good": [1]}


async def test_streams_are_chosen_by_their_error(kit: OperatorKit) -> None:
    await park_bad(kit.consumer)
    async with running(kit.worker()):
        other = await kit.done(await kit.ask(error_class="ValueError", dry_run=False, confirmed=True))
        assert other["outcome"]["problem"] == "nothing of that is parked"
        assert len(await kit.consumer.parked()) == 2
        same = await kit.done(await kit.ask(error_class="KeyError", dry_run=False, confirmed=True))
    assert same["outcome"]["flowing"] == 1
    assert await kit.consumer.parked() == []


async def test_what_was_asked_while_the_service_was_away_is_done_when_it_is_back(kit: OperatorKit) -> None:
    await park_bad(kit.consumer)
    path = await kit.ask(dry_run=False, confirmed=True)
    assert (await kit.seen(path))["taken_at"] is None
    async with running(kit.worker()):
        await kit.done(path)
    assert await kit.consumer.parked() == []


async def test_of_several_processes_one_carries_a_request_out(kit: OperatorKit) -> None:
    await park_bad(kit.consumer)
    kit.consumer.recorder.hold()
    path = await kit.ask(dry_run=False, confirmed=True)
    first, second = kit.worker(), kit.worker()
    async with running(first):
        await kit.consumer.recorder.entered.wait()
        async with running(second):
            await eventually(lambda: second.health().detail == "another process carries them out")
            kit.consumer.recorder.go_on.set()
            made = await kit.done(path)
    assert made["takes"] == 1
    assert (await kit.consumer.echoed())["bad"] == [1, 13, 3]


async def test_a_request_whose_process_crashed_is_carried_out_by_the_next_one(kit: OperatorKit) -> None:
    await park_bad(kit.consumer)
    kit.consumer.recorder.hold()
    path = await kit.ask(dry_run=False, confirmed=True)
    async with crashing(kit.worker()):
        await kit.consumer.recorder.entered.wait()
    assert (await kit.seen(path))["taken_at"] is not None
    assert (await kit.seen(path))["done_at"] is None
    assert await kit.consumer.applied() == {"bad": [1], "good": [1]}
    kit.consumer.recorder.go_on.set()
    async with running(kit.worker()):
        made = await kit.done(path)
    assert (made["takes"], made["outcome"]["flowing"]) == (2, 1)
    assert (await kit.consumer.echoed())["bad"] == [1, 13, 3]


async def test_what_was_done_before_a_crash_is_in_the_outcome(kit: OperatorKit) -> None:
    await park_bad(kit.consumer)
    await park_worse(kit.consumer)
    path = await kit.ask(dry_run=False, confirmed=True)
    async with await psycopg.AsyncConnection.connect(kit.consumer.database.superuser) as busy:
        # As a batch of the consumer would: the second stream has to wait.
        await busy.execute("SELECT FROM consumer_positions WHERE partition = 1 FOR UPDATE")
        async with crashing(kit.worker()):
            await eventually(lambda: under_way(kit, path))
            await eventually(kit.consumer.somebody_waits_for_a_lock)
    async with running(kit.worker()):
        made = await kit.done(path)
    assert made["takes"] == 2
    assert {one["stream_id"] for one in made["outcome"]["results"]} == {"bad", "worse"}


async def park_worse(kit: ConsumerKit) -> None:
    """A second stream that stops, in the other partition."""
    kit.recorder.poison = {14}
    await kit.publish("worse", 1, n=14, partition=1)
    async with running(kit.consumer()):
        await kit.eventually_parked(3)
    kit.recorder.poison = set()


async def under_way(kit: OperatorKit, path: str) -> bool:
    outcome = (await kit.seen(path))["outcome"]
    return outcome is not None and outcome["streams"] > 0


async def test_a_request_that_never_comes_to_its_end_is_given_up(kit: OperatorKit) -> None:
    await park_bad(kit.consumer)
    path = await kit.ask(dry_run=False, confirmed=True)
    async with await psycopg.AsyncConnection.connect(kit.consumer.database.superuser) as owner:
        await owner.execute("UPDATE operator_requests SET takes = %s", (TAKES,))
    async with running(kit.worker()):
        made = await kit.done(path)
    assert made["outcome"]["problem"].startswith("given up: it was begun 10 times")
    assert len(await kit.consumer.parked()) == 2


async def test_a_fault_that_passes_is_told_as_such(kit: OperatorKit) -> None:
    await park_bad(kit.consumer)
    await kit.consumer.owner("ALTER TABLE applied RENAME TO not_there_yet")
    async with running(kit.worker()):
        made = await kit.done(await kit.ask(dry_run=False, confirmed=True))
    assert made["outcome"]["results"][0]["error"].endswith(
        "(not the event's fault: repair that, then ask again)"
    )
    assert (await kit.consumer.parked())[0][3] == 3  # it doesn't count as an attempt


async def test_a_database_that_is_away_is_waited_for(kit: OperatorKit) -> None:
    await park_bad(kit.consumer)
    worker = kit.worker()
    path = await kit.ask(dry_run=False, confirmed=True)
    async with kit.consumer.database_away():
        task = asyncio.create_task(worker.run())
        await eventually(lambda: worker.health().detail.startswith("database: "))
        answer = await kit.board.get(path)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/temporarily_unavailable")
        assert "postgres-counting: " in answer.json()["detail"]
        assert list((await kit.board.get("/actions")).json()["unseen"]) == ["counting"]
    await kit.done(path)
    await worker.stop()
    await task


async def test_a_consumer_that_nobody_has_is_refused_with_those_there_are(kit: OperatorKit) -> None:
    answer = await kit.board.post(
        "/actions/redrive", json={"service": "counting", "consumer": "sagga", "who": "Ada"}
    )
    assert answer.status_code == 422
    assert answer.json()["detail"] == f"consumer: counting has {kit.consumer.name}"


FORBIDDEN_TO_OPERATORS: list[LiteralString] = [
    "UPDATE operator_requests SET requested_by = 'Eve' WHERE done_at IS NULL",
    "UPDATE operator_requests SET done_at = now() WHERE done_at IS NULL",
    "DELETE FROM operator_requests",
    "TRUNCATE operator_requests",
    "INSERT INTO operator_requests (id, requested_by, action, consumer, dry_run, requested_at)"
    " VALUES (gen_random_uuid(), 'Eve', 'redrive', 'x', true, '2020-01-01')",
    "INSERT INTO operator_requests (id, requested_by, action, consumer, dry_run, database_role)"
    " VALUES (gen_random_uuid(), 'Eve', 'redrive', 'x', true, 'somebody')",
    "SELECT position FROM events",
    "SELECT stream_id FROM parked_events",
    "SELECT * FROM consumer_positions",
    "SELECT correlation_of(1)",
    "CREATE TABLE mine ()",
    "CREATE TEMPORARY TABLE mine ()",
]
FORBIDDEN_TO_THE_SERVICE: list[LiteralString] = [
    "UPDATE operator_requests SET requested_by = 'Eve' WHERE done_at IS NULL",
    "UPDATE operator_requests SET stream_id = 'good' WHERE done_at IS NULL",
    "DELETE FROM operator_requests",
    "TRUNCATE operator_requests",
    "INSERT INTO operator_requests (id, requested_by, action, consumer, dry_run)"
    " VALUES (gen_random_uuid(), 'Eve', 'redrive', 'x', true)",
    "UPDATE operator_requests SET outcome = NULL WHERE done_at IS NOT NULL",
]


async def test_the_record_can_be_changed_by_nobody_and_its_login_can_do_nothing_else(
    kit: OperatorKit,
) -> None:
    async with running(kit.worker()):
        await kit.done(await kit.ask())
    await kit.ask()  # and one that is open
    database = kit.consumer.database
    for url, statements in (
        (database.operator, FORBIDDEN_TO_OPERATORS),
        (database.service, FORBIDDEN_TO_THE_SERVICE),
    ):
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            for statement in statements:
                with pytest.raises(InsufficientPrivilege):
                    await connection.execute(statement)
    async with await psycopg.AsyncConnection.connect(database.superuser) as owner:
        for statement in ("DELETE FROM operator_requests", "TRUNCATE operator_requests"):
            with pytest.raises(InsufficientPrivilege, match="kept as they are"):
                async with owner.transaction():
                    await owner.execute(statement)


async def test_who_lost_the_lock_takes_nothing_more(kit: OperatorKit) -> None:
    """Somebody else holds it: this one looks, and begins nothing."""
    await park_bad(kit.consumer)
    path = await kit.ask(dry_run=False, confirmed=True)
    worker = kit.worker()
    async with open_leader_session(kit.consumer.database.service, worker.name) as other:
        assert await other.try_lead()
        async with running(worker):
            await eventually(lambda: worker.health().detail == "another process carries them out")
            assert (await kit.seen(path))["taken_at"] is None


async def test_a_process_that_is_frozen_holds_up_no_request(kit: OperatorKit) -> None:
    """It holds the lock, and renews its lease no more."""
    await park_bad(kit.consumer)
    path = await kit.ask()
    worker = kit.worker()
    async with open_leader_session(kit.consumer.database.service, worker.name) as frozen:
        assert await frozen.try_lead(lease=1.0)
        async with running(worker):
            assert (await kit.done(path))["takes"] == 1
        with pytest.raises(psycopg.OperationalError):
            await frozen.connection.execute("SELECT 1")


async def test_an_action_that_there_is_not_is_not_found(kit: OperatorKit) -> None:
    for path in (f"/actions/counting/{new_id()}", f"/actions/nobody/{new_id()}"):
        assert (await kit.board.get(path)).status_code == 404


NOBODY = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("module", "settings"),
    [
        (order, OrderSettings),
        (inventory, InventorySettings),
        (notification, NotificationSettings),
    ],
    ids=["order", "inventory", "notification"],
)
async def test_each_service_takes_requests_for_each_of_its_consumers(
    database: DatabaseUrls, module: Any, settings: type[ServiceSettings]
) -> None:
    await migrate(database.migrator, [], module.service.definition.read_models)
    tls = tls_settings(module.service.name.removesuffix("-service"))
    given = settings(database_url=database.service, kafka_bootstrap_servers=NOBODY, **tls)
    requests = Requests({"it": database.operator})
    async with module.service.open(given) as opened:
        (worker,) = [one for one in opened.workers if isinstance(one, OperatorRequests)]
        assert worker.role is Role.CONSUMERS
        asked = [
            await requests.ask(Redrive(service="it", consumer=consumer, who="Ada"))
            for consumer in module.service.definition.consumers
        ]
        async with running(worker):
            for one in asked:
                await eventually(partial(is_done, requests, one), 15.0)


async def is_done(requests: Requests, request: UUID) -> bool:
    found = await requests.one("it", request)
    return found is not None and found.done_at is not None
