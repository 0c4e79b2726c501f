"""Writes docs/flags.md from the declarations of the flags. With --check it only says whether the page is current."""

import pathlib
import sys

from pybuild.cli.executor_flags import EXECUTOR_FLAGS
from pybuild.cli.flags import KINDS, Flag

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "flags.md"
HEAD = """# Flags of the build command

Made by `ci/flags_page.py` from the program's own table; `pybuild --help` shows the same.

*From* says where a flag comes from: `kaniko` is in kaniko 1.24 and in its fork, `kaniko fork` in the fork (osscontainertools/kaniko)
alone, `pybuild` in neither. *Status*: `works`; `no effect` for flags that are accepted and change nothing, with the reason;
`refused` for those that would have to do something that pybuild does not do.

Values are read as kaniko reads them: `--name value`, `--name=value`, `-n value`, `-nvalue`. A boolean takes its value after `=` only.

| kind | form |
| --- | --- |
"""


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def row(flag: Flag) -> str:
    names = f"`-{flag.short}`, `--{flag.name}`" if flag.short else f"`--{flag.name}`"
    if flag.old:
        names += " (also " + ", ".join(f"`--{name}`" for name in flag.old) + ")"
    meaning = flag.meaning + (f" Environment: `{flag.variable}`." if flag.variable else "")
    status = {"works": "works", "accepted": f"no effect: {flag.note}", "refused": f"refused: {flag.note}"}[flag.status]
    default = f"`{flag.default}`" if flag.default else ""
    return f"| {names} | {flag.kind} | {default} | {escaped(meaning)} | {flag.origin} | {escaped(status)} |"


def page() -> str:
    lines = [HEAD + "\n".join(f"| {kind} | {form} |" for kind, form in KINDS.items())]
    for group in dict.fromkeys(flag.group for flag in EXECUTOR_FLAGS):
        lines += ["", f"## {group}", "", "| flag | kind | default | meaning | from | status |", "| --- | --- | --- | --- | --- | --- |"]
        lines += [row(flag) for flag in EXECUTOR_FLAGS if flag.group == group]
    return "\n".join(lines) + "\n"


def main(check: bool) -> int:
    text = page()
    if not check:
        PAGE.write_text(text)
        return 0
    if not PAGE.exists() or PAGE.read_text() != text:
        print(f"{PAGE} is not current: run ci/flags_page.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
