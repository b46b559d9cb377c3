"""Certificates: how they are made, and what is said of one that can't be used."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace as changed
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from structlog.testing import capture_logs
from typer.testing import CliRunner

from infra.local.home import REPOSITORY
from millrace.telemetry.metrics import Metrics
from millrace.tls.authority import Authority, Issued
from millrace.tls.files import TlsError, TlsFiles
from millrace.tls.identity import Identity
from millrace.tls.keep import AuthorityDamaged, files_of, keep_certificates
from millrace.tls.watch import CertificateWatch
from order_service.app import service
from tests.security.rpc_kit import replace

CA = Authority.make()
NOWHERE = "postgresql://nobody:secret@127.0.0.1:1/nowhere"


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    """Of the order service, as they should be."""
    return TlsFiles(**replace(tmp_path, CA.issue("order"), CA.issued.certificate), service="order")


def expired(files: TlsFiles) -> None:
    replace(files.key.parent, CA.issue("order", lifetime=timedelta(days=-1)), CA.issued.certificate)


def of_another_ca(files: TlsFiles) -> None:
    replace(files.key.parent, Authority.make().issue("order"), CA.issued.certificate)


def of_another_service(files: TlsFiles) -> None:
    replace(files.key.parent, CA.issue("user"), CA.issued.certificate)


def with_another_key(files: TlsFiles) -> None:
    files.key.write_bytes(CA.issue("order").key)


def with_a_directory(files: TlsFiles) -> None:
    files.ca.unlink()
    files.ca.mkdir()


FAULTS: dict[str, tuple[Callable[[TlsFiles], object], str]] = {
    "expired": (expired, r"ORDER_TLS_CERTIFICATE: {certificate}: expired on .* UTC: put a new one there"),
    "another CA": (of_another_ca, "ORDER_TLS_CERTIFICATE: {certificate}: was not issued by the CA in {ca}"),
    "another service": (
        of_another_service,
        "ORDER_TLS_CERTIFICATE: {certificate}: is for user.millrace, not for order.millrace",
    ),
    "another key": (with_another_key, "ORDER_TLS_KEY: {key}: this key does not belong to the certificate"),
    "no CA": (lambda files: files.ca.unlink(), "ORDER_TLS_CA: {ca}: there is no such file"),
    "no certificate": (
        lambda files: files.certificate.unlink(),
        "ORDER_TLS_CERTIFICATE: {certificate}: there is no such file",
    ),
    "no key": (lambda files: files.key.unlink(), "ORDER_TLS_KEY: {key}: there is no such file"),
    "no PEM": (
        lambda files: files.certificate.write_bytes(b"hello"),
        "ORDER_TLS_CERTIFICATE: {certificate}: holds no certificate in PEM",
    ),
    "an unreadable key": (
        lambda files: files.key.write_bytes(b"hello"),
        r"ORDER_TLS_KEY: {key}: holds no private key in PEM \(PKCS#8, without a password\)",
    ),
    "a key for everybody": (
        lambda files: files.key.chmod(0o604),
        "ORDER_TLS_KEY: {key}: everybody may use this key: chmod 600 it",
    ),
    "a directory": (
        with_a_directory,
        "ORDER_TLS_CA: {ca}: can't be read: Is a directory",
    ),
}


@pytest.fixture(autouse=True)
def _starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that would start ends with 0."""
    monkeypatch.setattr("millrace.cli.run_service", lambda *_: 0)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_service_whose_certificate_can_not_be_used_does_not_start(files: TlsFiles, fault: str) -> None:
    spoil, said = FAULTS[fault]
    spoil(files)
    environment = {
        "ORDER_DATABASE_URL": NOWHERE,
        "ORDER_TLS_CA": str(files.ca),
        "ORDER_TLS_CERTIFICATE": str(files.certificate),
        "ORDER_TLS_KEY": str(files.key),
    }
    ran = CliRunner().invoke(service.cli(), ["serve"], env=environment)
    assert ran.exit_code == 2
    (line,) = ran.stderr.splitlines()
    expected = said.format(ca=files.ca, certificate=files.certificate, key=files.key)
    assert re.fullmatch(expected, line), line


def test_without_any_it_names_all_three() -> None:
    ran = CliRunner().invoke(service.cli(), ["serve"], env={"ORDER_DATABASE_URL": NOWHERE})
    assert ran.exit_code == 2
    assert [line.partition(" ")[0] for line in ran.stderr.splitlines()] == [
        "ORDER_TLS_CA",
        "ORDER_TLS_CERTIFICATE",
        "ORDER_TLS_KEY",
    ]


def test_a_group_may_read_a_key_that_root_owns(files: TlsFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes mounts secrets for a process that is not root."""
    files.key.chmod(0o640)
    found = files.key.stat()

    def owned_by(user: int) -> None:
        values = [*found]
        values[stat.ST_UID] = user
        monkeypatch.setattr(Path, "stat", lambda _path: os.stat_result(values))

    owned_by(0)
    assert files.read().names == {"order.millrace"}
    owned_by(10001)
    with pytest.raises(TlsError, match="its group may use this key: chmod 600 it"):
        files.read()


@pytest.mark.parametrize("name", ["ca", "certificate", "key"])
def test_a_file_that_is_replaced_while_it_is_read_is_not_half_used(
    files: TlsFiles, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What was checked is what is used."""
    path: Path = getattr(files, name)
    before, read = path.read_bytes(), Path.read_bytes

    def read_and_replace(one: Path) -> bytes:
        content = read(one)
        if one == path:
            one.write_bytes(b"something else")
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_replace)
    assert getattr(files.read(), name) == before


