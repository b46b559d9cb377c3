"""Tests beside one another (`pytest -n 3`): each worker has its own Kafka and Postgres, and runs whole files.

Most tests wait more than they compute, so three workers on two cores take half the time of one.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Their files share one running platform and its images, and break it in an order that works.
OF_THE_PLATFORM = ("tests/e2e/", "tests/chaos/")


def scope_of(nodeid: str) -> str:
    """What one worker runs from beginning to end: all tests of the platform, else those of one file."""
    return "the platform" if nodeid.startswith(OF_THE_PLATFORM) else nodeid.partition("::")[0]


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out scopes, the one with most tests first."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    return ByFile(config, log)
