"""The registries and images of the registry tests, for these tests too."""

from __future__ import annotations

import importlib.util
import pathlib
import sys

_PATH = pathlib.Path(__file__).parents[1] / "integration" / "registry" / "support.py"
_SPEC = importlib.util.spec_from_file_location("registry_support", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
# dataclasses look their module up by its name
sys.modules["registry_support"] = _MODULE
_SPEC.loader.exec_module(_MODULE)

AMD64 = _MODULE.AMD64
QUICK = _MODULE.QUICK
SampleImage = _MODULE.SampleImage
Served = _MODULE.Served
auth_entry = _MODULE.auth_entry
clean_environment = _MODULE.clean_environment
push_sample = _MODULE.push_sample
sample_image = _MODULE.sample_image
serve = _MODULE.serve
write_docker_config = _MODULE.write_docker_config
