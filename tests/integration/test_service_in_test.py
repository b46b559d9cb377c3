"""A whole service inside a test, and what its declaration may say: several topics per consumer, settings for
reactions."""

from collections.abc import AsyncIterator

import pytest

from infra.testing import DatabaseUrls, KafkaServer
from inventory_service.app import service as inventory
from millrace import CommandContext
from millrace.runtime.worker import Role
from millrace.testing import ServiceInTest, eventually, in_test
from schemas.money import Money
from tests.integration.greeter import (
    PEOPLE,
    SHOPS,
    Closed,
    Entered,
    GreeterSettings,
    Names,
    Nothing,
    Opened,
    goodbye,
    service,
    welcome,
)

Greeter = ServiceInTest[GreeterSettings, Nothing]


@pytest.fixture
async def greeter(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[Greeter]:
    async with in_test(service, database, kafka=kafka.bootstrap_servers, hello="Salve") as app:
        yield app


async def texts(app: Greeter) -> set[str]:
    return {getattr(one.event, "text", "") for one in await app.store.read_all(after=0, limit=100)}


async def names(app: Greeter) -> set[tuple[str, str]]:
    async with app.pool.connection() as connection:
        rows = await connection.execute(f"SELECT stream_id, name FROM {Names().schema}.names".encode())
        return {(stream, name) async for stream, name in rows}


async def test_one_consumer_reads_two_topics_each_with_its_registry(greeter: Greeter) -> None:
    await greeter.writers[PEOPLE].publish("person-1", Entered(name="Ada"))
    await greeter.writers[SHOPS].publish("shop-1", Opened(city="Rome"), Closed(city="Rome"))
    # A type that the people's registry knows means nothing in the topic of the shops.
    await greeter.writers[SHOPS].publish("shop-2", Entered(name="Eve"))
    await greeter.caught_up()

    assert await texts(greeter) == {"Salve, Ada", "Salve, Rome", "Goodbye, Rome"}
    assert await names(greeter) == {("person-1", "Ada"), ("shop-1", "Rome")}
    streams = {one.stream_id: one.metadata.actor for one in await greeter.store.read_all(after=0, limit=9)}
    assert streams["greeting-Ada"] == welcome.name


async def test_an_audit_reads_all_topics_of_all_consumers_that_an_invariant_names(greeter: Greeter) -> None:
    await greeter.writers[PEOPLE].publish("person-1", Entered(name="Ada"))
    await greeter.writers[PEOPLE].publish("person-2", Entered(name="Bob"))
    await greeter.writers[SHOPS].publish("shop-1", Opened(city="Rome"), Closed(city="Rome"))

    report = await greeter.audited()

    figures = {check.name: check.figures for check in report.checks}["each is greeted"]
    assert figures == {
        f"{welcome.name} {PEOPLE.name}": 2,
        f"{welcome.name} {SHOPS.name}": 1,
        f"{goodbye.name} {SHOPS.name}": 1,
    }


async def test_a_violation_fails_at_once_with_what_is_wrong(greeter: Greeter, database: DatabaseUrls) -> None:
    await greeter.writers[PEOPLE].publish("person-1", Entered(name="Ada"))
    await greeter.caught_up()
    async with greeter.pool.connection() as connection:
        await connection.execute(f"DELETE FROM {Names().schema}.names".encode())

    with pytest.raises(AssertionError, match=r"names \(stream_id=person-1\): the row is missing"):
        await greeter.audited()


async def test_without_kafka_the_doors_and_projectors_run(database: DatabaseUrls) -> None:
    async with in_test(service, database) as app:
        await app.caught_up()
        report = (await app.internal.get("/readyz")).json()
        assert {"database", "certificate"} <= report["checks"].keys()
        assert not any("welcome" in name or "relay" in name for name in report["checks"])
        assert (await app.internal.get("/openapi.json")).status_code == 200


async def test_only_the_chosen_workers_run(database: DatabaseUrls) -> None:
    async with in_test(
        service, database, roles=frozenset({Role.HTTP}), without=["database", "certificate"]
    ) as app:
        assert (await app.internal.get("/readyz")).json()["checks"] == {}


async def test_what_the_service_does_not_have_is_refused_with_what_it_has(database: DatabaseUrls) -> None:
    with pytest.raises(TypeError, match=r"no setting 'helo'; there are: .*hello"):
        async with in_test(service, database, helo="Ciao"):
            pass
    with pytest.raises(ValueError, match=r"no worker 'projektor'; there are: .*database"):
        async with in_test(service, database, without=["projektor"]):
            pass
    async with in_test(service, database, roles=frozenset()) as app:
        with pytest.raises(KeyError, match="in_test was given no kafka="):
            _ = app.writers[PEOPLE]


async def test_nothing_is_read_from_the_environment(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREETER_HELLO", "Ahoy")
    async with in_test(service, database) as app:
        assert app.settings.hello == "Hello"


async def test_it_can_be_started_again_on_what_it_left(database: DatabaseUrls, kafka: KafkaServer) -> None:
    async with in_test(service, database, kafka=kafka.bootstrap_servers) as app:
        topics, writer = app.topics, app.writers[PEOPLE]
        await writer.publish("person-1", Entered(name="Ada"))
        await app.caught_up()
    async with in_test(service, database, kafka=kafka.bootstrap_servers, topics=topics) as app:
        await app.caught_up()
        assert await texts(app) == {"Hello, Ada"}


async def test_what_has_not_arrived_is_named(database: DatabaseUrls, kafka: KafkaServer) -> None:
    roles = frozenset({Role.CONSUMERS})
    async with in_test(service, database, kafka=kafka.bootstrap_servers, roles=roles) as app:
        await app.writers[PEOPLE].publish("person-1", Entered(name="Ada"))
        with pytest.raises(AssertionError, match=r"last seen: the relay is at position 0 of 1$"):
            await app.caught_up(within=5)
        topics, writer = app.topics, app.writers[SHOPS]
        await writer.publish("shop-1", Opened(city="Rome"))
        await eventually(lambda: names_are(app, 2), what="the shop has arrived")
    doors = frozenset({Role.HTTP})
    async with in_test(service, database, kafka=kafka.bootstrap_servers, topics=topics, roles=doors) as app:
        await app.writers[SHOPS].publish("shop-2", Opened(city="Oslo"))
        with pytest.raises(AssertionError, match=rf"{welcome.name} is at offset 1 of 2 in {SHOPS.name}_"):
            await app.caught_up(within=0.1)


async def names_are(app: Greeter, count: int) -> bool:
    return len(await names(app)) == count


async def test_a_projector_that_is_behind_is_named(database: DatabaseUrls) -> None:
    async with in_test(inventory, database, roles=frozenset({Role.HTTP})) as app:
        await app.resources.commands.list_product(
            "TEA-1", "Tea", Money(amount=1, currency="EUR"), CommandContext("test", "test")
        )
        with pytest.raises(AssertionError, match=r"projector stock v\d+ is at position 0 of 1"):
            await app.caught_up(within=0.1)
