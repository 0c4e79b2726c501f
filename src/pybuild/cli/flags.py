"""What a flag is. The tables of flags are data; parsing, help and the page docs/flags.md are made from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["bool", "text", "int", "duration", "list", "names", "pairs", "map"]
Status = Literal["works", "accepted", "refused"]
Origin = Literal["kaniko", "kaniko 1.24", "kaniko fork", "pybuild"]

#: what each kind of value looks like, for people
KINDS: dict[Kind, str] = {
    "bool": "`--x` or `--x=true`, `--x=false`",
    "text": "a text",
    "int": "a whole number",
    "duration": "a duration like `30s`, `1h30m`",
    "list": "may be repeated; not split at commas",
    "names": "may be repeated; split at commas",
    "pairs": "`key=value`, may be repeated; the last value of a key counts",
    "map": "`key=value;key2=value2`, may be repeated; the values of a key add up",
}


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag.

    ``default`` is written as on a command line. ``old`` are spellings of old that still work; those in ``renamed`` say so.
    ``variable`` is an environment variable with the same meaning. ``status``: ``accepted`` flags change nothing and ``refused``
    ones end the program; both say why in ``note``. ``reason``: what is said about the use of
    an old spelling that is not in ``renamed``.
    """

    name: str
    kind: Kind
    meaning: str
    group: str
    default: str = ""
    short: str = ""
    value: str = ""
    old: tuple[str, ...] = ()
    renamed: tuple[str, ...] = ()
    variable: str = ""
    origin: Origin = "kaniko"
    status: Status = "works"
    note: str = ""
    reason: str = ""
    hidden: bool = False

    @property
    def title(self) -> str:
        """The flag as error messages name it."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"
