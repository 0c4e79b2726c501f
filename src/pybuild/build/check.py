"""The build checks alone: what ``--check`` tells, without a registry, a root or a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.build.orchestrate import ignore_rules, read_dockerfile
from pybuild.dockerfile.checks import ignored_sources
from pybuild.dockerfile.instructions import Add, Copy

if TYPE_CHECKING:
    from pybuild.build.options import BuildOptions
    from pybuild.dockerfile.instructions import Warning_


def check(options: BuildOptions) -> list[Warning_]:
    """All findings that the Dockerfile and the context's ignore file decide, in the order of the lines.

    Raises ``DockerfileError`` and ``ContextError`` for what cannot be read at all."""
    dockerfile = read_dockerfile(options, fail_on_findings=False)
    found = list(dockerfile.warnings)
    ignore = ignore_rules(options)
    if ignore is not None:
        for stage in dockerfile.stages:
            for instruction in stage.instructions:
                if isinstance(instruction, Copy | Add) and "$" not in "".join(instruction.sources):
                    found += ignored_sources(instruction, ignore)
    return sorted(found, key=lambda finding: finding.place.line)
