"""Builds the native extensions of ``src/_native`` (imported as ``pybuild._native``).

``src/pybuild/_native`` is a link to ``src/_native``, so that the sources stay in a folder of their own and the
package, its stubs and its declarations are found under the import name by every tool.
A module ``x.pyx`` that has an ``x_impl.c`` beside it is linked with it.
``PYBUILD_NATIVE=tar,index`` builds only the named modules, for development.
"""

import os
import pathlib

from Cython.Build import cythonize
from setuptools import Extension, setup

# by the link, and in a source distribution in its place
NATIVE = pathlib.Path("src/pybuild/_native")

CFLAGS = ["-O3", "-fno-strict-aliasing", "-fvisibility=hidden", "-Wall", "-Wno-unused-function"]


def extensions() -> list[Extension]:
    only = {name for name in os.environ.get("PYBUILD_NATIVE", "").split(",") if name}
    found = []
    for pyx in sorted(NATIVE.glob("*.pyx")):
        if only and pyx.stem not in only:
            continue
        impl = NATIVE / f"{pyx.stem}_impl.c"
        found.append(
            Extension(
                f"pybuild._native.{pyx.stem}",
                [str(pyx)] + ([str(impl)] if impl.exists() else []),
                include_dirs=[str(NATIVE)],
                define_macros=[("_GNU_SOURCE", "1"), ("_FILE_OFFSET_BITS", "64")],
                extra_compile_args=CFLAGS,
                libraries=["pthread"],
                extra_link_args=["-Wl,-z,now"],
            )
        )
    return found


setup(
    options={"build_ext": {"parallel": len(os.sched_getaffinity(0))}},
    ext_modules=cythonize(
        extensions(),
        include_path=["src"],
        compiler_directives={
            "language_level": "3",
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "embedsignature": True,
        },
    ),
)
