"""Stores come back from backups, or as replicas that lack a tail, under a running platform: nothing is lost,
nothing happens twice, and the board says what to do."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from infra.local.home import Home
from infra.local.programs import Ran
from infra.local.stack import Stack
from infra.topology import free_topology
from millrace.kafka.topics import Topic
from schemas.topics import INVENTORY, NOTIFICATIONS, ORDERS
from tests.chaos.board_kit import PROMISED
from tests.chaos.restore_kit import (
    Report,
    Vault,
    Watch,
    caught_up,
    cut_off,
    only,
    promote,
    published,
    repair,
    server_of,
    standby_of,
    starting,
    watching,
)
from tests.chaos.trade import REFUSAL, Trade
from tests.docs import ROOT, commands_in, section
from tests.e2e.audit import ON_ITS_WAY, audit_all, nothing_is_lost
from tests.e2e.platform import RECOVERY
from tests.stacks import TEST_TIMEOUT
from tests.support import eventually

pytestmark = pytest.mark.timeout(TEST_TIMEOUT, func_only=True)

FOR_A_PERSON = {
    "effects-of-lost-events",
    "reservation-without-order",
    "answer-to-lost-order",
    "parked-stream",
}
"""Pending after events were lost for good: e-mails, shipped goods and answers can't be taken back."""
CANARIES = {f"{service}_CANARY_INTERVAL": "0.5" for service in ("ORDER", "INVENTORY", "NOTIFICATION", "USER")}


@pytest.fixture(scope="module")
def own_stack(test_home: Home) -> Iterator[Stack]:
    """A stack of this module's own: what these tests leave after a failure would be in everybody's way."""
    stack = Stack(free_topology(), test_home.root / "restored", settings=CANARIES)
    try:
        asyncio.run(stack.up())
        yield stack
    finally:
        asyncio.run(stack.down())


@pytest.fixture
async def stack(own_stack: Stack) -> AsyncIterator[Stack]:
    """The stack; what a failed test left down is started again after it."""
    yield own_stack
    await own_stack.up()


@pytest.fixture
def vault(stack: Stack) -> Vault:
    return Vault(stack)


@pytest.fixture
async def watch(stack: Stack) -> AsyncIterator[Watch]:
    async with watching(stack) as watch:
        yield watch


@pytest.fixture
async def trade(stack: Stack) -> AsyncIterator[Trade]:
    """A trade that has begun: some orders of each ending have come to it."""
    trade = Trade(stack)
    await trade.open()
    await trade.many(10)
    await trade.comes_true()
    yield trade
    await trade.close()


def runbook(heading: str) -> list[list[str]]:
    """The commands of a section of docs/restore.md."""
    return commands_in(section(ROOT / "docs" / "restore.md", heading))


async def carry_out(stack: Stack, command: list[str]) -> Ran:
    """`millrace restore order` and the like as millrace does it: by the service's own program."""
    match command:
        case ["millrace", "restore", service, *rest]:
            return await repair(stack, service, "restore", *rest)
        case ["millrace", ("store" | "lost" | "replay") as group, verb, service, *rest]:
            return await repair(stack, service, group, verb, *rest)
        case ["millrace", "audit"]:
            audits = [await stack.tool(service.name, "audit") for service in stack.topology.services]
            return max(audits, key=lambda ran: ran.code)
        case _:
            raise AssertionError(f"docs/restore.md has a command that this test does not know: {command}")


async def succeeds(stack: Stack, command: list[str]) -> str:
    """A command of the operator that must succeed; returns what it printed."""
    ran = await carry_out(stack, command)
    assert ran.code == 0, ran
    return ran.out


async def replace_server(stack: Stack, vault: Vault, service: str, backup: Path) -> float:
    """Under the running service; returns when the server that came back answered."""
    await vault.put_in_place(service, backup)
    await stack.start(server_of(service))
    return time.monotonic()


