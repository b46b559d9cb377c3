"""Rebuilding read models of the running platform: the runbook of docs/replay.md, command by command."""

import json
from typing import Any
from uuid import UUID

import psycopg

from infra.local.programs import Ran
from infra.local.stack import Stack
from tests.docs import ROOT, commands_in, section
from tests.e2e.platform import OPERATOR, Customer, Platform
from tests.stacks import AnyStack

RUNBOOK = section(ROOT / "docs" / "replay.md", "A read model is wrong: what now?")
LOOK, COMPARE, LET_IT_TAKE_OVER, CHECK, GO_BACK = commands_in(RUNBOOK)


async def carry_out(stack: AnyStack, command: list[str], *more: str) -> Ran:
    """`millrace replay rebuild order orders ...` as millrace does it: by the service's own program."""
    millrace, replay, verb, service, *rest = command
    assert (millrace, replay) == ("millrace", "replay")
    return await stack.tool(service, "replay", verb, *rest, *more)


async def read_models(stack: AnyStack, service: str) -> dict[str, dict[str, Any]]:
    """What `replay list` says of the service's current read models, by name."""
    ran = await stack.tool(service, "replay", "list", "--json")
    assert ran.code == 0, ran.err
    rows = [row for row in json.loads(ran.out) if row["copies"]]
    return {row["model"]: row for row in rows}


async def spoil(stack: AnyStack, order_id: str) -> None:
    """Somebody "corrects" the table by hand."""
    # Only an owner can: the database's superuser, from the host.
    url = (
        stack.database_url("order", superuser=True)
        if isinstance(stack, Stack)
        else stack.database_url("order")  # type: ignore[attr-defined]
    )
    async with await psycopg.AsyncConnection.connect(url) as owner:
        await owner.execute(
            "UPDATE orders_v2.orders SET status = 'pending' WHERE order_id = %s", (UUID(order_id),)
        )


async def shipped(platform: Platform) -> tuple[Customer, str]:
    """An order that came to its end."""
    customer, sku = await platform.register(), await platform.list_product(stock=5)
    order_id = await platform.placed(customer, sku)
    await platform.becomes(customer, order_id, "confirmed")
    answer = await platform.command(f"/orders/{order_id}/ship", {"carrier": "DHL"}, OPERATOR)
    assert answer.status_code == 200, answer.text
    await platform.becomes(customer, order_id, "shipped")
    return customer, order_id


async def test_the_runbook_for_a_read_model_that_is_wrong(
    platform: Platform, running_stack: AnyStack
) -> None:
    customer, order_id = await shipped(platform)
    await spoil(running_stack, order_id)
    assert (await platform.order(customer, order_id))["status"] == "pending"

    assert LOOK == ["millrace", "replay", "list"]
    assert (await read_models(running_stack, "order"))["orders"]["state"].startswith("live")

    compared = await carry_out(running_stack, COMPARE)
    assert compared.code == 1, compared
    assert order_id in compared.out
    assert "status" in compared.out
    assert (await platform.order(customer, order_id))["status"] == "pending", "nothing was changed"
    assert "rebuilt copy waits" in (await read_models(running_stack, "order"))["orders"]["state"]

    taken_over = await carry_out(running_stack, LET_IT_TAKE_OVER)
    assert taken_over.code == 0, taken_over
    assert (await platform.order(customer, order_id))["status"] == "shipped"

    checked = await carry_out(running_stack, CHECK, "--json")
    assert checked.code == 0, checked
    outcome = json.loads(checked.out.splitlines()[-1])["outcome"]
    assert (outcome["comparison"]["equal"], outcome["live"]) == (True, True)

    assert (await carry_out(running_stack, GO_BACK)).code == 0
    await shipped(platform)  # and orders flow


async def test_a_read_model_fed_by_kafka_is_rebuilt_while_orders_flow(
    platform: Platform, running_stack: AnyStack
) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=50)
    await platform.placed(customer, sku)

    rebuilt = await running_stack.tool("order", "replay", "rebuild", "catalogue", "--verify", "--json")

    assert rebuilt.code == 0, rebuilt
    assert json.loads(rebuilt.out.splitlines()[-1])["outcome"]["live"]
    await platform.placed(customer, sku)
    await platform.placed(customer, await platform.list_product(stock=1))  # it hears of new products
