"""Where Prometheus is not installed: what is left out is said, and CI refuses to leave anything out."""

import os
import subprocess
import sys

import pytest

from tests.docs import ROOT


def collected(**environment: str) -> subprocess.CompletedProcess[str]:
    """What pytest would run without Prometheus."""
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "tests/unit/test_alerts.py", "--collect-only", "-q"],
        cwd=ROOT,
        env=inherited | {"MILLRACE_TEST_PROMETHEUS": "/nowhere"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_prometheus_the_other_tests_run_and_one_line_says_what_is_left_out() -> None:
    outcome = collected()

    assert outcome.returncode == 0, outcome.stdout
    assert "test_the_rules_are_rules" not in outcome.stdout
    assert "test_each_state_has_an_alert_or_a_reason_why_not" in outcome.stdout
    assert outcome.stdout.count("tests that need Prometheus were left out") == 1


def test_in_ci_a_missing_prometheus_is_an_error() -> None:
    outcome = collected(CI="true")

    assert outcome.returncode == pytest.ExitCode.USAGE_ERROR
    assert "install the package prometheus" in outcome.stderr
