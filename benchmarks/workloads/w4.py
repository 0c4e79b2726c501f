"""W4: COPY of 100,000 real files, without and with fifty patterns in .dockerignore."""

from __future__ import annotations

import os

from benchmarks.samples import write_context
from benchmarks.workloads.common import SEED, Prepared, Setup, Workload, dockerfile, packing, push_busybox

FILES, BYTES = 100_000, 1_900_000_000

#: As projects write them: names anywhere, folders, extensions, some taken back, a good part that matches nothing.
PATTERNS = """\
# version control and editors
.git
**/.git
**/.svn
**/.hg
**/.idea
**/.vscode
**/*.swp
**/*~
**/.DS_Store
# python
**/__pycache__
**/*.pyc
**/*.pyo
**/*.egg-info
!**/pip*.egg-info
**/.tox
**/.venv
**/.mypy_cache
**/test_*.py
**/tests
!**/tests/__init__.py
# javascript
**/node_modules/.cache
**/*.map
**/*.min.js
**/bower_components
**/npm-debug.log*
# compiled
**/*.o
**/*.a
**/*.la
**/*.class
**/*.obj
**/target/debug
bin/Debug
bin/Release
# documentation
share/doc
!share/doc/*/copyright
share/man
share/info
**/README*
**/CHANGELOG*
**/*.md
!LICENSE.md
**/LICENSE-[A-Z]*
# locales and the rest
share/locale/[a-d]*
share/locale/??_*
**/*.po
**/*.gmo
**/Dockerfile*
**/docker-compose*.yml
**/.env.*
**/secrets/*.key
"""


def prepare(setup: Setup) -> Prepared:
    return prepare_copy(setup)


def prepare_ignored(setup: Setup) -> Prepared:
    return prepare_copy(setup, ignore=PATTERNS)


def prepare_copy(setup: Setup, ignore: str = "") -> Prepared:
    base = push_busybox(setup)
    context, path = dockerfile(setup, f"FROM {base}\nCOPY . /data/\n", ignore)
    items = setup.files.take(setup.scaled(FILES, 100), setup.scaled(BYTES), SEED)
    write_context(context, items)
    what = f"{len(items)} files of {sum(item.size for item in items) / 1e9:.2f} GB"
    patterns = sum(1 for line in ignore.splitlines() if line and not line.startswith("#"))
    if ignore:
        return Prepared(context, path, f"{what}, {patterns} patterns")
    return Prepared(context, path, what, files=len(items), floors=packing(os.path.abspath(context)))


WORKLOADS = (
    Workload("W4", "COPY of 100,000 real files", prepare),
    Workload("W4-ignore", "the same with 50 .dockerignore patterns", prepare_ignored),
)
