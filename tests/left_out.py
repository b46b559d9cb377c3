"""Tests that need a program of the machine: where it is missing they are left out, and one line at the end of
the run says so and what to install; with CI=true that is an error. Nothing is skipped silently.

With workers (`-n`), each of them finds the same, and the process that started them says it once.
"""

import os
from typing import Any

import pytest
from xdist import is_xdist_worker
from xdist.workermanage import WorkerController

_said: pytest.StashKey[list[str]] = pytest.StashKey()
_refused: pytest.StashKey[str] = pytest.StashKey()


def leave_out(
    config: pytest.Config, items: list[pytest.Item], fixtures: set[str], what: str, reason: str
) -> None:
    """Takes out of `items` what uses one of `fixtures` and so needs `what`. `reason`: it is missing, and how
    to get it.

    In CI it refuses to run any.
    """
    concerned = [item for item in items if fixtures & set(getattr(item, "fixturenames", ()))]
    if not concerned:
        return
    if in_ci():
        refuse(config, items, f"CI runs everything, but there is {reason}")
        return
    config.hook.pytest_deselected(items=concerned)
    items[:] = [item for item in items if item not in concerned]
    say(config, f"{len(concerned)} tests that need {what} were left out ({reason})")


def in_ci() -> bool:
    """Whether to leave anything out is an error."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def refuse(config: pytest.Config, items: list[pytest.Item], reason: str) -> None:
    """Ends the run before any test, with the reason. Raises UsageError, unless a worker leaves that to the
    process that started it."""
    if not hasattr(config, "workerinput"):
        raise pytest.UsageError(reason)
    items.clear()
    config.stash.setdefault(_refused, reason)


def say(config: pytest.Config, line: str) -> None:
    """Has the line at the end of the run, once."""
    said = config.stash.setdefault(_said, [])
    if line not in said:
        said.append(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if is_xdist_worker(session):
        output: dict[str, Any] = session.config.workeroutput  # type: ignore[attr-defined]
        output["said"] = session.config.stash.get(_said, [])
        output["refused"] = session.config.stash.get(_refused, None)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    output = getattr(node, "workeroutput", {})
    if output.get("refused"):
        raise pytest.UsageError(output["refused"])
    for line in output.get("said", []):
        say(node.config, line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_said, []):
        terminalreporter.write_line(line, yellow=True)
