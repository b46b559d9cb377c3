"""Where the local stack keeps its data, logs, pid files and downloads.

Everything lives under one directory, `.millrace` in the repository unless MILLRACE_HOME says otherwise:

    data/<component>/   what must survive a restart        run/<component>.json   who runs (see process.py)
    logs/<component>.log                                   secrets.json           passwords, mode 0600
    certificates/<service>/  and the CA's, mode 0700
    cache/              downloads; shared by every home of this checkout, so that tests fetch nothing twice
"""

import os
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
        """Makes the directories; safe to call again."""
        for name in ("data", "logs", "run"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
