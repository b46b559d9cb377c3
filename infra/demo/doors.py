"""What is closed: three attempts of somebody who has got in somewhere, each refused where it arrives."""

import grpc
import httpx
import psycopg
from psycopg.errors import InsufficientPrivilege

from infra.demo.shop import DemoFailed
from infra.local.stack import Stack
from infra.topology import SERVICES
from millrace.rpc.channel import open_channel
from millrace.tls.identity import Identity
from millrace.tls.keep import files_of
from schemas.grpc.users_pb2 import GetContactRequest
from schemas.grpc.users_pb2_grpc import UsersStub

_DEADLINE = 10.0  # seconds


async def rewrite_history(stack: Stack) -> str:
    """The order service's own login changes an event. Returns what Postgres says."""
    url, seconds = stack.database_url("order"), int(_DEADLINE)
    try:
        async with await psycopg.AsyncConnection.connect(url, connect_timeout=seconds) as connection:
            await connection.execute("UPDATE events SET type = 'OrderConfirmed'")
            raise DemoFailed("the order service's login may change events")  # and nothing is committed
    except InsufficientPrivilege as error:
        return str(error)
    except psycopg.Error as error:
        raise DemoFailed(f"the order service's database: {error}") from error


async def ask_as_another_service(stack: Stack) -> str:
    """The inventory service, with its true certificate, asks for an e-mail address. Returns the answer."""
    inventory = next(service for service in SERVICES if service.name == "inventory")
    identity = Identity(files_of(stack.home.certificates, inventory.name))
    target = stack.topology.address("USER_GRPC")
    async with open_channel(target, service="user", identity=identity, timeout=_DEADLINE) as channel:
        try:
            await UsersStub(channel).GetContact(GetContactRequest(user_id="ada"))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                return f"{error.code().name}: {error.details()}"
            raise DemoFailed(f"the user service answered {error.code().name}: {error.details()}") from error
    raise DemoFailed("the user service gives addresses to the inventory service")


async def come_by_another_name(stack: Stack) -> str:
    """A page of another site has a browser ask the order service (DNS rebinding). Returns the answer."""
    async with httpx.AsyncClient(timeout=_DEADLINE, trust_env=False) as client:
        try:
            answer = await client.get(f"{stack.url('order')}/orders", headers={"Host": "evil.example"})
        except httpx.TransportError as error:
            raise DemoFailed(f"the order service does not answer ({type(error).__name__})") from error
    if answer.status_code != httpx.codes.MISDIRECTED_REQUEST:
        raise DemoFailed(f"the order service answered {answer.status_code} under another host's name")
    return f"{answer.status_code}: {answer.json()['title']}"
