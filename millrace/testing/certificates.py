"""Certificates for tests: one CA per test session, in a directory that goes with it."""

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from millrace.tls.authority import Authority
from millrace.tls.files import TlsFiles
from millrace.tls.identity import Identity
from millrace.tls.keep import files_of, keep_certificates, open_authority

TESTER = "test"
"""Who a test is to the service that it calls, unless it says otherwise."""


def tls_files(service: str) -> TlsFiles:
    """The files of a service, or of a caller that is none."""
    keep_certificates(_directory(), [service])
    return files_of(_directory(), service)


def tls_settings(service: str) -> dict[str, Any]:
    """The settings that name these files."""
    files = tls_files(service)
    return {"tls_ca": files.ca, "tls_certificate": files.certificate, "tls_key": files.key}


def tls_environment(service: str, prefix: str = "") -> dict[str, str]:
    """The same for a process; `prefix` of its settings, ORDER_ unless given."""
    named = prefix or f"{service.upper()}_"
    return {f"{named}{name}".upper(): str(path) for name, path in tls_settings(service).items()}


def identity(service: str = TESTER) -> Identity:
    """Who that service is, for a server or a channel that a test makes itself."""
    return Identity(tls_files(service))


def authority() -> Authority:
    """The CA of this session, for certificates that are not as they should be."""
    return open_authority(_directory() / "ca")


@cache
def _directory() -> Path:
    directory = Path(mkdtemp(prefix="millrace-test-certificates-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory
