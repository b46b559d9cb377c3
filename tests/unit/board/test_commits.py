"""Committed offsets, decoded from a broker's bytes: the same as the client library reads, and only when they
moved."""

import pytest
from aiokafka.errors import CoordinatorNotAvailableError
from aiokafka.protocol.commit import OffsetFetchResponse_v3

from board.commits import Commits, Decoder, by_topic, decoded

TOPICS = [
    ("orders.events", [(0, 17, "", 0), (2, 2**40, "somebody's note, with an ö", 0), (1, 5, None, 0)]),
    (
        "users.events",
        [(0, -1, "", 0), (1, 8, "", 3), (2, 0, "", 0)],
    ),  # never committed; an error; 0 is an offset
    ("nobody.events", [(0, -1, "", 0)]),
]
COMMITTED = {"orders.events": {0: 17, 1: 5, 2: 2**40}, "users.events": {2: 0}}


def answer(topics: object = TOPICS, error: int = 0) -> bytes:
    encoded: bytes = OffsetFetchResponse_v3(1234, topics, error).encode()
    return encoded


def test_offsets_are_read_as_the_client_library_writes_them() -> None:
    commits = decoded(answer())

    assert commits.topics == COMMITTED
    assert commits["orders.events", 2] == 2**40
    assert dict(commits) == {
        (topic, n): at for topic, places in COMMITTED.items() for n, at in places.items()
    }
    assert len(commits) == 4


def test_a_group_without_commits_has_none() -> None:
    assert dict(decoded(answer([]))) == {}


def test_a_group_that_its_broker_can_not_tell_is_an_error_and_not_one_without_commits() -> None:
    with pytest.raises(CoordinatorNotAvailableError):
        decoded(answer([], error=15))


def test_what_did_not_move_is_the_same_object() -> None:
    decoder = Decoder()
    first = decoder.commits("a", answer())

    assert decoder.commits("a", answer()) is first
    assert decoder.commits("b", answer()) is not first
    moved = decoder.commits("a", answer([("orders.events", [(0, 18, "", 0)])]))
    assert dict(moved) == {("orders.events", 0): 18}
    decoder.keep({"b": None})
    assert decoder.commits("a", answer()) is not first


def test_commits_by_topic_are_the_same_of_any_mapping() -> None:
    assert by_topic(dict(decoded(answer()))) == by_topic(Commits(COMMITTED)) == COMMITTED
