"""The three files that say who a process is, read and checked before anybody relies on them."""

import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from millrace.domain.errors import MillraceError
from millrace.tls.names import dns_name

CA, CERTIFICATE, KEY = "tls_ca", "tls_certificate", "tls_key"


class TlsError(MillraceError):
    """A file can't be used. `setting` is the one that names it; the message is its path, the reason, and
    what to do."""

    def __init__(self, setting: str, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.setting = setting


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the files hold, in PEM. `names` are the certificate's; `expires`: when it stops being accepted."""

    ca: bytes
    certificate: bytes
    key: bytes = field(repr=False)
    names: frozenset[str]
    expires: datetime


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the files of `service` are."""

    ca: Path
    certificate: Path
    key: Path
    service: str

    def stamp(self) -> tuple[object, ...]:
        """Another one as soon as a file was replaced."""
        return tuple(_stamp(path) for path in (self.ca, self.certificate, self.key))

    def read(self) -> Credentials:
        """What they hold now.

        Raises TlsError for a file that is missing, unreadable, malformed or expired, a key that others can
        read or that does not belong to the certificate, and a certificate that the CA did not issue or that
        is for another service.
        """
        ca, certificate, key = _read(CA, self.ca), _read(CERTIFICATE, self.certificate), _read(KEY, self.key)
        authorities = _certificates(CA, self.ca, ca)
        chain = _certificates(CERTIFICATE, self.certificate, certificate)
        _require_private(self.key)
        _require_pair(self.key, key, chain[0])
        expires = self._expires(chain, authorities)
        return Credentials(ca, certificate, key, names=self._names(chain[0]), expires=expires)

    def _names(self, certificate: x509.Certificate) -> frozenset[str]:
        names, expected = _names(certificate), dns_name(self.service)
        if expected not in names:
            said = f"is for {', '.join(sorted(names)) or 'no name'}, not for {expected}"
            raise TlsError(CERTIFICATE, self.certificate, said)
        return names

    def _expires(
        self, chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]
    ) -> datetime:
        certificate = chain[0]
        issuer = _issuer(certificate, [*chain[1:], *authorities])
        if issuer is None:
            raise TlsError(CERTIFICATE, self.certificate, f"was not issued by the CA in {self.ca}")
        _require_valid(CERTIFICATE, self.certificate, certificate)
        _require_valid(CA, self.ca, issuer)
        return min(certificate.not_valid_after_utc, issuer.not_valid_after_utc)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise TlsError(setting, path, "there is no such file") from None
    except OSError as error:
        raise TlsError(setting, path, f"can't be read: {error.strerror}") from None


def _certificates(setting: str, path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise TlsError(setting, path, "holds no certificate in PEM") from None


def _require_private(path: Path) -> None:
    """As Postgres demands it of its own: Kubernetes gives a group the right to read what root owns."""
    try:
        found = path.stat()
    except OSError as error:  # it was there a moment ago
        raise TlsError(KEY, path, f"can't be read: {error.strerror}") from None
    allowed = 0o740 if found.st_uid == 0 else 0o700
    if mode := stat.S_IMODE(found.st_mode) & ~allowed:
        who = "everybody" if mode & 0o007 else "its group"
        raise TlsError(KEY, path, f"{who} may use this key: chmod 600 it")


def _require_pair(path: Path, pem: bytes, certificate: x509.Certificate) -> None:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):  # TypeError: it wants a password
        raise TlsError(KEY, path, "holds no private key in PEM (PKCS#8, without a password)") from None
    if key.public_key() != certificate.public_key():
        raise TlsError(KEY, path, "this key does not belong to the certificate")


def _require_valid(setting: str, path: Path, certificate: x509.Certificate) -> None:
    now = datetime.now(UTC)
    if now >= certificate.not_valid_after_utc:
        when = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        raise TlsError(setting, path, f"expired on {when}: put a new one there")
    if now < certificate.not_valid_before_utc:
        when = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        raise TlsError(setting, path, f"is not valid before {when}: is the clock right?")


def _issuer(certificate: x509.Certificate, candidates: Iterable[x509.Certificate]) -> x509.Certificate | None:
    for one in candidates:
        try:
            certificate.verify_directly_issued_by(one)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return one
    return None


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(found.value.get_values_for_type(x509.DNSName))
