"""Upcasters: pure functions that lift the data of an old event version to the next one. See
docs/event-evolution.md.

    def with_channel(data: Json) -> Json:
        return {**data, "channel": "unknown"}

    EventRegistry([OrderCreated], upcasters=[Upcaster("OrderCreated", 1, with_channel)])

They run when an event is read, from the store or from a topic, and are chained: version 1 goes through the
upcasters from 1 and from 2 to become version 3. What is stored and sent stays as it was written.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from millrace.domain.errors import MillraceError

Json = dict[str, Any]
"""The decoded data of an event."""


@dataclass(frozen=True, slots=True)
class Upcaster:
    """Lifts `event_type` from `from_version` to the version above.

    `lift` gets the decoded JSON and returns what JSON can hold. It uses nothing but its argument (no clock,
    no query): the same event must become the same one each time that it is read.
    """

    event_type: str
    from_version: int
    lift: Callable[[Json], Json]


class BrokenChain(MillraceError, TypeError):
    """The declared versions and upcasters don't fit together: a version can't be read, or is declared
    twice."""


def chains(newest: Mapping[str, int], upcasters: Iterable[Upcaster]) -> dict[tuple[str, int], list[Upcaster]]:
    """(type, old version) -> the upcasters to the newest version, in order.

    `newest` is the newest version of each type. Raises BrokenChain unless every version from 1 to the newest
    has a way up: stored events of it exist forever.
    """
    steps: dict[tuple[str, int], Upcaster] = {}
    for upcaster in upcasters:
        _check(upcaster, newest, steps)
        steps[upcaster.event_type, upcaster.from_version] = upcaster
    for event_type, version in newest.items():
        for old in range(1, version):
            if (event_type, old) not in steps:
                raise BrokenChain(
                    f"{event_type} version {old} has no upcaster, so that stored events of it can't be read"
                    f" as version"
                    f' {version}: add Upcaster("{event_type}", {old}, ...)'
                )
    return {
        (event_type, old): [steps[event_type, step] for step in range(old, newest[event_type])]
        for event_type, old in steps
    }


def _check(upcaster: Upcaster, newest: Mapping[str, int], steps: Mapping[tuple[str, int], Upcaster]) -> None:
    event_type, version = upcaster.event_type, upcaster.from_version
    name = f"the upcaster of {event_type} from version {version}"
    if event_type not in newest:
        raise BrokenChain(f"{name} is for an event that has no class here")
    if version < 1:
        raise BrokenChain(f"{name}: versions start at 1")
    if version >= newest[event_type]:
        raise BrokenChain(
            f"{name} leads beyond the class, which is version {newest[event_type]}: raise the version of"
            f" the class"
            f" to {version + 1}, or take the upcaster away"
        )
    if (event_type, version) in steps:
        raise BrokenChain(f"{name} is declared twice")
