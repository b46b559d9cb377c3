"""The documentation keeps up with the code: its links lead somewhere, its commands exist."""

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from infra import cli as local
from millrace.scaffold import command as framework
from tests.docs import PAGES, ROOT, commands, links

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
MAKE_TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
MILLRACE_COMMANDS = {
    name for one in (local.app, framework.app) for name in getattr(get_command(one), "commands", {})
}


def pages() -> list[str]:
    return [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("page", pages())
def test_every_link_of_a_page_leads_to_a_file(page: str) -> None:
    path = ROOT / page
    broken = [target for target in links(path) if not (path.parent / target).exists()]

    assert not broken


@pytest.mark.parametrize("page", pages())
def test_every_command_of_a_page_exists(page: str) -> None:
    unknown = [words for words in commands(ROOT / page) if not exists(words)]

    assert not unknown


def exists(words: list[str]) -> bool:
    """Whether the first word of a command, and what it is told to do, is there."""
    while "=" in words[0]:  # settings in front of the command
        words = words[1:]
    program, arguments = words[0], words[1:]
    match program:
        case "make":
            return all(target in MAKE_TARGETS or "=" in target for target in arguments)
        case "millrace" | ".venv/bin/millrace":
            return not arguments or arguments[0] == "--help" or arguments[0] in MILLRACE_COMMANDS
        case "python" | ".venv/bin/python":
            return arguments[0] == "-m" and module_exists(arguments[1])
        case ".venv/bin/pytest":
            return all(
                Path(ROOT / argument).exists() for argument in arguments if argument.startswith("tests")
            )
        case "docker":
            return docker_command_exists(arguments)
        case "rm" | "git" | "sed" | ".venv/bin/uv":
            return True  # carried out in .ci/fifth_service.py, without_shop.py and wheel.py
        case "curl":
            return True  # carried out in tests/e2e/test_readme.py
    return False


def docker_command_exists(arguments: list[str]) -> bool:
    """Whether the services that `docker compose` is told of are in compose.yaml, and the files here."""
    if arguments[0] != "compose":
        return False
    subcommand, *words = arguments[1:]
    named = [word for word in words if not word.startswith("-")]
    match subcommand:
        case "exec" | "run":
            return named[0] in COMPOSE["services"]
        case "up" | "down" | "build" | "logs" | "restart" | "ps" | "config":
            return all(name in COMPOSE["services"] for name in named)
    return False


def module_exists(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__main__.py").exists()
