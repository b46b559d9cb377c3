"""Where the local stack keeps its data, logs, pid files and downloads.

Everything lives under one directory, `.millrace` in the repository unless MILLRACE_HOME says otherwise:

    data/<component>/   what must survive a restart        run/<component>.json   who runs (see process.py)
    logs/<component>.log                                   secrets.json           passwords
    certificates/<service>/  and the CA's
    cache/              downloads; shared by every home of this checkout, so that tests fetch nothing twice

Nobody else of the machine may read any of it but the cache: directories have the mode 0700, files 0600.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def default_home() -> Path:
    """The directory named by MILLRACE_HOME, else `.millrace` in the repository."""
    return Path(os.environ.get("MILLRACE_HOME") or REPOSITORY / ".millrace").absolute()


def cache_directory() -> Path:
    """Where downloads are kept. MILLRACE_CACHE overrides."""
    return Path(os.environ.get("MILLRACE_CACHE") or default_home() / "cache").absolute()


@dataclass(frozen=True)
class Home:
    """The files of one stack. Two stacks with different homes (and ports) don't touch each other."""

    root: Path

    def data(self, component: str) -> Path:
        return self.root / "data" / component

    def log(self, component: str) -> Path:
        return self.root / "logs" / f"{component}.log"

    def pid_file(self, component: str) -> Path:
        return self.root / "run" / f"{component}.json"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets.json"

    @property
    def certificates(self) -> Path:
        return self.root / "certificates"

    def create(self) -> None:
        """Makes the directories; safe to call again. What is in them is private: only a way leads through
        `data`, to the directory of a database server that runs as another user than root."""
        for name, mode in (("data", 0o711), ("logs", 0o700), ("run", 0o700)):
            directory = self.root / name
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(mode)
        for directory in (self.root / "data").iterdir():
            # Another command has just removed it, or it is another user's.
            with suppress(FileNotFoundError, PermissionError):
                directory.chmod(0o700 if directory.is_dir() else 0o600)
