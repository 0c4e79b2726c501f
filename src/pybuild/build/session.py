"""What all stages of one build share: its options, its working directory, its blobs, the means to report and to cancel."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pybuild._native.cancel import Cancel
from pybuild.build.copy import SourceTree
from pybuild.build.options import BuildOptions
from pybuild.build.tree import Root
from pybuild.events import Emit, Log, Span
from pybuild.layer.types import Layer
from pybuild.oci.blobs import BlobStore

if TYPE_CHECKING:
    from pybuild._native.entries import EntryList
    from pybuild._native.match import Matcher
    from pybuild.build.media import LayerMediaTypes
    from pybuild.rootfs.isolation import Isolation


@dataclass(slots=True)
class Session:
    """One build. ``layer_done`` is called (from a worker thread) with each finished layer, so that its upload can start."""

    options: BuildOptions
    emit: Emit
    work_dir: str
    blobs: BlobStore
    cancel: Cancel
    context_fd: int
    ignore: Matcher | None
    now: float
    threads: int
    writers: ThreadPoolExecutor
    jobs: int
    layer_done: Callable[[Layer], None] = lambda layer: None
    _isolation: Isolation | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _steps: int = 0
    _directories: int = 0
    _context: Root | None = None

    @property
    def now_ns(self) -> int:
        return int(self.now * 1_000_000_000)

    @property
    def owners(self) -> bool:
        """Whether owners and devices can be made on disk; in indexes and layers they always are right."""
        return os.geteuid() == 0

    @property
    def created(self) -> float:
        """The time that config and history carry, in seconds since the epoch."""
        if self.options.source_date_epoch is not None:
            return float(self.options.source_date_epoch)
        return 0.0 if self.options.reproducible else self.now

    @property
    def clamp_ns(self) -> int:
        """The latest time that an entry of a layer may have, or -1."""
        epoch = self.options.source_date_epoch
        return -1 if epoch is None else epoch * 1_000_000_000

    def next_step(self) -> int:
        """A number for a step, unique within the build."""
        with self._lock:
            self._steps += 1
            return self._steps

    def directory(self, name: str) -> str:
        """A new empty directory of the build, mode 0755, removed with it."""
        with self._lock:
            self._directories += 1
            path = os.path.join(self.work_dir, f"{name}-{self._directories}")
        os.mkdir(path, 0o755)
        return path

    def log(self, message: str) -> None:
        self.emit(Log("info", message))

    def warn(self, message: str) -> None:
        self.emit(Log("warning", message))

    def debug(self, message: str) -> None:
        self.emit(Log("debug", message))

    def context(self) -> SourceTree:
        return SourceTree(self.context_fd, "build context", self.ignore, keep_owners=False)

    def context_root(self) -> Root:
        """The context as a directory that a RUN can be shown: the context itself, or a copy without what is ignored."""
        with self._lock:
            if self._context is None:
                self._context = Root(self.options.context) if self.ignore is None else self._filtered_context()
            return self._context

    def _filtered_context(self) -> Root:
        from pybuild._native.collect import collect
        from pybuild._native.entries import EntryList
        from pybuild._native.index import Index
        from pybuild.rootfs.materialize import materialize

        path = os.path.join(self.work_dir, "context")
        os.mkdir(path, 0o755)
        root = Root(path)
        entries = EntryList()
        collect(entries, entries.add_root(self.context_fd), "", "", ignore=self.ignore, uid=0, gid=0, cancel=self.cancel)
        entries.sort()
        materialize(entries, root.fd, Index(), owners=os.geteuid() == 0, cancel=self.cancel)
        return root

    def write_layer(self, entries: EntryList, media: LayerMediaTypes, title: str, *, upload: bool) -> Layer:
        """Turn sorted entries into a blob of the build's store; blocking."""
        from pybuild.layer.write import write_layer

        begin = time.monotonic()
        layer = write_layer(
            entries,
            self.blobs,
            media.compression,
            media_type=media.layer,
            threads=self.threads,
            clamp_mtime_ns=self.clamp_ns,
            cancel=self.cancel,
        )
        self.emit(Span("layer", title, begin, time.monotonic(), layer.uncompressed_size, {"digest": layer.descriptor.digest}))
        if upload:
            self.layer_done(layer)
        return layer

    def write_later(self, entries: EntryList, media: LayerMediaTypes, title: str, *, upload: bool) -> Future[Layer]:
        """Like ``write_layer``, while the build goes on: only for entries whose sources do not change any more."""
        return self.writers.submit(lambda: self.write_layer(entries, media, title, upload=upload))

    def check_cancelled(self) -> None:
        """Raise ``OSError`` ECANCELED when the build is being ended."""
        if self.cancel.is_set:
            raise OSError(errno.ECANCELED, "the build was cancelled")

    def isolated(self) -> Isolation:
        """How RUN steps are kept apart; probed when the first one comes."""
        with self._lock:
            if self._isolation is None:
                from pybuild.rootfs.isolation import choose

                self._isolation = choose(self.options.isolation)
                self.log(f"isolation: {self._isolation.name} ({self._isolation.reason})")
                for warning in self._isolation.warnings:
                    self.warn(warning)
            return self._isolation

    def cache_mounts(self) -> str:
        """The directory for cache mounts: the cache directory when it is there and can be written to, else the build's own."""
        if os.path.isdir(self.options.cache_dir) and os.access(self.options.cache_dir, os.W_OK):
            return self.options.cache_dir
        return self.work_dir
