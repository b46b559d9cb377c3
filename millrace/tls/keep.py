"""The certificates of one stack, in a directory: made once, renewed while there is time.

ca/ca.pem, ca/key.pem                          the CA; with its key one can be any service
<service>/ca.pem, certificate.pem, key.pem     what the service gets, and nothing of the others'
"""

import os
import stat
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from millrace.domain.errors import MillraceError
from millrace.tls.authority import Authority, Issued
from millrace.tls.files import TlsError, TlsFiles

RENEW_WITHIN: Final = timedelta(days=30)
"""What is left of a certificate's time when it is renewed."""


class AuthorityDamaged(MillraceError):
    """The CA of a stack can't be read. Nothing is made in its place: nobody would accept what it issues."""


def files_of(directory: Path, service: str) -> TlsFiles:
    """Where the files of a service are."""
    own = directory / service
    return TlsFiles(own / "ca.pem", own / "certificate.pem", own / "key.pem", service)


def keep_certificates(directory: Path, services: Iterable[str], *, owner: int | None = None) -> list[str]:
    """Makes what is missing, renews what ends within 30 days; returns the services that got a new one.

    Files are 0600 in directories 0700, and belong to the user id `owner` if one is given, the CA excepted.
    Raises AuthorityDamaged, and OSError where the directory can't be written.
    """
    if not directory.exists():
        directory.mkdir(mode=0o700, parents=True)
    authority = open_authority(directory / "ca")
    made = [one for one in services if not _good(files_of(directory, one), authority)]
    for service in made:
        _store(files_of(directory, service), authority.issued.certificate, authority.issue(service), owner)
    return made


def open_authority(directory: Path) -> Authority:
    """The CA in a directory, made when there is none. Raises AuthorityDamaged."""
    certificate, key = directory / "ca.pem", directory / "key.pem"
    if not certificate.exists():  # which is written last: what nobody has used yet is made again
        made = Authority.make().issued
        _make_directory(directory, None)
        _write(key, made.key, None)
        _write(certificate, made.certificate, None)
    try:
        return Authority(Issued(certificate.read_bytes(), key.read_bytes()))
    except (OSError, ValueError) as error:
        raise AuthorityDamaged(
            f"the CA in {directory} can't be used ({error}): restore its files, or remove {directory.parent}"
            " and start all services again"
        ) from None


def _good(files: TlsFiles, authority: Authority) -> bool:
    try:
        found = files.read()
    except TlsError:
        return False
    return found.ca == authority.issued.certificate and found.expires - datetime.now(UTC) > RENEW_WITHIN


def _store(files: TlsFiles, ca: bytes, issued: Issued, owner: int | None) -> None:
    _make_directory(files.key.parent, owner)
    for path, content in (
        (files.ca, ca),
        (files.key, issued.key),
        (files.certificate, issued.certificate),
    ):
        _write(path, content, owner)


def _make_directory(directory: Path, owner: int | None) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    if stat.S_IMODE(directory.stat().st_mode) != 0o700:  # a volume was there before
        directory.chmod(0o700)
    if owner is not None:
        os.chown(directory, owner, owner)


def _write(path: Path, content: bytes, owner: int | None) -> None:
    """In one step: a reader never sees half a file."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        if owner is not None:
            os.fchown(file.fileno(), owner, owner)
    temporary.replace(path)
