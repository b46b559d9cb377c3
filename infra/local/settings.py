"""Who decides a setting of a program that the stack starts: the environment of the user, except for what the
stack itself has to know (ports, addresses, databases, generated keys). A variable is never ignored in
silence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.local.errors import StackError


@dataclass(frozen=True)
class Settings:
    """The environment of one program. `refused`: variables of the user that the stack decides differently."""

    env: Mapping[str, str]
    refused: Sequence[str] = ()

    def require(self, component: str) -> None:
        """Raises StackError, which names the variables and the remedy, when the user set one that the stack
        decides."""
        if self.refused:
            names, them = ", ".join(self.refused), "them" if len(self.refused) > 1 else "it"
            raise StackError(
                f"{component}: the stack decides {names}: unset {them} (MILLRACE_<NAME>_PORT moves a port"
                f" of the stack)"
            )


def settle(
    prefix: str,
    given: Mapping[str, str],
    defaults: Mapping[str, str],
    fixed: Mapping[str, str],
    withheld: Mapping[str, str] | None = None,
) -> Settings:
    """The environment of the program whose variables begin with `prefix`.

    `given`: the user's environment, of which only the variables with the prefix count. They win over
    `defaults`, and may not differ from `fixed`, nor from `withheld`, which the program does not get; an empty
    one counts as not set there.
    """
    withheld = withheld or {}
    users = {name: value for name, value in given.items() if name.startswith(prefix)}
    decided = {**fixed, **withheld}
    refused = [name for name in sorted(decided) if users.get(name) and users[name] != decided[name]]
    env = {**defaults, **users, **fixed}
    return Settings({name: value for name, value in env.items() if name not in withheld}, refused)
