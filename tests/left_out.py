"""Tests that need a program of the machine: where it is missing they are left out, and one line at the end of
the run says so and what to install; with CI=true that is an error. Nothing is skipped silently.
"""

import os

import pytest

_said: pytest.StashKey[list[str]] = pytest.StashKey()


def leave_out(
    config: pytest.Config, items: list[pytest.Item], fixtures: set[str], what: str, reason: str
) -> None:
    """Takes out of `items` what uses one of `fixtures` and so needs `what`. `reason`: it is missing, and how
    to get it.

    Raises UsageError in CI.
    """
    concerned = [item for item in items if fixtures & set(getattr(item, "fixturenames", ()))]
    if not concerned:
        return
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        raise pytest.UsageError(f"CI runs everything, but there is {reason}")
    config.hook.pytest_deselected(items=concerned)
    items[:] = [item for item in items if item not in concerned]
    config.stash.setdefault(_said, []).append(
        f"{len(concerned)} tests that need {what} were left out ({reason})"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_said, []):
        terminalreporter.write_line(line, yellow=True)
