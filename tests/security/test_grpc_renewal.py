"""Renewed certificates are used without a restart, on both sides of a connection."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from infra.topology import SERVICES
from millrace.rpc.channel import open_channel
from millrace.testing import eventually
from millrace.tls.authority import Authority
from millrace.tls.files import TlsFiles
from millrace.tls.identity import Identity
from tests.security.rpc_kit import Method, methods, replace, serving

(METHOD,) = [one for one in methods() if one.owner.name == "user"]
(USER,) = [one for one in SERVICES if one.name == "user"]


async def ask(channel: grpc.aio.Channel, method: Method = METHOD) -> bool:
    """Whether it is answered."""
    call: Any = channel.unary_unary(method.name, request_serializer=bytes, response_deserializer=bytes)
    try:
        await call(b"")
    except grpc.aio.AioRpcError:
        return False
    return True


async def test_a_certificate_is_replaced_while_both_sides_run(tmp_path: Path) -> None:
    ca = Authority.make()
    caller, server = tmp_path / "notification", tmp_path / "user"
    first, second = ca.issue("notification"), ca.issue("notification")
    asks = Identity(TlsFiles(**replace(caller, first, ca.issued.certificate)))
    shows = Identity(TlsFiles(**replace(server, ca.issue("user"), ca.issued.certificate)))
    async with (
        serving(USER, shows=shows) as served,
        open_channel(served.target, service="user", identity=asks, timeout=10) as channel,
    ):
        assert await ask(channel)
        assert served.calls[-1].split() == first.certificate.split()
        replace(caller, second, ca.issued.certificate)

        async def shows_the_second() -> bool:
            return await ask(channel) and served.calls[-1].split() == second.certificate.split()

        await eventually(shows_the_second, what="the caller shows its new certificate")


async def test_the_whole_ca_is_replaced_while_both_sides_run(tmp_path: Path) -> None:
    """A new server certificate too: the caller believes nothing else by then."""
    old, new = Authority.make(), Authority.make()
    caller, server = tmp_path / "notification", tmp_path / "user"
    asks = Identity(TlsFiles(**replace(caller, old.issue("notification"), old.issued.certificate)))
    shows = Identity(TlsFiles(**replace(server, old.issue("user"), old.issued.certificate)))
    async with (
        serving(USER, shows=shows) as served,
        open_channel(served.target, service="user", identity=asks, timeout=10) as channel,
    ):
        assert await ask(channel)
        issued = new.issue("notification")
        replace(server, new.issue("user"), new.issued.certificate)
        replace(caller, issued, new.issued.certificate)

        async def of_the_new_one() -> bool:
            return await ask(channel) and served.calls[-1].split() == issued.certificate.split()

        await eventually(of_the_new_one, what="both sides use what the new CA issued")


async def test_half_a_renewal_changes_nothing(tmp_path: Path) -> None:
    ca = Authority.make()
    files = TlsFiles(**replace(tmp_path, ca.issue("user"), ca.issued.certificate))
    identity = Identity(files)
    before, renewed = identity.current(), ca.issue("user")
    files.certificate.write_bytes(renewed.certificate)
    with capture_logs() as logs:

        def noticed() -> bool:
            assert identity.current() is before
            return any(line["event"] == "renewed certificate is not used yet" for line in logs)

        await eventually(noticed, what="the log says why")
    (said,) = {line["error"] for line in logs}
    assert said == f"{files.key}: this key does not belong to the certificate"
    files.key.write_bytes(renewed.key)
    await eventually(lambda: identity.current().certificate == renewed.certificate, what="now it is")


@pytest.mark.parametrize("gone", ["ca", "certificate", "key"])
async def test_files_that_vanish_leave_the_last_good_ones(tmp_path: Path, gone: str) -> None:
    ca = Authority.make()
    files = replace(tmp_path, ca.issue("user"), ca.issued.certificate)
    identity = Identity(TlsFiles(**files))
    before = identity.current()
    files[gone].unlink()
    with capture_logs() as logs:
        await eventually(lambda: (identity.current(), logs)[1], what="the log says that it is gone")
    assert identity.current() is before
    assert logs[0]["error"] == f"{files[gone]}: there is no such file"
