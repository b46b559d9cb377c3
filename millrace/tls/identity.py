"""Who this process is, while it runs: files that were renewed count from the next connection on."""

import time
from threading import Lock
from typing import Final

from millrace.telemetry.logging import get_logger
from millrace.tls.files import Credentials, TlsError, TlsFiles

log = get_logger(__name__)

_LOOK_EVERY: Final = 1.0  # seconds


class Identity:
    """The credentials of this process. Threads may share one: gRPC asks for them in threads of its own."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises TlsError as TlsFiles.read."""
        self._files = files
        self._lock = Lock()
        self._stamp = files.stamp()  # before they are read: what changes meanwhile is read again
        self._current = files.read()
        self._look_at = time.monotonic() + _LOOK_EVERY

    def current(self) -> Credentials:
        """Those that are to be used now, the same object until the files changed. Files that can't be used
        are logged, and the last good ones stay."""
        with self._lock:
            if time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + _LOOK_EVERY
                self._look()
            return self._current

    def _look(self) -> None:
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._current = self._files.read()
        except TlsError as error:  # perhaps a half of a renewal: the other half is another change
            log.warning("renewed certificate is not used yet", setting=error.setting, error=str(error))
        else:
            log.info("certificate was renewed", expires=self._current.expires.isoformat())
