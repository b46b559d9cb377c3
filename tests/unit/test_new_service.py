"""`millrace new service`: what it refuses, and that what it makes can be imported, in every shape that can be
asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.home import REPOSITORY
from infra.topology import PORTS, SERVICES
from millrace.manifest import RESERVED_PORTS, ManifestError, read_manifests
from millrace.scaffold.generate import FRAMEWORK, generate
from millrace.scaffold.new_service import NewServiceError, heard, new_service


def check(root: Path, *programs: str) -> None:
    """Everything that was made is formatted, linted, and importable; `programs` run."""
    ruff = str(Path(sys.executable).parent / "ruff")
    run(root, ruff, "check", "--no-cache", ".")
    run(root, ruff, "format", "--check", "--no-cache", ".")
    for program in programs:
        run(root, sys.executable, "-c", program)


def run(root: Path, *argv: str) -> None:
    """Ends well, with what the project has and the framework."""
    env = {"PYTHONPATH": f"{root}:{REPOSITORY}", "PATH": ""}
    done = subprocess.run(argv, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("grpc", [True, False], ids=["grpc", "no grpc"])
def test_in_an_empty_project(tmp_path: Path, *, grpc: bool) -> None:
    made = new_service(tmp_path, "payment", grpc=grpc)
    generate(tmp_path, [FRAMEWORK])

    assert (tmp_path / "payment_service" / "grpc_server.py" in made) == grpc
    assert [one.ports.http for one in read_manifests(tmp_path)] == [8001]
    check(
        tmp_path,
        "from payment_service.app import service; assert service.definition.topic.name == 'payments.events'",
    )


@pytest.mark.parametrize("http", [True, False], ids=["http", "no http"])
def test_one_that_hears_another(tmp_path: Path, *, http: bool) -> None:
    new_service(tmp_path, "cart", grpc=False)
    # In a process of its own: it imports the events of this project.
    program = (
        "from pathlib import Path; from millrace.scaffold.new_service import new_service;"
        f"new_service(Path('.'), 'payment', http={http}, grpc=False, hears=['carts.events'])"
    )
    check(tmp_path, program)
    generate(tmp_path, [FRAMEWORK])

    payment = read_manifests(tmp_path)[1]
    assert payment.ports.model_dump() == {"http": 8002, "internal": 7002, "grpc": 9002, "postgres": 5502}
    assert payment.reactions[0].hears == ("carts.events",)
    check(
        tmp_path,
        "from payment_service.app import service; assert 'payment-service.openings' in"
        " service.definition.consumers",
    )


def test_what_is_there_is_not_changed(tmp_path: Path) -> None:
    new_service(tmp_path, "cart")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    new_service(tmp_path, "payment")
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Payment", "expected one lower-case word"),
        ("pay-ment", "expected one lower-case word"),
        ("abcdefghijklmnopq", "expected one lower-case word of at most 16"),
        ("class", "'class' means something else in Python"),
        ("none", "'none' means something else in Python"),
        ("a", "'a' means something else in Python"),
        ("json", "'json' means something else in Python"),
        ("reference", "'references' means something else in SQL"),
        ("sequence", "'sequence' is a word that the service's own code needs"),
        ("decider", "'decider' is a word that the service's own code needs"),
        ("waiter", "'waiter' is a word that the service's own code needs"),
        ("board", "'board' is the name of a component"),
        ("order", "there is a service 'order' already"),
        ("product", "streams 'product-…' could not be told from 'product-…' of inventory"),
    ],
)
def test_a_name_that_can_not_be_is_refused(name: str, said: str) -> None:
    with pytest.raises(NewServiceError, match=said):
        new_service(REPOSITORY, name)
    assert {one.name for one in SERVICES} == {
        one.parent.name[:-8] for one in REPOSITORY.glob("*_service/service.toml")
    }


def test_a_service_that_nothing_would_reach_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NewServiceError, match="nothing would ever reach payment"):
        new_service(tmp_path, "payment", http=False)


def test_a_description_that_no_manifest_takes_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"payment_service/service.toml: (description|no valid TOML)"):
        new_service(tmp_path, "payment", description='Takes "money"')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (
            "baskets.events",
            "no service has a topic 'baskets.events'; there are: orders.events, inventory.events",
        ),
        (
            "orders.events:OrderLost",
            "orders.events has no event 'OrderLost'; there are: OrderCreated, OrderConfirmed",
        ),
    ],
)
def test_what_can_not_be_heard_is_refused_with_what_can(wish: str, said: str) -> None:
    with pytest.raises(NewServiceError, match=said):
        heard(REPOSITORY, wish, SERVICES)


def test_the_key_of_an_event_is_its_first_id() -> None:
    chosen = heard(REPOSITORY, "orders.events:OrderShipped", SERVICES)
    assert (chosen.event, chosen.key, chosen.constant, chosen.registry) == (
        "OrderShipped",
        "order_id",
        "ORDERS",
        "ORDER_EVENTS",
    )


def test_no_port_of_the_local_stack_is_given_away() -> None:
    services = {port for one in SERVICES for port in one.ports.model_dump().values()}
    assert set(PORTS.values()) - services == RESERVED_PORTS.keys()