def went_back(service: str, topic: Topic) -> str:
    return f"The {service} store went back: {topic.name} holds events that it lacks"


async def test_an_order_store_that_took_orders_before_anybody_noticed(
    stack: Stack, vault: Vault, watch: Watch, trade: Trade
) -> None:
    shipped_in_tail, cancelled_in_both, untouched = [await trade.order() for _ in range(3)]
    await trade.comes_true()
    backup = await vault.take("order")
    (*_, acknowledged) = await trade.many(200)
    await trade.ship(shipped_in_tail)
    await trade.cancel(cancelled_in_both)
    await trade.comes_true()
    await published(stack, "order")

    await stack.stop("order")
    await vault.put_in_place("order", backup)
    await stack.start(server_of("order"))
    async with only(stack, "order"):
        (first, *_) = [await trade.place(trade.plenty) for _ in range(5)]
        await trade.cancel(first)
        await trade.cancel(untouched)
        for order in (shipped_in_tail, cancelled_in_both):
            assert (await trade.asks_to_cancel(order)).status_code == 200
        assert (await trade.repeats(acknowledged)).status_code == 201
        assert (await trade.asks_to_cancel(acknowledged)).status_code == 404, "the backup does not have it"

    began = time.monotonic()
    async with starting(stack, "order"), trade.flowing(trade.order):
        refused = await trade.refuses("order") - began
        said = await watch.says(went_back("order", ORDERS), began)
        status, dry_run, restore, audit = runbook("The store went back")
        assert (await carry_out(stack, status)).code == 1, "commands are refused"
        assert "Nothing was changed" in await succeeds(stack, dry_run)
        restored = json.loads(await succeeds(stack, [*restore, "--json"]))
        taken_again = await trade.accepts("order") - began

    outcomes = Counter(fork["outcome"] for fork in restored["forks"] if fork["type"] != "CanarySent")
    assert outcomes["kept"] >= 7, restored["forks"]
    assert (outcomes["already so"], outcomes["refused"]) == (2, 1), restored["forks"]
    assert (await trade.repeats(acknowledged)).json()["order_id"] == acknowledged.order_id
    outcome = await trade.comes_true()
    Report("order, with a fork", outcome, refused, taken_again, said).print()
    assert not outcome.doubled
    await succeeds(stack, audit)
    await nothing_is_lost(stack)


async def test_an_inventory_store_whose_prices_and_receipts_went_on_twice(
    stack: Stack, vault: Vault, watch: Watch, trade: Trade
) -> None:
    backup = await vault.take_running("inventory")
    await trade.reprice(trade.plenty, 1500)
    await trade.receive(trade.plenty, 7)
    await trade.many(20)
    assert await trade.charged(trade.plenty) == 1500
    await trade.comes_true()
    await published(stack, "inventory")

    await stack.stop("inventory")
    await vault.put_in_place("inventory", backup)
    await stack.start(server_of("inventory"))
    async with only(stack, "inventory"):
        await trade.reprice(trade.plenty, 1700)
        await trade.receive(trade.plenty, 5)

    began = time.monotonic()
    async with starting(stack, "inventory"), trade.flowing(lambda: trade.receive(trade.plenty)):
        for _ in range(5):
            await trade.order()
        refused = await trade.refuses("inventory") - began
        said = await watch.says(went_back("inventory", INVENTORY), began)
        await succeeds(stack, ["millrace", "restore", "inventory"])
        taken_again = await trade.accepts("inventory") - began

    outcome = await trade.comes_true()
    Report("inventory, with a fork", outcome, refused, taken_again, said).print()
    assert not outcome.doubled
    assert await trade.price_of(trade.plenty) == await trade.charged(trade.plenty) == 1700
    await trade.comes_true()
    await nothing_is_lost(stack)


