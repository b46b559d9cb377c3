"""Processes of the order and the inventory service, of one program or of two ages, on topics and databases of
a test's own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from infra.local.ports import free_ports
from infra.testing import DatabaseUrls, KafkaServer, PostgresServer, unique
from millrace.testing.certificates import tls_environment
from schemas.topics import ORDERS
from tests.chaos.program_of_age import TODAY
from tests.support import eventually

CUSTOMER = {"X-Customer-Id": str(uuid4())}
OPERATOR = {"X-Operator-Id": "test"}
SKU = "TEA-1"
SERVICES = ("order_service", "inventory_service")


@dataclass
class Process:
    """One process of a service."""

    process: asyncio.subprocess.Process
    port: int
    internal: int
    log: Path
    http: httpx.AsyncClient = field(repr=False)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.http.get(f"http://127.0.0.1:{self.port}{path}", **options)

    async def post(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        return await self.http.post(f"http://127.0.0.1:{self.port}{path}", json=body, headers=headers)

    async def checks(self) -> dict[str, Any]:
        """What /readyz says of each worker."""
        checks: dict[str, Any] = (await self.http.get(f"http://127.0.0.1:{self.internal}/readyz")).json()[
            "checks"
        ]
        return checks

    async def consumes(self, partitions: int) -> bool:
        """Whether its saga has that many partitions."""
        saga = (await self.checks())["order-service.saga"]
        assert saga["detail"] == f"consuming {partitions} partitions", saga
        return True

    async def up(self) -> None:
        """Returns when it is ready."""

        async def answers() -> bool:
            assert self.process.returncode is None, self.log.read_text()[-3000:]
            try:
                return (await self.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(answers, 60.0, f"{self.log.name} is ready")

    async def stop(self) -> None:
        """As a deployment does it."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(self.process.wait(), 20)


@dataclass(frozen=True)
class Deployment:
    """Starts processes of a service, of today's program or the next one."""

    environment: dict[str, str]
    inventory: DatabaseUrls
    orders: DatabaseUrls
    folder: Path
    http: httpx.AsyncClient
    inventory_grpc: int = field(default_factory=lambda: free_ports(1)[0])

    async def migrate(self) -> None:
        for service in SERVICES:
            code, said = await self.command(service, "migrate")
            assert code == 0, said

    async def command(self, service: str, *words: str) -> tuple[int, str]:
        """Runs a command of today's program to its end; returns its exit code and what it printed."""
        log = self.folder / f"{uuid4().hex}.log"
        process = await self._run(TODAY, service, words, self._databases(service), log)
        return await process.wait(), log.read_text()

    def topic(self, service: str) -> str:
        """The name of its topic."""
        return self.environment["ORDERS_TOPIC" if service == "order_service" else "INVENTORY_TOPIC"]

    @asynccontextmanager
    async def process_of(self, service: str, age: str) -> AsyncIterator[Process]:
        """One more process, up."""
        port, internal, grpc = free_ports(3)
        settings = {
            **self._databases(service),
            **tls_environment(service.removesuffix("_service")),
            f"{_prefix(service)}_HTTP_PORT": str(port),
            f"{_prefix(service)}_INTERNAL_PORT": str(internal),
            f"{_prefix(service)}_GRPC_PORT": str(grpc if service == "order_service" else self.inventory_grpc),
        }
        log = self.folder / f"{service}-{age}.log"
        running = await self._run(age, service, ["serve"], settings, log)
        process = Process(running, port, internal, log, self.http)
        try:
            await process.up()
            yield process
            await process.stop()
        finally:
            if process.process.returncode is None:
                process.process.kill()
                await process.process.wait()

    def _databases(self, service: str) -> dict[str, str]:
        urls = self.orders if service == "order_service" else self.inventory
        prefix = _prefix(service)
        return {f"{prefix}_DATABASE_URL": urls.service, f"{prefix}_MIGRATION_DATABASE_URL": urls.migrator}

    async def _run(
        self, age: str, service: str, words: Sequence[str], settings: dict[str, str], log: Path
    ) -> asyncio.subprocess.Process:
        with log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.chaos.program_of_age", age, service, *words),
                env={"PATH": os.environ["PATH"], **self.environment, **settings},
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
            )


def _prefix(service: str) -> str:
    """Of its settings: ORDER, INVENTORY."""
    return service.removesuffix("_service").upper()


@asynccontextmanager
async def open_deployment(
    database: DatabaseUrls, postgres: PostgresServer, kafka: KafkaServer, folder: Path
) -> AsyncIterator[Deployment]:
    """Migrated, with the topics, and no process. `database` is the order service's."""
    names = {"ORDERS_TOPIC": unique("orders"), "INVENTORY_TOPIC": unique("inventory")}
    for name in names.values():
        await kafka.create_topic(name, partitions=ORDERS.partitions)
    inventory = await postgres.create_database()
    async with httpx.AsyncClient(timeout=60) as http:
        grpc = free_ports(1)[0]
        addresses = {
            f"{service}_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers
            for service in ("ORDER", "INVENTORY")
        } | {"ORDER_INVENTORY_GRPC_TARGET": f"127.0.0.1:{grpc}"}
        deployment = Deployment(names | addresses, inventory, database, folder, http, grpc)
        await deployment.migrate()
        yield deployment
    await postgres.drop_database(inventory.name)


async def list_product(inventory: Process) -> None:
    price = {"amount": 1250, "currency": "EUR"}
    answers = [
        await inventory.post("/products", {"sku": SKU, "name": "Tea", "price": price}, OPERATOR),
        await inventory.post(f"/products/{SKU}/stock", {"quantity": 100_000}, OPERATOR),
    ]
    assert [answer.is_success for answer in answers] == [True, True], [answer.text for answer in answers]


async def place(process: Process) -> str:
    """An accepted order; returns its id."""
    body = {"lines": [{"sku": SKU, "quantity": 1}]}
    answer = await process.post("/orders", body, {**CUSTOMER, "Idempotency-Key": uuid4().hex})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["order_id"])


async def all_confirmed(process: Process, orders: list[str]) -> None:
    """Returns when every one of them is confirmed, as `process` shows them."""
    pending = set(orders)

    async def none_is_pending() -> bool:
        for order in sorted(pending):
            answer = await process.get(f"/orders/{order}", headers=CUSTOMER)
            if answer.status_code == 200 and answer.json()["status"] == "confirmed":
                pending.discard(order)
        assert not pending, f"{len(pending)} of {len(orders)} orders are not confirmed"
        return True

    await eventually(none_is_pending, 60.0, "every order is confirmed")
