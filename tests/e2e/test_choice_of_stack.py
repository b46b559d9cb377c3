"""Where no Docker engine answers: what is left out is said, and CI refuses to leave anything out."""

import os
import subprocess
import sys

import pytest

from tests.docs import ROOT

NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}


def collected(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What pytest would run."""
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "tests/e2e", "tests/chaos", "--collect-only", "-q", *options],
        cwd=ROOT,
        env=inherited | NO_ENGINE | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_an_engine_the_scenarios_run_on_the_local_stack_and_one_line_says_what_is_left_out() -> None:
    outcome = collected()

    assert outcome.returncode == 0, outcome.stdout
    assert "test_an_order_is_confirmed_and_its_customer_is_told[local]" in outcome.stdout
    assert "[containers" not in outcome.stdout
    assert "test_kafka_container" not in outcome.stdout
    told = [
        line for line in outcome.stdout.splitlines() if "tests that need containers were left out" in line
    ]
    assert len(told) == 1
    assert "no Docker engine answers" in told[0]


@pytest.mark.parametrize("yes", ["true", "1"])
def test_in_ci_a_missing_engine_is_an_error(yes: str) -> None:
    outcome = collected(CI=yes)

    assert outcome.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no Docker engine answers" in outcome.stderr


def test_in_ci_the_local_stack_can_be_chosen() -> None:
    outcome = collected("--stack=local", CI="true")

    assert outcome.returncode == 0, outcome.stdout
    assert "--stack local" in outcome.stdout
