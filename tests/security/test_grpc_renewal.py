"""Renewed certificates are used without a restart, on both sides of a connection."""

from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

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


class InAnHour(datetime):
    """A clock that is ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(hours=1)


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time somebody asks for the credentials, not once a second."""
    monkeypatch.setattr("millrace.tls.identity._LOOK_EVERY", 0.0)


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
    asks = Identity(TlsFiles(**replace(caller, first, ca.issued.certificate), service="notification"))
    shows = Identity(TlsFiles(**replace(server, ca.issue("user"), ca.issued.certificate), service="user"))
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
    first = old.issue("notification")
    asks = Identity(TlsFiles(**replace(caller, first, old.issued.certificate), service="notification"))
    shows = Identity(TlsFiles(**replace(server, old.issue("user"), old.issued.certificate), service="user"))
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
    files = TlsFiles(**replace(tmp_path, ca.issue("user"), ca.issued.certificate), service="user")
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


async def test_a_renewed_certificate_of_another_service_is_not_used(tmp_path: Path, look: None) -> None:
    """As at the start: nobody would speak to the server any more."""
    ca = Authority.make()
    files = TlsFiles(**replace(tmp_path, ca.issue("user"), ca.issued.certificate), service="user")
    identity = Identity(files)
    before = identity.current()
    replace(tmp_path, ca.issue("order"), ca.issued.certificate)
    with capture_logs() as logs:
        assert identity.current() is before
        assert identity.current() is before
    assert [(line["log_level"], line["event"], line["error"]) for line in logs] == [
        (
            "warning",
            "renewed certificate is not used yet",
            f"{files.certificate}: is for order.millrace, not for user.millrace",
        )
    ]
    renewed = ca.issue("user")
    replace(tmp_path, renewed, ca.issued.certificate)
    assert identity.current().certificate == renewed.certificate


async def test_a_renewed_key_that_others_may_read_is_used_once_they_may_not(
    tmp_path: Path, look: None
) -> None:
    """The remedy that the log names changes no content."""
    ca = Authority.make()
    files = TlsFiles(**replace(tmp_path, ca.issue("user"), ca.issued.certificate), service="user")
    identity = Identity(files)
    before, renewed = identity.current(), ca.issue("user")
    replace(tmp_path, renewed, ca.issued.certificate)
    files.key.chmod(0o644)
    with capture_logs() as logs:
        assert identity.current() is before
        assert identity.current() is before
    (said,) = [line["error"] for line in logs]
    assert said == f"{files.key}: everybody may use this key: chmod 600 it"
    files.key.chmod(0o600)
    assert identity.current().certificate == renewed.certificate


async def test_a_renewed_certificate_that_is_not_valid_yet_is_used_once_it_is(
    tmp_path: Path, look: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its issuer's clock is ahead."""
    ca = Authority.make()
    identity = Identity(
        TlsFiles(**replace(tmp_path, ca.issue("user"), ca.issued.certificate), service="user")
    )
    before = identity.current()
    monkeypatch.setattr("millrace.tls.authority.datetime", InAnHour)
    renewed = ca.issue("user")
    replace(tmp_path, renewed, ca.issued.certificate)
    with capture_logs() as logs:
        assert identity.current() is before
    (said,) = [line["error"] for line in logs]
    assert "is not valid before" in said
    monkeypatch.setattr("millrace.tls.files.datetime", InAnHour)
    assert identity.current().certificate == renewed.certificate


@pytest.mark.parametrize("gone", ["ca", "certificate", "key"])
async def test_files_that_vanish_leave_the_last_good_ones(tmp_path: Path, gone: str) -> None:
    ca = Authority.make()
    files = replace(tmp_path, ca.issue("user"), ca.issued.certificate)
    identity = Identity(TlsFiles(**files, service="user"))
    before = identity.current()
    files[gone].unlink()
    with capture_logs() as logs:
        await eventually(lambda: (identity.current(), logs)[1], what="the log says that it is gone")
    assert identity.current() is before
    assert logs[0]["error"] == f"{files[gone]}: there is no such file"
