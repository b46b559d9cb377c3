"""`millrace lost`: the services' own commands, passed on. And every service says what can be done."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pytest
from typer.testing import CliRunner

from infra import lost_cli
from infra.cli import app
from infra.local.process import ProgramCommand
from infra.topology import SERVICES
from millrace.operations.definition import ServiceDefinition
from millrace.operations.lost.listing import remedy
from tests.unit.test_parked_command import FakeStack


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The services' own commands that were run on the terminal; they end with code 1."""
    ran: list[Sequence[str]] = []

    def run(command: ProgramCommand) -> int:
        ran.append([str(word) for word in command.argv])
        return 1

    monkeypatch.setattr(lost_cli, "Stack", FakeStack)
    monkeypatch.setattr(lost_cli, "run_attached", run)
    return ran


def lost(*arguments: str) -> int:
    ran: Any = CliRunner().invoke(app, ["lost", *arguments], catch_exceptions=False)
    code: int = ran.exit_code
    return code


def test_a_list_is_the_services_own_command_with_its_exit_code(attached: list[Sequence[str]]) -> None:
    assert lost("list", "inventory", "--json") == 1
    assert attached == [["lost", "list", "--json"]]


def test_a_release_is_passed_on_word_for_word(attached: list[Sequence[str]]) -> None:
    why = ["--by", "ada", "--reason", "the disk, ticket 7"]
    lost("release", "inventory", "order-1", "order-2", *why, "--dry-run")
    lost("release", "inventory", "--all", *why)

    assert attached == [
        ["lost", "release", *why, "--dry-run", "--", "order-1", "order-2"],
        ["lost", "release", *why, "--all"],
    ]


@pytest.mark.parametrize("missing", ["--by", "--reason"])
def test_a_release_needs_a_name_and_a_reason(attached: list[Sequence[str]], missing: str) -> None:
    given = {"--by": "ada", "--reason": "why"}
    del given[missing]

    assert lost("release", "inventory", "--all", *(word for pair in given.items() for word in pair)) == 2
    assert attached == []


DEFINITIONS: list[ServiceDefinition] = [
    import_module(f"{service.package}.app").service.definition for service in SERVICES
]


def test_every_consumer_has_a_remedy() -> None:
    said = {
        consumer: remedy(definition, consumer)
        for definition in DEFINITIONS
        for consumer in definition.consumers
    }

    assert said.pop("inventory-service.stock").endswith(
        "millrace lost release inventory --all --by YOU --reason WHY --dry-run"
    )
    assert said.pop("order-service.catalogue_v1").endswith("millrace replay rebuild order catalogue")
    assert {"order-service.saga", "notification-service.requests"} <= said.keys()
    assert all(text.startswith("this can't be taken back; millrace lost list ") for text in said.values())


def test_what_a_service_releases_follows_from_reactions_of_its_own() -> None:
    for definition in DEFINITIONS:
        if definition.releases is not None:
            assert definition.releases.consumer in definition.reactions
