"""Faults in the middle of traffic."""

import pytest

pytest.register_assert_rewrite(
    "tests.chaos.board_kit",
    "tests.chaos.deployment_kit",
    "tests.chaos.outcome",
    "tests.chaos.restore_kit",
    "tests.chaos.trade",
    "tests.chaos.traffic",
)  # they say what they saw instead
