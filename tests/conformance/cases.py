"""Cases: a Dockerfile, what is around it, and what must come out.

A case is a folder with a ``Dockerfile`` (``@BASE@`` is the base image), an optional ``context/``, an optional ``setup.sh`` (run in
the context first), an optional ``case.json`` (``build_args``, ``target``, ``dockerignore``) and ``expected.json``: config and files
as a difference from the base, or ``{"error": true}`` where the build must fail.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from .image import Tree, merged, read_layout

CASES = pathlib.Path(__file__).with_name("cases")
#: files of a context have this time, and an expectation with this time is meant
CONTEXT_TIME = 1_600_000_000
_NOT_COMPARED = re.compile(r"(dev|proc|sys)(/|$)|etc/(resolv\.conf|hosts|hostname|mtab)$|$")


@dataclass(frozen=True)
class Prepared:
    """A case, laid out: the builder's arguments besides the base and the outputs."""

    context: pathlib.Path
    arguments: tuple[str, ...]


def names() -> list[str]:
    return sorted(path.name for path in CASES.iterdir() if (path / "Dockerfile").exists())


def expected(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CASES / name / "expected.json").read_text())
    return found


def prepare(name: str, work: pathlib.Path, base: str) -> Prepared:
    """Lay a case out in ``work``; ``base`` is what the Dockerfile calls the base image."""
    case = CASES / name
    context = work / "context"
    if (case / "context").exists():
        shutil.copytree(case / "context", context, symlinks=True)
    else:
        context.mkdir()
    spec = json.loads((case / "case.json").read_text()) if (case / "case.json").exists() else {}
    if "dockerignore" in spec:
        (context / ".dockerignore").write_text(spec["dockerignore"])
    for path in (context, *context.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    if (case / "setup.sh").exists():
        subprocess.run(["sh", str(case / "setup.sh")], cwd=context, check=True)
    for path in (*context.rglob("*"), context):
        os.utime(path, (CONTEXT_TIME, CONTEXT_TIME), follow_symlinks=False)
    dockerfile = work / "Dockerfile"
    dockerfile.write_text((case / "Dockerfile").read_text().replace("@BASE@", base))
    arguments = [f"--context={context}", f"--dockerfile={dockerfile}"]
    arguments += [f"--build-arg={pair}" for pair in spec.get("build_args", ())]
    arguments += [f"--target={spec['target']}"] if "target" in spec else []
    return Prepared(context, tuple(arguments))


def describe(layout: pathlib.Path, base: Tree) -> dict[str, Any]:
    """An image as expectations are written: config, and files that differ from the base's."""
    _, config, tars = read_layout(layout)
    tree = {path: entry for path, entry in merged(tars).items() if not _NOT_COMPARED.match(path)}
    from_base = len(tree.keys() & base.keys()) > len(base) // 2
    return {
        "os": config["os"],
        "architecture": config["architecture"],
        "config": {key: value for key, value in config.get("config", {}).items() if value},
        "layers": len(tars),
        "from_base": from_base,
        "changed": {path: entry for path, entry in sorted(tree.items()) if not from_base or base.get(path) != entry},
        "deleted": sorted(p for p in base if p not in tree and not _NOT_COMPARED.match(p)) if from_base else [],
    }


def without_free_times(description: dict[str, Any]) -> dict[str, Any]:
    """Without the times that a build sets to now, and what depends on the machine."""
    changed = {}
    for path, entry in description["changed"].items():
        kept = dict(entry)
        if kept.get("mtime", CONTEXT_TIME) != CONTEXT_TIME:
            del kept["mtime"]
        changed[path] = kept
    return {key: value for key, value in description.items() if key not in ("architecture", "layers")} | {
        "changed": changed
    }
