"""Faults in the middle of traffic, in containers."""

import pytest

pytest.register_assert_rewrite("tests.chaos.outcome", "tests.chaos.traffic")  # they say what they saw instead
