"""What a build is asked to do, as plain data. ``cli`` makes it from flags, environment and configuration files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pybuild.layer.types import Compression
from pybuild.oci.platform import Platform
from pybuild.oci.reference import Reference


@dataclass(frozen=True, slots=True)
class SecretSource:
    """``--secret``: where the value of a secret comes from. ``kind`` is ``file`` or ``env``."""

    id: str
    kind: Literal["file", "env"]
    source: str


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """A build. Paths are absolute. ``dockerfile`` is a path, ``dockerfile_name`` the way the user wrote it (for messages)."""

    context: str
    dockerfile: str
    dockerfile_name: str
    destinations: tuple[Reference, ...] = ()
    #: the destinations as they were written, with a tag, for archives
    tags: tuple[str, ...] = ()
    #: ``--build-arg``: bare names are already resolved from the environment
    build_args: dict[str, str] = field(default_factory=dict)
    target: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    #: ``--build-context name=value``
    named_contexts: dict[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    secrets: tuple[SecretSource, ...] = ()
    #: ``--ssh id=socket``
    ssh: dict[str, str] = field(default_factory=dict)

    no_push: bool = False
    tar_path: str = ""
    oci_layout_path: str = ""
    digest_file: str = ""
    image_name_with_digest_file: str = ""
    image_name_tag_with_digest_file: str = ""
    skip_push_permission_check: bool = False

    snapshot_mode: Literal["full", "redo", "time"] = "full"
    single_snapshot: bool = False
    ignore_paths: tuple[str, ...] = ()
    compression: Compression = field(default_factory=Compression)
    image_format: Literal["", "docker", "oci"] = ""
    reproducible: bool = False
    #: seconds since the epoch, or None
    source_date_epoch: int | None = None

    isolation: Literal["auto", "namespaces", "chroot", "in-place"] = "auto"
    force: bool = False
    #: the builder's own directory: blobs, roots, cache mounts. Made when missing
    work_dir: str = ""
    cache_dir: str = "/cache"
    #: threads for compression and walking, stages at a time; 0 means by the processors this process may use
    threads: int = 0
    jobs: int = 0
    #: ``--check``: only the build checks
    check_only: bool = False
