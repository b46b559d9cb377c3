"""Canaries: a stream for each partition, and a type that every program can read and nobody publishes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.canary.streams import canary_streams
from millrace.domain.events import CanarySent, EventRegistry
from millrace.kafka.partitioning import partition_of
from order_service.app import service as order
from schemas.registries import REGISTRIES
from schemas.topics import TOPICS


@given(st.from_regex(r"[a-z.]{1,30}", fullmatch=True), st.integers(min_value=1, max_value=60))
def test_each_partition_has_a_stream_of_its_own(topic: str, partitions: int) -> None:
    streams = canary_streams(topic, partitions)

    assert [partition_of(stream.encode(), partitions) for stream in streams] == list(range(partitions))


def test_no_two_topics_share_a_stream() -> None:
    streams = [stream for topic in TOPICS for stream in canary_streams(topic.name, topic.partitions)]

    assert len(set(streams)) == len(streams) == sum(topic.partitions for topic in TOPICS)


def test_a_canary_belongs_to_no_kind_of_stream() -> None:
    """So no decider folds it, and no command finds it."""
    prefixes = tuple(kind.prefix for kind in order.definition.streams)
    assert not any(stream.startswith(prefixes) for stream in canary_streams(order.definition.topic.name, 12))


@pytest.mark.parametrize("registry", REGISTRIES)
def test_every_registry_can_read_a_canary_and_none_publishes_it(registry: EventRegistry) -> None:
    assert registry.decode("CanarySent", 1, CanarySent().to_json()) == CanarySent()
    assert CanarySent not in registry.classes


def test_no_read_model_and_no_reaction_handles_canaries() -> None:
    handled = [
        *(model.handles for model in order.definition.read_models),
        *(each.to.handles for each in order.definition.reactions.values()),
    ]
    assert not any(CanarySent.event_type in types for types in handled)
