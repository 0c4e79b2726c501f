"""The change detector. See ``Index.scan`` and ``Index.refresh``."""

from collections.abc import Sequence

from pybuild._native.cancel import Cancel
from pybuild._native.entries import EntryList
from pybuild._native.index import Index

def scan(
    index: Index, rootfd: int, mode: str, ignore: Sequence[str], threads: int, cancel: Cancel | None, owners: bool
) -> EntryList: ...
def refresh(index: Index, rootfd: int, paths: Sequence[str]) -> None: ...
