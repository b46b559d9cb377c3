"""Which answers of another service are waited out, and which say something about the event."""

import grpc
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from millrace.consumer.faults import is_passing
from millrace.domain.events import NewerEventVersion


def answered(code: grpc.StatusCode) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata())


@pytest.mark.parametrize("code", [StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED])
def test_a_service_that_is_away_or_stopping_parks_nothing(code: grpc.StatusCode) -> None:
    assert is_passing(answered(code))


@pytest.mark.parametrize("code", [StatusCode.NOT_FOUND, StatusCode.INVALID_ARGUMENT, StatusCode.INTERNAL])
def test_an_answer_that_will_be_the_same_next_time_is_not_waited_out(code: grpc.StatusCode) -> None:
    assert not is_passing(answered(code))


def test_an_event_of_the_own_store_that_a_newer_process_wrote_is_waited_out() -> None:
    assert is_passing(NewerEventVersion("OrderCreated version 3"))
