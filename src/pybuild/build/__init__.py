"""Building: from a parsed Dockerfile and a context to an image and its outputs. ``run`` is the way in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pybuild.build.options import BuildOptions
    from pybuild.build.result import BuildResult
    from pybuild.events import Emit
    from pybuild.registry.options import RegistryOptions


def run(options: BuildOptions, registry_options: RegistryOptions, emit: Emit) -> BuildResult:
    """Carry out a build and write its outputs; blocking.

    Raises ``PybuildError``; ``Interrupted`` when SIGINT or SIGTERM ended it. Whatever happens, no process, mount or temporary
    file of the build remains.
    """
    from pybuild.build.main import run_to_end

    return run_to_end(options, registry_options, emit)
