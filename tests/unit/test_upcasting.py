"""A registry whose versions and upcasters don't fit together is refused when it is built, with what to do."""

from collections.abc import Sequence

import pytest

from millrace.domain.events import DomainEvent, EventRegistry
from millrace.domain.upcasting import BrokenChain, Upcaster


class Moved(DomainEvent, version=4):
    steps: int


class Zeroth(DomainEvent, version=0):
    pass


def lifted(*versions: int, event_type: str = "Moved") -> list[Upcaster]:
    return [Upcaster(event_type, version, dict) for version in versions]


def test_a_way_up_from_every_version_is_accepted() -> None:
    EventRegistry([Moved], upcasters=lifted(3, 1, 2))


@pytest.mark.parametrize(
    ("upcasters", "told"),
    [
        ([], r'Moved version 1 has no upcaster.*add Upcaster\("Moved", 1, \.\.\.\)'),
        (lifted(1, 3), "Moved version 2 has no upcaster"),
        (lifted(1, 2), "Moved version 3 has no upcaster"),
        (lifted(1, 2, 2, 3), "upcaster of Moved from version 2 is declared twice"),
        (lifted(1, 2, 3, 4), "from version 4 leads beyond the class, which is version 4: raise .* to 5"),
        (lifted(0, 1, 2, 3), "from version 0: versions start at 1"),
        ([*lifted(1, 2, 3), *lifted(1, event_type="Stopped")], "Stopped .* has no class here"),
    ],
    ids=["none", "a gap", "no last step", "twice", "beyond", "before the first", "no class"],
)
def test_a_broken_chain_is_refused(upcasters: Sequence[Upcaster], told: str) -> None:
    with pytest.raises(BrokenChain, match=told):
        EventRegistry([Moved], upcasters=upcasters)


def test_a_type_has_one_class() -> None:
    with pytest.raises(TypeError, match="Moved is registered twice"):
        EventRegistry([Moved, Moved], upcasters=lifted(1, 2, 3))


def test_versions_start_at_one() -> None:
    with pytest.raises(TypeError, match="Zeroth version 0: versions start at 1"):
        EventRegistry([Zeroth])
