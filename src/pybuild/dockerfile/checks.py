"""Build checks (placeholder until the rules follow below)."""

from __future__ import annotations

from pybuild.dockerfile.instructions import Dockerfile, Warning_


def check_dockerfile(dockerfile: Dockerfile) -> tuple[Warning_, ...]:
    return dockerfile.warnings