def test_a_key_that_vanishes_while_it_is_read_is_named(
    files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_bytes

    def read_and_remove(one: Path) -> bytes:
        content = read(one)
        if one == files.key:
            one.unlink()
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_remove)
    with pytest.raises(TlsError, match="can't be read: No such file or directory"):
        files.read()


def test_a_certificate_has_one_name_three_months_and_a_key_that_java_reads() -> None:
    issued = CA.issue("order", hosts=["localhost"])
    assert issued.key.startswith(b"-----BEGIN PRIVATE KEY-----"), "PKCS#8: Kafka takes nothing else"
    load_pem_private_key(issued.key, None)
    assert "PRIVATE" not in repr(issued)


def test_what_was_made_stays_and_is_its_owners_alone(tmp_path: Path) -> None:
    directory = tmp_path / "certificates"
    assert keep_certificates(directory, ["order", "user"]) == ["order", "user"]
    first = {file: file.read_bytes() for file in directory.rglob("*.pem")}
    assert keep_certificates(directory, ["order", "user", "payment"]) == ["payment"]
    assert {file: file.read_bytes() for file in first} == first
    modes = {stat.S_IMODE(one.stat().st_mode) for one in directory.rglob("*") if one.is_file()}
    folders = {stat.S_IMODE(one.stat().st_mode) for one in [directory, *directory.iterdir()]}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert (modes, folders) == ({0o600}, {0o700})
    read = files_of(directory, "order").read()
    assert read.names == {"order.millrace"}
    assert timedelta(days=89) < read.expires - datetime.now(UTC) <= timedelta(days=90)


def test_each_stack_has_a_ca_of_its_own(tmp_path: Path) -> None:
    for name in ("here", "there"):
        keep_certificates(tmp_path / name, ["order"])
    here, there = (files_of(tmp_path / name, "order") for name in ("here", "there"))
    assert here.read().ca != there.read().ca
    with pytest.raises(TlsError, match="was not issued by the CA"):
        changed(here, ca=there.ca).read()


@pytest.mark.parametrize(("left", "renewed"), [(29, ["order"]), (31, [])])
def test_a_certificate_is_renewed_while_there_is_time(tmp_path: Path, left: int, renewed: list[str]) -> None:
    keep_certificates(tmp_path, ["order"])
    authority = Authority(
        Issued((tmp_path / "ca" / "ca.pem").read_bytes(), (tmp_path / "ca" / "key.pem").read_bytes())
    )
    short = authority.issue("order", lifetime=timedelta(days=left))
    replace(tmp_path / "order", short, authority.issued.certificate)
    assert keep_certificates(tmp_path, ["order"]) == renewed


def test_a_damaged_ca_is_not_replaced_by_another(tmp_path: Path) -> None:
    keep_certificates(tmp_path, ["order"])
    (tmp_path / "ca" / "key.pem").write_text("gone")
    with pytest.raises(AuthorityDamaged, match=rf"the CA in {tmp_path}/ca can't be used \(.*\): restore"):
        keep_certificates(tmp_path, ["order", "user"])
    assert not (tmp_path / "user").exists()


def test_the_command_that_compose_runs_makes_them(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "millrace.tls", str(tmp_path), "order", "user"]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    ran = run()
    assert (ran.returncode, ran.stdout) == (0, "order: certificate made\nuser: certificate made\n")
    assert (run().returncode, run().stdout) == (0, "")
    (tmp_path / "ca" / "key.pem").unlink()
    broken = run()
    assert broken.returncode == 1
    assert len(broken.stderr.splitlines()) == 1


def test_an_expiry_is_shown_in_time(files: TlsFiles) -> None:
    metrics, now = Metrics(), [datetime.now(UTC)]
    identity = Identity(files)
    watch = CertificateWatch(identity, metrics, clock=lambda: now[0])

    def logged(later: timedelta) -> list[tuple[str, str]]:
        now[0] += later
        with capture_logs() as logs:
            watch.look()
        return [(line["log_level"], line["event"]) for line in logs]

    assert logged(timedelta()) == []
    assert watch.health().detail == ""
    assert logged(timedelta(days=84)) == [("warning", "the certificate expires within 6 days")]
    assert logged(timedelta(hours=1)) == [], "once a day"
    assert logged(timedelta(days=1)) == [("warning", "the certificate expires within 5 days")]
    assert logged(timedelta(days=6)) == [
        ("error", "the certificate has expired: no other service accepts it")
    ]
    assert watch.health().ready, "whether it is accepted is for others to say"
    assert watch.health().detail == "the certificate has expired: no other service accepts it"
    page, _ = metrics.render()
    expires = identity.current().expires.timestamp()
    (line,) = [one for one in page.decode().splitlines() if one.startswith("millrace_certificate_expires")]
    assert float(line.split()[1]) == expires
