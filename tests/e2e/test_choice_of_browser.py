"""Where no browser is installed: what is left out is said, and CI refuses to leave anything out."""

import os
import subprocess
import sys

import pytest

from tests.docs import ROOT


def collected(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What pytest would run without a browser."""
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "tests/e2e/test_board_page.py",
            "tests/unit/test_docs.py",
            "-q",
            *(options or ["--collect-only"]),
        ],
        cwd=ROOT,
        env=inherited | {"MILLRACE_TEST_BROWSER": "/nowhere/chromium"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_a_browser_the_other_tests_run_and_one_line_says_what_is_left_out() -> None:
    outcome = collected()

    assert outcome.returncode == 0, outcome.stdout
    assert "test_board_page" not in outcome.stdout
    assert outcome.stdout.count("tests that need a browser were left out") == 1


def test_in_ci_a_missing_browser_is_an_error() -> None:
    outcome = collected(CI="true")

    assert outcome.returncode == pytest.ExitCode.USAGE_ERROR
    assert "install the package chromium" in outcome.stderr


def test_workers_leave_out_the_same_and_it_is_said_once() -> None:
    outcome = collected("-n2")

    assert outcome.returncode == 0, outcome.stdout
    assert outcome.stdout.count("tests that need a browser were left out") == 1


def test_in_ci_workers_refuse_too() -> None:
    outcome = collected("-n2", CI="true")

    assert outcome.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no tests ran" in outcome.stdout
    assert outcome.stderr.count("install the package chromium") == 1