async def test_a_server_that_is_replaced_while_the_platform_runs(
    stack: Stack, vault: Vault, watch: Watch, trade: Trade
) -> None:
    backup = await vault.take_running("order")
    async with trade.flowing(trade.order):
        await trade.many(30)
    await trade.comes_true()
    await published(stack, "order")

    began = await replace_server(stack, vault, "order", backup)
    async with trade.flowing(trade.order):
        refused = await trade.refuses("order") - began
        said = await watch.says(went_back("order", ORDERS), began)
        await succeeds(stack, ["millrace", "restore", "order"])
        taken_again = await trade.accepts("order") - began

    outcome = await trade.comes_true()
    Report("order, under the running platform", outcome, refused, taken_again, said).print()
    assert not outcome.doubled
    await nothing_is_lost(stack)


async def test_two_stores_at_once(stack: Stack, vault: Vault, watch: Watch, trade: Trade) -> None:
    backups = {service: await vault.take_running(service) for service in ("order", "inventory")}
    await trade.reprice(trade.plenty, 1300)
    await trade.receive(trade.plenty, 3)
    await trade.many(30)
    await trade.comes_true()
    await published(stack, *backups)

    for service, backup in backups.items():
        began = await replace_server(stack, vault, service, backup)
    async with trade.flowing(trade.order), trade.flowing(lambda: trade.receive(trade.plenty)):
        refused = max(await asyncio.gather(*map(trade.refuses, backups))) - began
        said = await watch.says(" store went back: ", began)
        await watch.says(", and 1 more store refuses them", began)
        *restores, audit = runbook("Several stores at once")
        for restore in restores:
            await succeeds(stack, restore)
        taken_again = max(await asyncio.gather(*map(trade.accepts, backups))) - began

    outcome = await trade.comes_true()
    Report("order and inventory", outcome, refused, taken_again, said).print()
    assert not outcome.doubled
    assert await trade.price_of(trade.plenty) == await trade.charged(trade.plenty) == 1300
    await trade.comes_true()
    await succeeds(stack, audit)
    await nothing_is_lost(stack)


async def test_a_standby_that_is_promoted_without_the_tail(
    stack: Stack, vault: Vault, watch: Watch, trade: Trade
) -> None:
    async with standby_of(stack, vault, "order") as standby:
        await trade.many(5)
        await trade.comes_true()
        await cut_off(standby)
        await trade.many(20)
        await trade.comes_true()
        await published(stack, "order")
        await stack.stop("order")
        await stack.kill(server_of("order"))
        await promote(standby)
    await vault.put_in_place("order", stack.home.data(standby.name))
    await stack.start(server_of("order"))
    began = time.monotonic()
    async with only(stack, "order"):
        answer = await trade.platform.place(trade.customers[0], trade.plenty)
        assert (answer.status_code, answer.json()["type"]) == (503, REFUSAL), answer.text
        moved = await watch.says("The order store moved to another server or timeline", began)
        assert (await repair(stack, "order", "store", "status")).code == 1

    async with starting(stack, "order"), trade.flowing(trade.order):
        refused = await trade.refuses("order") - began
        said = await watch.says(went_back("order", ORDERS), began, within=2 * PROMISED)
        await succeeds(stack, ["millrace", "restore", "order"])
        taken_again = await trade.accepts("order") - began

    outcome = await trade.comes_true()
    Report("a promoted standby of order", outcome, refused, taken_again, f"{moved}; then: {said}").print()
    assert not outcome.doubled
    await nothing_is_lost(stack)


