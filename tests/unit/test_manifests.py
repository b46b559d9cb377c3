"""service.toml: what is refused, in one line each that names the file and the remedy."""

from pathlib import Path

import pytest

from infra.local.home import REPOSITORY
from millrace.manifest import ManifestError, read_manifests

ORDER = """
name = "order"
description = "Places orders"
topic = "orders.events"
streams = ["order-"]

[ports]
http = 8001
internal = 7001
grpc = 9001
postgres = 5501
"""
STOCK = ORDER.replace("order", "stock").replace("01\n", "02\n")
HEARS = '\n[[reactions]]\nname = "holds"\nhears = ["{}.events"]\n'
CALLERS = "\n[callers]\nGetStock = [{}]\n"
READS = '\n[[read_models]]\nname = "stock"\n'


def write(root: Path, **manifests: str) -> Path:
    for name, text in manifests.items():
        (root / f"{name}_service").mkdir()
        (root / f"{name}_service" / "service.toml").write_text(text)
    return root


def refused(root: Path) -> list[str]:
    with pytest.raises(ManifestError) as error:
        read_manifests(root)
    return str(error.value).splitlines()


def test_services_come_in_the_order_of_their_ports(tmp_path: Path) -> None:
    write(tmp_path, stock=STOCK, order=ORDER)
    assert [one.name for one in read_manifests(tmp_path)] == ["order", "stock"]


def test_what_is_not_said_follows_from_the_name(tmp_path: Path) -> None:
    reaction = '[[reactions]]\nname = "saga"\nhears = ["orders.events"]\n'
    write(tmp_path, order=ORDER + reaction.replace("orders", "stocks"), stock=STOCK)
    order = read_manifests(tmp_path)[0]
    assert (order.service, order.package, order.prefix, order.postgres, order.events) == (
        "order-service",
        "order_service",
        "ORDER_",
        "postgres-order",
        "orders",
    )
    assert order.group(order.reactions[0]) == "order-service.saga"


def test_every_service_of_the_platform_is_known() -> None:
    packages = {init.parent.name for init in REPOSITORY.glob("*_service/__init__.py")}
    assert {one.package for one in read_manifests(REPOSITORY)} == packages


def test_a_package_without_a_manifest_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, order=ORDER)
    (tmp_path / "payment_service").mkdir()
    (tmp_path / "payment_service" / "__init__.py").touch()
    assert refused(tmp_path) == [
        "payment_service/service.toml is missing: without it nothing starts, builds, checks or watches this"
        " package"
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (ORDER.replace("8001", "80010"), "ports.http: 80010 is too large"),
        (ORDER.replace('topic = "orders.events"\n', ""), "topic: the line is missing"),
        (ORDER.replace("description", "descripton"), "descripton: there is no such line"),
        (ORDER.replace('"order-"', '"Order"'), "streams.0: 'Order' does not fit "),
        (ORDER.replace('"order-"', "order"), "no valid TOML: "),
        (ORDER.replace("8001", '"8001"'), "ports.http: expected a whole number"),
        ("partitions = true\n" + ORDER, "partitions: expected a whole number"),
        ('sends_mail = "yes"\n' + ORDER, "sends_mail: expected true or false"),
        ('requires = ["not a requirement!!"]\n' + ORDER, "requires.0: 'not a requirement!!' does not fit "),
        (ORDER.replace("Places orders", "a\\nUSER root"), "description: 'a\\nUSER root' does not fit "),
        (
            ORDER.replace('name = "order"', 'name = "orders"'),
            'name = "orders" belongs into a folder orders_service',
        ),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, wrong: str, said: str) -> None:
    lines = refused(write(tmp_path, order=wrong))
    assert any(line.startswith(f"order_service/service.toml: {said}") for line in lines), lines


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ('asks = ["prices"]\n' + STOCK, "asks: there is no other service 'prices'; there are: order"),
        ('asks = ["stock"]\n' + STOCK, "asks: there is no other service 'stock'; there are: order"),
        (STOCK.replace("8002", "8080"), "ports.http = 8080 belongs to the board"),
        (
            STOCK.replace('"stock-"', '"order-line-"'),
            "streams: 'order-line-' begins like 'order-' of order_service",
        ),
        (
            STOCK + HEARS.format("carts"),
            "holds hears 'carts.events', a topic of no service; there are: orders.events",
        ),
        (STOCK + HEARS.format("stocks"), "holds hears 'stocks.events', its own"),
        (STOCK + HEARS.format("orders") + HEARS.format("orders"), "reaction 'holds' of stock is taken twice"),
        (STOCK + READS + READS, "read model 'stock' of stock is taken twice"),
        (
            STOCK + CALLERS.format('"cart"'),
            "callers.GetStock: there is no service 'cart'; there are: order, stock",
        ),
        (
            'asks = ["order"]\n' + STOCK,
            "asks: 'order' lets stock call nothing: add it in [callers] of order_service/service.toml",
        ),
    ],
)
def test_manifests_that_contradict_each_other_are_refused(tmp_path: Path, other: str, said: str) -> None:
    lines = refused(write(tmp_path, order=ORDER, stock=other))
    assert any(line.startswith(f"stock_service/service.toml: {said}") for line in lines), lines


def test_a_caller_that_does_not_ask_is_named(tmp_path: Path) -> None:
    lines = refused(write(tmp_path, order=ORDER, stock=STOCK + CALLERS.format('"order"')))
    assert lines == [
        "order_service/service.toml: asks: 'stock' is missing, whose GetStock it may call by"
        " stock_service/service.toml"
    ]


def test_who_asks_and_who_may_call_are_two_sides_of_one_thing(tmp_path: Path) -> None:
    asks = 'asks = ["stock"]\n' + ORDER
    _, stock = read_manifests(write(tmp_path, order=asks, stock=STOCK + CALLERS.format('"order"')))
    assert stock.callers == {"GetStock": ("order",)}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (STOCK.replace("9002", "9001"), "port 9001 is taken twice"),
        (STOCK.replace("stocks.events", "orders.events"), "topic 'orders.events' is taken twice"),
        (
            STOCK + HEARS.format("orders").replace("hears", 'consumer = "order-service.saga"\nhears'),
            "consumer group 'order-service.saga' is taken twice",
        ),
    ],
)
def test_what_two_services_claim_is_one_line_that_names_both(tmp_path: Path, other: str, said: str) -> None:
    third = STOCK.replace("stock", "cart").replace("02\n", "03\n")
    saga = ORDER + HEARS.format("carts").replace("holds", "saga")
    lines = refused(write(tmp_path, order=saga, stock=other, cart=third))
    assert lines == [f"order_service/service.toml and stock_service/service.toml: {said}"]
