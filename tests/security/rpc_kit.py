"""Every gRPC method that there is, answered by servers that let in whom the true table lets in."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from infra.local.home import REPOSITORY
from infra.topology import SERVICES
from millrace.manifest import Manifest
from millrace.rpc.callers import Callers
from millrace.rpc.server import GrpcServer
from millrace.telemetry.metrics import Metrics
from millrace.testing import eventually, running
from millrace.testing.certificates import authority, identity
from millrace.tls.authority import Issued
from millrace.tls.identity import Identity
from millrace.tls.names import dns_name
from schemas.grpc.callers import CALLERS

PROTOCOLS = sorted(file.stem for file in (REPOSITORY / "schemas" / "grpc").glob("*.proto"))
Answer = Callable[[Any, Any], None]
"""What a servicer does with request and context before it answers."""


@dataclass(frozen=True)
class Method:
    """One method: its full name, whose it is, and what it takes."""

    name: str
    owner: Manifest
    request: type[Any]

    def __str__(self) -> str:
        return self.name.rpartition("/")[2]


@dataclass
class Serving:
    """A server with all methods of one service."""

    server: GrpcServer
    calls: list[bytes] = field(default_factory=list)
    """The certificates that the callers showed whose calls reached a servicer."""
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.server.port}"


def methods() -> list[Method]:
    """As the descriptors have them, whatever any table says."""
    return [
        Method(f"/{service.full_name}/{method.name}", owner, GetMessageClass(method.input_type))
        for owner in SERVICES
        for service in _services_of(owner)
        for method in service.methods
    ]


def register(owner: Manifest, before: Answer = lambda _request, _context: None) -> Callable[[Any], None]:
    """Adds all methods of a service to a server; each gives an empty answer."""

    def add(server: Any) -> None:
        for service in _services_of(owner):
            code = import_module(f"schemas.grpc.{owner.events}_pb2_grpc")
            made = {
                method.name: _answering(GetMessageClass(method.output_type), before)
                for method in service.methods
            }
            servicer = type("Answering", (getattr(code, f"{service.name}Servicer"),), made)
            getattr(code, f"add_{service.name}Servicer_to_server")(servicer(), server)

    return add


@asynccontextmanager
async def serving(
    owner: Manifest, *, callers: Callers = CALLERS, shows: Identity | None = None
) -> AsyncIterator[Serving]:
    """The methods of a service, on a port that is free."""
    calls: list[bytes] = []
    metrics = Metrics()

    def note(_request: Any, context: Any) -> None:
        calls.extend(context.auth_context()["x509_pem_cert"])  # gone with the call

    server = GrpcServer(
        register(owner, note),
        host="127.0.0.1",
        port=0,
        identity=shows or identity(owner.name),
        callers=callers,
        metrics=metrics,
    )
    async with running([server]):
        await eventually(lambda: server.health().ready, what="the server listens")
        yield Serving(server, calls, metrics)


@asynccontextmanager
async def channel(
    target: str, owner: str, credentials: grpc.ChannelCredentials | None
) -> AsyncIterator[grpc.aio.Channel]:
    """As anybody can make one, without the framework's rules; None: in plain text."""
    options = [("grpc.default_authority", dns_name(owner)), ("grpc.max_send_message_length", -1)]
    async with (
        grpc.aio.secure_channel(target, credentials, options=options)
        if credentials is not None
        else grpc.aio.insecure_channel(target, options=options)
    ) as opened:
        yield opened


def shows(issued: Issued | None, ca: bytes | None = None) -> grpc.ChannelCredentials:
    """What a caller shows, which believes the session's CA unless `ca` is another."""
    believed = ca or authority().issued.certificate
    if issued is None:
        return grpc.ssl_channel_credentials(believed)
    return grpc.ssl_channel_credentials(believed, issued.key, issued.certificate)


async def call(opened: grpc.aio.Channel, method: Method, request: bytes = b"") -> tuple[str, str]:
    """The name of the status, and the message for people."""
    try:
        ask: Any = opened.unary_unary(method.name)
        await ask(request, timeout=10)
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


def replace(directory: Path, issued: Issued, ca: bytes) -> Mapping[str, Path]:
    """Writes a set of files, over what is there."""
    directory.mkdir(exist_ok=True)
    files = {"ca": directory / "ca.pem", "certificate": directory / "certificate.pem"}
    files["key"] = directory / "key.pem"
    files["ca"].write_bytes(ca)
    files["certificate"].write_bytes(issued.certificate)
    files["key"].touch(mode=0o600)
    files["key"].write_bytes(issued.key)
    return files


def _services_of(owner: Manifest) -> list[ServiceDescriptor]:
    if owner.events not in PROTOCOLS:
        return []
    described: FileDescriptor = import_module(f"schemas.grpc.{owner.events}_pb2").DESCRIPTOR
    return list(described.services_by_name.values())


def _answering(response: type[Any], before: Answer) -> Callable[..., Any]:
    async def answer(_servicer: object, request: Any, context: Any) -> Any:
        before(request, context)
        return response()

    return answer
