"""Tests beside one another (`pytest -n 3`): each worker has its own Kafka and Postgres, and runs whole files.

Most tests wait more than they compute, so three workers on two cores take half the time of one.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# These start whole stacks of their own: one after the other, or they take each other's time.
OWN_STACKS = (
    "tests/chaos/test_restored_stores.py",
    "tests/chaos/test_rolling_deploy.py",
    "tests/chaos/test_partition_count.py",
)
# These share one running platform and its images, and break it in an order that works.
OF_THE_PLATFORM = ("tests/e2e/", "tests/chaos/")


def scope_of(nodeid: str) -> str:
    """What one worker runs from beginning to end: what shares the platform, what starts stacks, else a
    file."""
    if nodeid.startswith(OWN_STACKS):
        return "own stacks"
    return "the platform" if nodeid.startswith(OF_THE_PLATFORM) else nodeid.partition("::")[0]


class ByScope(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out scopes in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByScope:
    config.option.loadscopereorder = False
    return ByScope(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With workers, what takes longest begins first."""
    if hasattr(config, "workerinput"):
        longest = ("the platform", "own stacks")
        items.sort(key=lambda item: scope_of(item.nodeid) not in longest)
