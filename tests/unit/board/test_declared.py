"""What the manifests say of the services is what the services declare: the board expects it, `make generate`
builds on it."""

from importlib import import_module

import pytest

from board.declared import platform
from infra import topology
from infra.topology import SERVICES
from millrace.manifest import Manifest
from millrace.operations.definition import ServiceDefinition
from schemas import topics

each_service = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)


def definition(service: Manifest) -> ServiceDefinition:
    found: ServiceDefinition = import_module(f"{service.package}.app").service.definition
    return found


@each_service
def test_its_name_its_topic_and_its_streams(service: Manifest) -> None:
    declared = definition(service)

    assert (service.service, service.topic) == (declared.name, declared.topic.name)
    assert platform().topics[service.name] == declared.topic.name
    assert list(service.streams) == [kind.prefix for kind in declared.streams]


@each_service
def test_its_read_models(service: Manifest) -> None:
    declared = {(one.name, one.topics) for one in platform().projections
                if one.service == service.name and one.kind == "read model"}  # fmt: skip

    assert declared == {
        (feed.model.name, tuple(topic.name for topic in feed.topics)) for feed in definition(service).feeds
    }


@each_service
def test_its_reactions(service: Manifest) -> None:
    declared = {(one.group, one.topics) for one in platform().projections
                if one.service == service.name and one.kind == "reaction"}  # fmt: skip

    assert declared == {
        (consumer, tuple(topic.name for topic in subscription.sources))
        for consumer, subscription in definition(service).reactions.items()
    }


def test_the_topology_has_the_topics_of_the_programs() -> None:
    assert topology.TOPICS == topics.TOPICS
