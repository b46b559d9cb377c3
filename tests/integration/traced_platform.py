"""The four services as processes that send their traces to a collector inside the test."""

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from infra.local.ports import free_ports
from infra.testing import DatabaseUrls, KafkaServer, PostgresServer, temporary_home
from millrace.kafka.topics import ensure_topics
from millrace.operations.definition import ServiceDefinition
from millrace.testing.certificates import tls_environment
from order_service.app import service
from schemas.topics import TOPICS
from tests.integration.notification_kit import MailServer
from tests.support import eventually
from tests.tracing_kit import Collector

SERVICES = ("order", "inventory", "notification", "user")
OPERATOR = {"X-Operator-Id": "olga"}
SKU = "TEA-1"


@dataclass(frozen=True)
class TracedPlatform:
    """The platform from outside, and what its services tell of themselves."""

    collector: Collector
    mail: MailServer
    http: Mapping[str, httpx.AsyncClient]
    internal: Mapping[str, str]
    """Address of each service's internal port."""
    logs: Path

    async def place(self, customer: str, **headers: str) -> str:
        """An order of one product; returns its id."""
        told = {"X-Customer-Id": customer, "Idempotency-Key": uuid4().hex, **headers}
        body = {"lines": [{"sku": SKU, "quantity": 1}]}
        answer = await self.http["order"].post("/orders", json=body, headers=told)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["order_id"])

    async def register(self, name: str, email: str) -> str:
        """A customer; returns the id."""
        answer = await self.http["user"].post("/users", json={"name": name, "email": email})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["user_id"])

    async def stock(self) -> None:
        """The product, at a price that the order service has heard of, with enough of it."""
        http = self.http["inventory"]
        product = {"sku": SKU, "name": "Tea", "price": {"amount": 1250, "currency": "EUR"}}
        assert (await http.post("/products", json=product, headers=OPERATOR)).status_code == 201
        received = await http.post(f"/products/{SKU}/stock", json={"quantity": 99}, headers=OPERATOR)
        assert received.status_code == 200

        def heard() -> bool:  # else the order service asks inventory for the price
            return any(
                span.name == "process inventory.events"
                and span.attributes["messaging.consumer.group.name"] == service.definition.feeds[1].consumer
                and span.attributes["millrace.event_type"] == "ProductListed"
                for span in self.collector.spans
            )

        await eventually(heard, within=30, what="the catalogue has the product")

    def log(self, service: str) -> list[dict[str, Any]]:
        """The lines that a service has logged."""
        text = (self.logs / f"{service}.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@asynccontextmanager
async def traced_platform(postgres: PostgresServer, logs: Path) -> AsyncIterator[TracedPlatform]:
    """All four services, on a broker of their own: their topics have the names that other tests' have."""
    mail = MailServer()
    await mail.start()
    with temporary_home() as home, Collector() as collector:
        kafka = KafkaServer(home)
        await kafka.start()
        await ensure_topics(kafka.bootstrap_servers, TOPICS)
        databases = {name: await postgres.create_database() for name in SERVICES}
        ports = {name: tuple(free_ports(3)) for name in SERVICES}
        async with AsyncExitStack() as stack:
            http = {}
            for name, (port, *_) in ports.items():
                environment = {
                    **_settings(name, databases[name], kafka, ports),
                    "NOTIFICATION_SMTP_PORT": str(mail.port),
                    "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
                    "OTEL_BSP_SCHEDULE_DELAY": "200",
                }
                await _migrate(name, databases[name])
                await stack.enter_async_context(_serving(name, environment, logs / f"{name}.log"))
                client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20)
                http[name] = await stack.enter_async_context(client)
            for client in http.values():
                await eventually(lambda client=client: _ready(client), within=60, what="the service is ready")  # type: ignore[misc]
            internal = {name: f"127.0.0.1:{each[2]}" for name, each in ports.items()}
            yield TracedPlatform(collector, mail, http, internal, logs)
        for database in databases.values():
            await postgres.drop_database(database.name)
        await kafka.stop()
    await mail.stop()


def _settings(
    name: str, database: DatabaseUrls, kafka: KafkaServer, ports: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    http_port, grpc_port, internal_port = ports[name]
    told = {
        "DATABASE_URL": database.service,
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "HTTP_PORT": str(http_port),
        "GRPC_PORT": str(grpc_port),
        "INTERNAL_PORT": str(internal_port),
        "INVENTORY_GRPC_TARGET": f"127.0.0.1:{ports['inventory'][1]}",
        "USER_GRPC_TARGET": f"127.0.0.1:{ports['user'][1]}",
        "PRIVACY_MASTER_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
    }
    return {f"{name.upper()}_{variable}": value for variable, value in told.items()} | tls_environment(name)


async def _migrate(name: str, database: DatabaseUrls) -> None:
    definition: ServiceDefinition = import_module(f"{name}_service.app").service.definition
    await definition.migrate(database.migrator)


@asynccontextmanager
async def _serving(name: str, environment: Mapping[str, str], log: Path) -> AsyncIterator[None]:
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"{name}_service",
            "serve",
            env={"PATH": os.environ["PATH"], **environment},
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 15)


async def _ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False
