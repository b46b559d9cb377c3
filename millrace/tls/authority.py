"""A certificate authority, and the certificates that it issues: for one stack, not for the internet."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from millrace.tls.names import dns_name

LIFETIME: Final = timedelta(days=90)
_CA_LIFETIME: Final = timedelta(days=3650)
_CLOCKS_DIFFER: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key (PKCS#8), in PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


class Authority:
    """A CA: its certificate, and the key that signs others."""

    def __init__(self, issued: Issued) -> None:
        """Raises ValueError when `issued` is none."""
        self.issued = issued
        self._certificate = x509.load_pem_x509_certificate(issued.certificate)
        key = load_pem_private_key(issued.key, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("its key is of another kind than this program makes")
        if key.public_key() != self._certificate.public_key():
            raise ValueError("its key does not belong to its certificate")
        self._key = key

    @classmethod
    def make(cls, name: str = "Millrace CA") -> "Authority":
        """A new one."""
        key, subject = ec.generate_private_key(ec.SECP256R1()), _named(name)
        usage = _usage(key_cert_sign=True, crl_sign=True)
        builder = (
            _builder(subject, subject, key, _CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        return cls(_issued(builder.sign(key, hashes.SHA256()), key))

    def issue(
        self,
        service: str,
        *,
        lifetime: timedelta = LIFETIME,
        hosts: Sequence[str] = (),
    ) -> Issued:
        """A certificate for both ends of a connection, by the name of the service and those of its `hosts`.

        It ends before this CA does; a negative `lifetime` makes one that has expired.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        left = self._certificate.not_valid_after_utc - datetime.now(UTC)
        names = [x509.DNSName(name) for name in (dns_name(service), *hosts)]
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            _builder(_named(dns_name(service)), self._certificate.subject, key, min(lifetime, left))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(both), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(issuer, critical=False)
        )
        return _issued(builder.sign(self._key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + min(lifetime, timedelta()) - _CLOCKS_DIFFER)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _issued(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    return Issued(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
