"""The passwords and keys of one home: random, made once, kept in a file that only its owner reads."""

import base64
import json
import secrets

from infra.local.errors import StackError
from infra.local.home import Home
from infra.local.process import write_atomically


class Secrets:
    """Named secrets of a home. Making one is safe to repeat: the first value stays."""

    def __init__(self, home: Home) -> None:
        self._file = home.secrets

    def get(self, name: str) -> str:
        """The secret of that name (32 random bytes, url-safe base64), made when it is asked for first.

        Raises StackError when the file is damaged: a new key would not open what the old one sealed.
        """
        known = self._read()
        if name not in known:
            known[name] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
            write_atomically(self._file, json.dumps(known, indent=2))
        return known[name]

    def _read(self) -> dict[str, str]:
        if not self._file.exists():
            return {}
        try:
            return dict(json.loads(self._file.read_text()))
        except ValueError as error:
            raise StackError(
                f"{self._file} is damaged: restore it, or start again with `millrace clean`"
            ) from error
