"""Who may call which gRPC method: every method there is, with every certificate that somebody could have."""

from collections.abc import Callable
from datetime import timedelta

import grpc
import pytest
from structlog.testing import capture_logs

from infra.testing import DatabaseUrls
from infra.topology import SERVICES
from millrace.rpc.callers import UndeclaredMethod
from millrace.rpc.credentials import MAX_MESSAGE
from millrace.rpc.errors import reason_of
from millrace.rpc.server import GrpcServer
from millrace.testing import in_test
from millrace.testing.certificates import authority, identity
from millrace.tls.authority import Authority
from schemas.grpc.callers import CALLERS
from schemas.grpc.inventory_pb2 import GetAvailabilityResponse, Product
from schemas.grpc.users_pb2 import GetContactRequest
from schemas.grpc.users_pb2_grpc import UsersStub
from tests.integration.user_kit import new_key
from tests.security.rpc_kit import Method, call, channel, methods, register, serving, shows
from user_service.app import service as user

METHODS = methods()
NAMES = [service.name for service in SERVICES]
STRANGERS: dict[str, Callable[[str], grpc.ChannelCredentials | None]] = {
    "in plain text": lambda _owner: None,
    "without a certificate": lambda _owner: shows(None),
    "with a certificate of another stack": lambda name: shows(Authority.make().issue(name)),
    "with an expired one": lambda name: shows(authority().issue(name, lifetime=timedelta(hours=-1))),
}

each_method = pytest.mark.parametrize("method", METHODS, ids=str)


@each_method
@pytest.mark.parametrize("how", STRANGERS)
async def test_a_stranger_gets_no_connection(method: Method, how: str) -> None:
    allowed = min(CALLERS[method.name], default="order")
    async with (
        serving(method.owner) as served,
        channel(served.target, method.owner.name, STRANGERS[how](allowed)) as opened,
    ):
        assert (await call(opened, method))[0] == "UNAVAILABLE"
        assert served.calls == []


@each_method
@pytest.mark.parametrize("caller", [*NAMES, "board", "payment"])
async def test_a_service_may_call_what_the_table_says(method: Method, caller: str) -> None:
    credentials = shows(authority().issue(caller))
    async with (
        serving(method.owner) as served,
        channel(served.target, method.owner.name, credentials) as opened,
    ):
        answer = await call(opened, method)
    if caller in CALLERS[method.name]:
        assert answer == ("OK", "")
        assert len(served.calls) == 1
    else:
        assert answer == ("PERMISSION_DENIED", f"{caller} may not call {method.name}")
        assert served.calls == []


async def test_a_certificate_for_something_else_is_nobodys() -> None:
    """Such as one that the same CA issued for a broker: only a whole name counts."""
    (method, *_) = METHODS
    issued = authority().issue("notification.order", hosts=["order.millrace.example.com", "localhost"])
    async with (
        serving(method.owner) as served,
        channel(served.target, method.owner.name, shows(issued)) as opened,
    ):
        code, details = await call(opened, method)
    assert code == "PERMISSION_DENIED"
    assert details.startswith("the owner of a certificate for notification.order.millrace, ")
    assert served.calls == []


async def test_a_server_that_is_not_the_one_that_was_asked_hears_nothing() -> None:
    (method, *_) = METHODS
    credentials = shows(authority().issue(min(CALLERS[method.name], default="order")))
    async with (
        serving(method.owner, shows=identity("order")) as served,
        channel(served.target, method.owner.name, credentials) as opened,
    ):
        code, details = await call(opened, method)
    assert code == "UNAVAILABLE"
    assert "Hostname Verification Check failed" in details
    assert served.calls == []


def test_every_method_has_a_row() -> None:
    assert {method.name for method in METHODS} == CALLERS.keys()


@each_method
def test_a_method_without_a_row_is_not_served(method: Method) -> None:
    rows = {name: callers for name, callers in CALLERS.items() if name != method.name}
    with pytest.raises(UndeclaredMethod, match=rf"{method.name}: say in \[callers\] of service\.toml who"):
        GrpcServer(
            register(method.owner),
            host="127.0.0.1",
            port=0,
            identity=identity(method.owner.name),
            callers=rows,
        )


@pytest.mark.parametrize("caller", NAMES)
async def test_the_user_service_lets_in_whom_its_manifest_names(database: DatabaseUrls, caller: str) -> None:
    """The service itself, as its process runs it."""
    async with in_test(user, database, caller=caller, privacy_master_key=new_key()) as app:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await UsersStub(app.grpc).GetContact(GetContactRequest(user_id="no UUID"))
    allowed = caller in CALLERS["/millrace.users.v1.Users/GetContact"]
    assert reason_of(refused.value) == ("invalid_user_id" if allowed else "caller_not_allowed")


NONSENSE = b"\xff\xff\xff"


@each_method
async def test_a_caller_that_may_not_call_is_refused_whatever_it_sends(method: Method) -> None:
    credentials = shows(authority().issue("payment"))
    async with (
        serving(method.owner) as served,
        channel(served.target, method.owner.name, credentials) as opened,
    ):
        with capture_logs() as logs:
            answer = await call(opened, method, NONSENSE)
    assert answer == ("PERMISSION_DENIED", f"payment may not call {method.name}")
    assert [(line["log_level"], line["event"]) for line in logs] == [("warning", "caller refused")]
    assert served.calls == []


@each_method
async def test_bytes_that_are_no_message_reach_no_servicer(method: Method) -> None:
    credentials = shows(authority().issue(min(CALLERS[method.name], default="order")))
    async with (
        serving(method.owner) as served,
        channel(served.target, method.owner.name, credentials) as opened,
    ):
        with capture_logs() as logs:
            answer = await call(opened, method, NONSENSE)
    assert answer == ("INVALID_ARGUMENT", f"The bytes are no message that {method.name} takes.")
    assert [(line["log_level"], line["event"], line["reason"]) for line in logs] == [
        ("info", "call refused", "malformed_message")
    ]
    assert served.calls == []
    page, _ = served.metrics.render()
    counted = (
        f'millrace_grpc_server_duration_seconds_count{{code="INVALID_ARGUMENT",method="{method.name}"}} 1'
    )
    assert counted in page.decode()


@each_method
async def test_a_message_that_is_too_large_reaches_no_servicer(method: Method) -> None:
    credentials = shows(authority().issue(min(CALLERS[method.name], default="order")))
    async with (
        serving(method.owner) as served,
        channel(served.target, method.owner.name, credentials) as opened,
    ):
        assert (await call(opened, method, bytes(MAX_MESSAGE + 1)))[0] == "RESOURCE_EXHAUSTED"
    assert served.calls == []


def test_the_longest_answer_fits() -> None:
    most = Product(sku="A" * 64, price_amount=10**15, currency="EUR", available=2**63 - 1, version=2**63 - 1)
    assert GetAvailabilityResponse(products=[most] * 100).ByteSize() < MAX_MESSAGE
