"""The compose project of the container tests, before anything of it runs: its files and settings."""

import asyncio
from typing import Any

import pytest
import yaml

from infra.compose.project import Project, settings
from infra.compose.stack import ContainerStack
from infra.local.errors import StackError
from infra.local.home import REPOSITORY
from infra.topology import PORTS, SERVICES, Topology
from millrace.manifest import Manifest


class Tagged(yaml.SafeLoader):
    """Reads `!override [...]` and `!reset [...]` as what stands behind them."""

    def list_behind(self, node: yaml.SequenceNode) -> list[Any]:
        return self.construct_sequence(node)


for tag in ("!override", "!reset"):
    Tagged.add_constructor(tag, Tagged.list_behind)

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]
CHANGES: dict[str, Any] = yaml.load((REPOSITORY / "infra/compose/tests.yaml").read_text(), Tagged)
SERVERS = ("kafka", *(service.postgres for service in SERVICES))

each_service = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)


def networks(name: str) -> set[str]:
    """The networks of a container in tests."""
    changed = set(CHANGES["services"].get(name, {}).get("networks", []))
    return changed if name in ("kafka", "topics") else changed | set(COMPOSE[name]["networks"])


def test_tests_change_networks_and_ports_and_nothing_that_confines_a_container() -> None:
    allowed = {"restart", "networks", "ports", "build"}
    exceptions = {
        "mailbox": {"read_only", "tmpfs", "environment"}
    }  # it keeps its e-mails while it is stopped

    for name, changes in CHANGES["services"].items():
        assert changes.keys() <= allowed | exceptions.get(name, set()), name


@pytest.mark.parametrize("name", ["mailbox", *SERVERS, *(service.name for service in SERVICES)])
def test_a_container_that_ends_by_itself_stays_down(name: str) -> None:
    assert CHANGES["services"][name]["restart"] == "no"


@each_service
def test_one_internal_network_links_a_service_to_kafka_and_one_to_its_postgres(service: Manifest) -> None:
    internal = {"events", f"{service.name}-data"}

    assert networks(service.name) & networks("kafka") == {"events"}
    assert networks(service.name) & networks(service.postgres) == {f"{service.name}-data"}
    assert networks(service.name) - internal == {"platform"}
    assert CHANGES["networks"]["events"] == {"internal": True}


def test_a_port_of_a_server_is_published_by_a_network_that_no_service_is_in() -> None:
    for name in SERVERS:
        assert "outside" in networks(name)
    for service in SERVICES:
        assert "outside" not in networks(service.name)


def test_a_project_has_the_ports_of_its_topology_and_no_canaries() -> None:
    topology = Topology({name: port + 1000 for name, port in PORTS.items()})

    given = settings(topology)

    assert given["MILLRACE_ORDER_POSTGRES_PORT"] == str(PORTS["ORDER_POSTGRES"] + 1000)
    assert given["MILLRACE_MAILBOX_PORT"] == str(PORTS["MAILBOX"] + 1000)
    assert [given[f"{service.prefix}CANARY_INTERVAL"] for service in SERVICES] == ["0"] * len(SERVICES)


def test_no_two_projects_have_the_same_name() -> None:
    assert Project(Topology(PORTS)).name != Project(Topology(PORTS)).name


def test_without_an_engine_the_stack_can_be_described_and_says_so_only_when_it_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fresh machine has none; what needs one is left out there, and everything else runs."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")

    stack = ContainerStack(Project(Topology(PORTS)))

    assert stack.url("order") == f"http://127.0.0.1:{PORTS['ORDER_HTTP']}"
    assert stack.url("kafka") == f"127.0.0.1:{PORTS['KAFKA']}"
    with pytest.raises(StackError, match=r"^Docker: "):
        asyncio.run(stack.up())
    asyncio.run(stack.down())


def test_a_component_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(
        StackError, match=r"no component 'payments'; there are: kafka, mailbox, postgres-order"
    ):
        ContainerStack(Project(Topology(PORTS))).url("payments")
