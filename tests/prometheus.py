"""Prometheus for the tests of what is told to it: the system's `prometheus` and `promtool` (Debian's package
has both).

Where they are missing, these tests are left out and one line at the end of the run says so; with CI=true that
is an error.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.left_out import leave_out

SETTING = "MILLRACE_TEST_PROMETHEUS"

Promtool = Callable[..., subprocess.CompletedProcess[str]]


def program(name: str) -> str | None:
    """The path of `prometheus` or `promtool`: in the folder that MILLRACE_TEST_PROMETHEUS names, else the
    system's."""
    folder = os.environ.get(SETTING)
    return shutil.which(name, path=folder) if folder else shutil.which(name)


@pytest.fixture
def promtool() -> Promtool:
    """Runs it: `promtool("check", "rules", path)`. What it says is in `stdout` and `stderr`."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(program("promtool")), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def prometheus() -> str:
    """The path of the server."""
    return str(program("prometheus"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not (program("prometheus") and program("promtool")):
        reason = (
            f"no Prometheus: install the package prometheus, or name the folder of its programs in {SETTING}"
        )
        leave_out(config, items, {"prometheus", "promtool"}, "Prometheus", reason)
