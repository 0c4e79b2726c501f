"""pybuild: a container image builder that needs no daemon and no privileges."""

from pybuild.version import VERSION as __version__

__all__ = ["__version__"]
