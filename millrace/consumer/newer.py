"""Members of one group whose programs are of different ages: which of them knows the newer events.

During a rolling deployment an old member can't get past an event of its own store that a new process wrote,
and would park one of a topic. While a newer member is in the group, the old one stays out of it, and the
newer one gets its partitions. Each member says how much its program knows in the metadata that it joins with;
the coordinator gives them to everybody who asks. Nothing is guessed by waiting: members of the same age never
leave to each other.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.errors import for_code

from millrace.consumer.policy import ReadingPolicy
from millrace.domain.errors import MillraceError
from millrace.domain.events import EventRegistry, NewerEventVersion
from millrace.kafka.incoming import Incoming

_ANSWER_MS = 5_000
_PREFIX = b"millrace-knows:"
_STABLE = "Stable"


class Outdated(MillraceError):
    """This member met an event that its program can't read, and a member that knows more is in the group."""


def knowledge(registries: Iterable[EventRegistry | None]) -> int:
    """How much a program knows: the number of event versions in its registries. Published versions are
    append-only, so a newer program never knows fewer."""
    return sum(
        cls.schema_version for registry in registries if registry is not None for cls in registry.classes
    )


def newer_version(batch: Iterable[Incoming], policy: ReadingPolicy) -> str | None:
    """What is wrong with the first record that the handler should get and that only a newer program reads;
    None: there is no such record."""
    for item in batch:
        if item.event is not None and isinstance(problem := policy.problem(item.event), NewerEventVersion):
            return str(problem)
    return None


def assignor(knows: int) -> type[RoundRobinPartitionAssignor]:
    """aiokafka's default, whose members also say what they know. Its name on the wire stays: it works beside
    members that say nothing."""

    class Assignor(RoundRobinPartitionAssignor):  # type: ignore[misc]
        @classmethod
        def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
            return ConsumerProtocolMemberMetadata(cls.version, list(topics), _PREFIX + b"%d" % knows)

    return Assignor


async def has_newer_member(bootstrap_servers: str, group: str, knows: int) -> bool | None:
    """Whether a member of the group knows more than this. None: the group is distributing its partitions, and
    its coordinator does not say what its members know. Raises KafkaError."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=_ANSWER_MS)
    try:
        await admin.start()
        (answer,) = await admin.describe_consumer_groups([group])
    finally:
        await admin.close()
    ((code, _, state, _, _, members, *_),) = answer.groups
    if code:
        raise for_code(code)(f"group {group}")
    if members and state != _STABLE:
        return None
    return any(_knows(member) > knows for member in members)


def _knows(member: Sequence[Any]) -> int:
    """What a member says; 0 when it says nothing."""
    with suppress(ValueError):  # another client's metadata
        said: bytes = ConsumerProtocolMemberMetadata.decode(member[3]).user_data or b""
        if said.startswith(_PREFIX):
            return int(said.removeprefix(_PREFIX))
    return 0
