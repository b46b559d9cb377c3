"""Inventory as a program whose commands tests start, on a topic of orders of the test's own: `python -m
<this> lost ...`.

Without arguments it carries out the commands on its standard input (a JSON array of arrays), one after
another, and prints what became of each. LOST_ORDERS names the topic, which has PARTITIONS.
"""

import json
import os
import sys

import typer

from inventory_service.app import service
from inventory_service.http import InventoryResources
from inventory_service.settings import InventorySettings
from millrace.kafka.topics import Topic
from millrace.service import Service
from schemas.topics import INVENTORY, ORDERS
from tests.integration.parked_process import carry_out

PARTITIONS = 3


def on(orders: str) -> Service[InventorySettings, InventoryResources]:
    """Inventory, which hears orders in the topic of that name, and has sent nothing to its own."""
    return service.with_topics({ORDERS: Topic(orders, PARTITIONS), INVENTORY: Topic(f"{orders}.inventory")})


if __name__ == "__main__":
    app: typer.Typer = on(os.environ["LOST_ORDERS"]).cli()
    if sys.argv[1:]:
        app()
    typer.echo(json.dumps(carry_out(app, json.load(sys.stdin))))
