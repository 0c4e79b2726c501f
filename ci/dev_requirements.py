"""Prints what tests and checks need from the package index, so that it can be installed without building the project again."""

import pathlib
import tomllib

PROJECT = pathlib.Path(__file__).resolve().parents[1] / "pyproject.toml"

print("\n".join(tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]["dev"]))
