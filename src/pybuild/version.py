"""The version of the package; the one place it is written besides pyproject.toml."""

VERSION = "0.1.0"
