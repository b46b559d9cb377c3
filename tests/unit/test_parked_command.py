"""`millrace parked`: what the services say in one table. And every service's consumers are known to its
commands."""

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra import parked_cli
from infra.cli import app
from infra.local.process import ProgramCommand
from infra.local.programs import Ran
from infra.topology import SERVICES
from millrace.operations.definition import ServiceDefinition
from millrace.postgres.database import open_pool
from millrace.process.settings import ServiceSettings
from millrace.store import EventStore

PARKED = {
    "service": "order",
    "consumer": "order-service.saga",
    "stream": "reservation-1",
    "events": 3,
    "parked_at": "2024-11-23T05:00:00+00:00",
    "age": 4000.0,
    "event_type": "StockReserved",
    "version": 2,
    "position": 1234,
    "topic": "inventory.events",
    "partition": 3,
    "offset": 17,
    "error_class": "CommandRefused",
    "error": "there is no such order",
    "attempts": 3,
    "note": "",
}


class FakeStack:
    """Services that answer `parked list --json` like this, and whose other commands are noted."""

    answers: dict[str, Ran]

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    async def tool(self, service: str, *arguments: str) -> Ran:
        assert arguments == ("parked", "list", "--json")
        return self.answers[service]

    def service(self, name: str) -> "FakeStack":
        return self

    def tool_command(self, *arguments: str) -> ProgramCommand:
        return ProgramCommand(arguments, env={}, cwd=Path.cwd())


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Ran]:
    """What each service says; nothing is parked anywhere at first."""
    FakeStack.answers = {service.name: Ran(0, "[]", "") for service in SERVICES}
    monkeypatch.setattr(parked_cli, "Stack", FakeStack)
    return FakeStack.answers


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The services' own commands that were run on the terminal; they end with code 1."""
    ran: list[Sequence[str]] = []

    def run(command: ProgramCommand) -> int:
        ran.append([str(word) for word in command.argv])
        return 1

    monkeypatch.setattr(parked_cli, "Stack", FakeStack)
    monkeypatch.setattr(parked_cli, "run_attached", run)
    return ran


def parked(*arguments: str) -> tuple[int, str]:
    ran = CliRunner().invoke(app, ["parked", *arguments], catch_exceptions=False)
    return ran.exit_code, ran.stdout


def test_where_nothing_is_parked_the_platform_says_so(answers: dict[str, Ran]) -> None:
    code, out = parked("list")

    assert (code, out) == (0, "Nothing is parked.\n")


def test_what_is_parked_anywhere_is_in_one_table(answers: dict[str, Ran]) -> None:
    answers["order"] = Ran(0, json.dumps([PARKED]), "")
    answers["inventory"] = Ran(0, json.dumps([PARKED | {"service": "inventory", "version": None}]), "")

    code, out = parked("list")

    assert code == 0
    words = out.split()
    assert words.count("reservation-1") == 2
    for word in (
        "order",
        "3",
        "1",
        "h",
        "StockReserved",
        "(2)",
        "1,234",
        "3×",
        "CommandRefused:",
        "unreadable",
    ):
        assert word in words


def test_a_service_that_cannot_answer_is_named_and_the_others_are_shown(answers: dict[str, Ran]) -> None:
    answers["order"] = Ran(0, json.dumps([PARKED]), "")
    answers["user"] = Ran(1, "", "user-service: Postgres: connection refused\n")

    code, out = parked("list", "--json")

    assert code == 1
    assert json.loads(out) == [PARKED, {"service": "user", "problem": "Postgres: connection refused"}]
    assert "Postgres: connection refused" in parked("list")[1]


def test_a_redrive_is_the_services_own_command_with_its_exit_code(attached: list[Sequence[str]]) -> None:
    code, _ = parked("redrive", "order", "reservation-1", "--consumer", "order-service.saga", "--dry-run")
    parked("redrive", "order", "--all", "--json")

    assert code == 1
    assert attached == [
        ["parked", "redrive", "--consumer", "order-service.saga", "--dry-run", "--", "reservation-1"],
        ["parked", "redrive", "--all", "--json"],
    ]


def test_a_discard_is_passed_on_word_for_word(attached: list[Sequence[str]]) -> None:
    whose = ["--consumer", "order-service.saga", "--reason", "a test record, see ticket 7"]
    parked("discard", "order", "reservation-1", *whose, "--version", "0", "--by", "ada")

    assert attached == [["parked", "discard", *whose, "--by", "ada", "--version", "0", "--", "reservation-1"]]


@pytest.mark.parametrize("missing", ["--consumer", "--reason"])
def test_a_discard_needs_a_consumer_and_a_reason(attached: list[Sequence[str]], missing: str) -> None:
    given = {"--consumer": "order-service.saga", "--reason": "why"}
    del given[missing]

    code, _ = parked("discard", "order", "reservation-1", *(word for pair in given.items() for word in pair))

    assert code == 2
    assert attached == []


@pytest.mark.parametrize("package", [service.package for service in SERVICES])
async def test_the_commands_know_each_consumer_of_a_service(package: str) -> None:
    """Otherwise its parked streams could be listed, and never redriven."""
    definition: ServiceDefinition = import_module(f"{package}.app").service.definition
    pool = open_pool("postgresql://nowhere", name="test", max_size=1)  # not opened

    made = definition.build_consumers(
        pool,
        EventStore(pool, definition.registry),
        ServiceSettings(database_url="postgresql://nobody:secret@nowhere/it"),
    )

    assert {one.name: set(one.topics) for one in made} == {
        name: {topic.name for topic in topics} for name, topics in definition.consumers.items()
    }