async def test_a_store_that_moved_on_purpose_while_kafka_is_away(
    stack: Stack, vault: Vault, trade: Trade
) -> None:
    async with standby_of(stack, vault, "order") as standby:
        await trade.many(5)
        await trade.comes_true()
        await stack.stop("order")
        await caught_up(stack, "order", standby)
        await stack.stop(server_of("order"))
        await promote(standby)
    await vault.put_in_place("order", stack.home.data(standby.name))
    await stack.start(server_of("order"))
    await stack.pause("kafka")
    try:
        async with only(stack, "order"):
            answer = await trade.platform.place(trade.customers[0], trade.plenty)
            assert (answer.status_code, answer.json()["type"]) == (503, REFUSAL), answer.text
            (accept,) = runbook("A store that moved on purpose")
            await succeeds(stack, accept)
            await trade.order()
    finally:
        await stack.resume("kafka")
    await stack.start("order")
    outcome = await trade.comes_true()
    assert not outcome.doubled
    await nothing_is_lost(stack)


async def test_a_notification_store_that_forgot_its_mails(
    stack: Stack, vault: Vault, watch: Watch, trade: Trade
) -> None:
    backup = await vault.take_running("notification")
    await trade.many(20)
    await trade.comes_true()
    await published(stack, "notification")

    began = await replace_server(stack, vault, "notification", backup)
    for ending in ("confirmed", "rejected", "cancelled", "shipped"):
        await trade.order(ending)
    said = await watch.says(went_back("notification", NOTIFICATIONS), began)
    await succeeds(stack, ["millrace", "restore", "notification"])

    outcome = await trade.comes_true()
    Report("notification", outcome, None, None, said).print()
    assert not outcome.doubled
    await nothing_is_lost(stack)


async def test_an_order_store_without_any_backup(
    stack: Stack, vault: Vault, watch: Watch, trade: Trade
) -> None:
    await trade.many(20)
    await trade.comes_true()
    await published(stack, "order")

    await stack.stop("order")
    await stack.kill(server_of("order"))
    vault.throw_away("order")
    await stack.migrate("order")
    async with only(stack, "order", "http,relay,consumers"):
        began = time.monotonic()
        said = await watch.says(went_back("order", ORDERS), began)
        async with trade.flowing(trade.order):
            refused = await trade.refuses("order") - began
            await succeeds(stack, ["millrace", "restore", "order"])
            taken_again = await trade.accepts("order") - began
    await stack.start("order")

    outcome = await trade.comes_true()
    Report("order, from nothing", outcome, refused, taken_again, said).print()
    assert not outcome.doubled
    await nothing_is_lost(stack)


async def test_a_topic_that_is_lost_together_with_the_tail(
    stack: Stack, vault: Vault, watch: Watch, trade: Trade
) -> None:
    backup = await vault.take_running("order")
    tail = await trade.many(20)
    await trade.comes_true()
    await published(stack, "order")

    await stack.stop("order")
    await vault.put_in_place("order", backup)
    await stack.wipe_kafka()
    await stack.up()
    began = time.monotonic()
    said = await watch.says("has lost events that were sent to it", began)
    renew, *republish, list_lost, release, audit = runbook("The topic is lost too")
    for command in (renew, *republish):
        await succeeds(stack, command)
    kept = [await trade.order() for _ in range(5)]
    for placed in kept:
        await trade.platform.becomes(placed.customer, placed.order_id, "confirmed")

    async def listed() -> bool:
        rows = json.loads(await succeeds(stack, [*list_lost, "--json"]))
        return {row["stream"] for row in rows} >= {f"order-{placed.order_id}" for placed in tail}

    async def released() -> bool:
        ran = await carry_out(stack, release)
        assert ran.code == 0, ran  # not before each partition shows that its lost orders are gone
        return True

    await eventually(listed, within=RECOVERY, what="inventory has read that the orders are lost")
    await eventually(released, within=RECOVERY, what="the stock of lost orders is released")

    outcome = await trade.comes_true(lost=tail)
    Report("order, with its topic", outcome, None, None, said).print()
    assert not outcome.doubled
    assert sorted(outcome.lost) == sorted(placed.order_id for placed in tail)
    await succeeds(stack, audit)
    left = {kind for found in (await audit_all(stack)).values() for kind in found} - ON_ITS_WAY
    assert left <= FOR_A_PERSON, left
