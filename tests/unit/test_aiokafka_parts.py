"""aiokafka's private parts are used in one module, which was read for the minor version that is installed.

After another minor version: tests/integration/test_relay_faults.py, test_durability.py,
test_consumer_faults.py, test_topic_ids.py and tests/unit/test_lenient_records.py show what holds.
"""

import ast
from importlib.metadata import version

import pytest

from infra.local.home import REPOSITORY
from infra.topology import SERVICES
from millrace.kafka import aiokafka_parts

PARTS = {
    "_client",
    "_closed",
    "_message_accumulator",
    "_sender",
    "_txn_manager",
    "_acks",
    "_coordinator",
    "_fetcher",
}
PACKAGES = [
    "millrace",
    "board",
    "schemas",
    "infra",
    "tests",
    "benchmarks",
    *(each.package for each in SERVICES),
]


def test_the_parts_were_checked_against_the_version_that_is_installed() -> None:
    installed = version("aiokafka")
    assert installed.rpartition(".")[0] == aiokafka_parts.CHECKED, (
        f"aiokafka {installed} is new: check millrace/kafka/aiokafka_parts.py and lenient_records.py"
        f" against it"
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_else_uses_them(package: str) -> None:
    files = [file for file in (REPOSITORY / package).rglob("*.py") if file.name != "aiokafka_parts.py"]
    found = [f"{file}:{line}" for file in files for line in private_parts(file.read_text())]
    assert found == []


def test_the_search_finds_them() -> None:
    assert private_parts("a = 1\nconsumer._client.close()\nself._client.close()\nself._consumer._client") == [
        2,
        4,
    ]


def private_parts(source: str) -> list[int]:
    """The lines on which an object's attribute of such a name is used that is not the object's own
    (`self`)."""
    return sorted(
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr in PARTS
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    )
