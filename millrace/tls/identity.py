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
        self._refused: tuple[object, ...] = ()
        self._look_at = time.monotonic() + _LOOK_EVERY

    def current(self) -> Credentials:
        """Those that are to be used now, the same object until the files changed. Files with which the
        process would not start are logged, and the last good ones stay until they are put right."""
        with self._lock:
            if time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + _LOOK_EVERY
                self._look()
            return self._current

    def _look(self) -> None:
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return
        try:
            self._current = self._files.read()
        except TlsError as error:  # perhaps a half of a renewal
            self._refuse(stamp, error)
        else:
            self._stamp = stamp
            log.info("certificate was renewed", expires=self._current.expires.isoformat())

    def _refuse(self, stamp: tuple[object, ...], error: TlsError) -> None:
        """The next look reads them again: `chmod` and the clock change no stamp. Logged once."""
        if self._refused != (stamp, str(error)):
            self._refused = (stamp, str(error))
            log.warning("renewed certificate is not used yet", setting=error.setting, error=str(error))
