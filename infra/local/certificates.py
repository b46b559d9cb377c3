"""The certificates of a home's services: made once, renewed when the stack comes up."""

from collections.abc import Iterable, Mapping

from infra.local.errors import StackError
from infra.local.home import Home
from millrace.manifest import Manifest
from millrace.tls.keep import AuthorityDamaged, files_of, keep_certificates


def certificate_settings(home: Home, service: Manifest) -> Mapping[str, str]:
    """The settings that name the service's files."""
    files = files_of(home.certificates, service.name)
    paths = {"CA": files.ca, "CERTIFICATE": files.certificate, "KEY": files.key}
    return {f"{service.prefix}TLS_{name}": str(path) for name, path in paths.items()}


def renew_certificates(home: Home, services: Iterable[Manifest]) -> list[str]:
    """As keep_certificates. A service that runs reads a renewed one by itself. Raises StackError."""
    try:
        return keep_certificates(home.certificates, [service.name for service in services])
    except (AuthorityDamaged, OSError) as error:
        raise StackError(f"certificates: {error}") from error
