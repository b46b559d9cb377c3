"""How much a member of a group says that its program knows, and what is understood of what others say."""

import pytest
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from pydantic import create_model

from millrace.consumer.newer import _knows, assignor, knowledge
from millrace.domain.events import DomainEvent, EventRegistry
from millrace.domain.upcasting import Upcaster


class Moved(DomainEvent):
    """Version 1."""


class Stopped(DomainEvent):
    """Another type."""


MOVED_2 = create_model("Moved", __base__=DomainEvent, __cls_kwargs__={"version": 2})
OLD = EventRegistry([Moved])
NEW_VERSION = EventRegistry([MOVED_2], upcasters=[Upcaster("Moved", 1, dict)])
NEW_TYPE = EventRegistry([Moved, Stopped])


@pytest.mark.parametrize("newer", [NEW_VERSION, NEW_TYPE])
def test_a_program_with_a_new_version_or_type_knows_more(newer: EventRegistry) -> None:
    assert knowledge([newer]) > knowledge([OLD]) > knowledge([None])
    assert knowledge([OLD, newer]) > knowledge([OLD, OLD]), "of its topic, or of its store"


def test_members_read_what_each_other_knows_in_the_metadata_that_they_join_with() -> None:
    joined = assignor(17).metadata(["orders.events"])
    assert joined.subscription == ["orders.events"]
    assert _knows(("id", "client", "host", joined.encode(), b"")) == 17
    assert assignor(17).name == RoundRobinPartitionAssignor.name, (
        "members of the release before would be shut out"
    )


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"\0\1garbage",
        RoundRobinPartitionAssignor.metadata(["orders.events"]).encode(),  # of the release before
        ConsumerProtocolMemberMetadata(0, ["orders.events"], None).encode(),
        ConsumerProtocolMemberMetadata(0, ["orders.events"], b"millrace-knows:much").encode(),
        ConsumerProtocolMemberMetadata(3, ["orders.events"], b"another's").encode(),
    ],
)
def test_a_member_that_says_nothing_is_not_newer(metadata: bytes) -> None:
    assert _knows(("id", "client", "host", metadata, b"")) == 0
