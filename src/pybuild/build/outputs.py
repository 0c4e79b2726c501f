"""What becomes of the finished stage: config, manifest, files, layout, archive, push. In the order that kaniko writes them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pybuild.build.history import timestamp
from pybuild.build.result import BuildResult, LayerSummary
from pybuild.errors import AuthError, OutputError, PybuildError, RegistryError
from pybuild.oci.descriptor import DOCKER_LAYER_GZIP, DOCKER_MANIFEST, OCI_LAYER, OCI_LAYER_GZIP, Descriptor
from pybuild.oci.manifest import manifest_bytes

if TYPE_CHECKING:
    from pybuild.build.orchestrate import Build
    from pybuild.build.stage import FinishedImage
    from pybuild.oci.layout import Readable
    from pybuild.oci.reference import Reference

PERMISSION_ADVICE = (
    "error checking push permissions -- make sure you entered the correct tag name, and that you are authenticated correctly, and try again"
)


async def check_push_permission(build: Build) -> None:
    """Ask every destination whether it will take a push, before anything is built."""
    options = build.session.options
    if options.no_push or options.skip_push_permission_check:
        return
    for destination in options.destinations:
        try:
            await build.registries().check_push(destination)
        except PybuildError as e:
            e.args = (f'{PERMISSION_ADVICE}: checking push permission for "{destination}": {e.message}',)
            e.message = str(e.args[0])
            raise


def converted(layers: tuple[Descriptor, ...], manifest_type: str) -> tuple[Descriptor, ...]:
    """Layers with the media types that belong into a manifest of this type; their bytes stay as they are."""
    found = []
    for layer in layers:
        media_type = layer.media_type
        if manifest_type == DOCKER_MANIFEST and media_type == OCI_LAYER_GZIP:
            media_type = DOCKER_LAYER_GZIP
        elif manifest_type != DOCKER_MANIFEST and media_type == DOCKER_LAYER_GZIP:
            media_type = OCI_LAYER_GZIP
        elif manifest_type == DOCKER_MANIFEST and media_type.startswith(OCI_LAYER):
            raise OutputError(
                f"a layer of the base is {media_type}, which a docker image cannot have", hint="leave out --image-format=docker"
            )
        found.append(Descriptor(media_type, layer.digest, layer.size, layer.annotations, None, layer.urls))
    return tuple(found)


async def write_outputs(build: Build, image: FinishedImage) -> BuildResult:
    """Put the image together and write every output that was asked for."""
    session = build.session
    options = session.options
    image.config.document["created"] = timestamp(session.created)
    if options.reproducible:
        for key in ("container", "container_config", "docker_version"):
            image.config.document.pop(key, None)
    config = image.config.to_bytes()
    digest, size = session.blobs.put(config)
    descriptor = Descriptor(image.media_types.config, digest, size)
    layers = converted(image.layers, image.media_types.manifest)
    manifest = manifest_bytes(image.media_types.manifest, descriptor, layers, options.annotations)
    manifest_digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    base_count = len(layers) - len(image.built)
    result = BuildResult(
        manifest_digest,
        manifest,
        image.media_types.manifest,
        image.config.document,
        tuple(LayerSummary(layer.digest, layer.size, i < base_count) for i, layer in enumerate(layers)),
        () if options.no_push else tuple(str(d) for d in options.destinations),
    )
    with output_errors():
        write_digest_files(build, manifest_digest)
    if options.oci_layout_path or options.tar_path:
        await fetch_missing(build, image)
        with output_errors():
            await asyncio.to_thread(write_local, build, image, manifest, descriptor, layers)
    if options.no_push:
        session.log("Skipping push to container registry due to --no-push flag")
    elif options.destinations:
        await push(build, image, manifest, descriptor, layers)
    return result


@contextlib.contextmanager
def output_errors() -> Iterator[None]:
    """Operating system errors of outputs name the output."""
    try:
        yield
    except OSError as e:
        raise OutputError(f"cannot write {e.filename or 'the output'}: {e.strerror or e}") from e


def write_digest_files(build: Build, digest: str) -> None:
    from pybuild.output.digest_files import write_digest_file, write_image_name_files

    options = build.session.options
    if options.digest_file:
        write_digest_file(options.digest_file, digest)
    if options.image_name_with_digest_file or options.image_name_tag_with_digest_file:
        write_image_name_files(
            options.image_name_with_digest_file, options.image_name_tag_with_digest_file, options.destinations, digest
        )


async def fetch_missing(build: Build, image: FinishedImage) -> None:
    """Have every layer of a registry's base in the build's store."""
    base = image.base
    if base is None or base.reference is None:
        return
    growing = [build.downloads().start(base.reference, layer) for layer in base.image.layers]
    for blob in growing:
        if blob is not None:
            await build.loop.run_in_executor(build.executor, blob.wait)


def open_layer(build: Build, image: FinishedImage, digest: str) -> Readable:
    """A blob of the image, from the build's store or, verified while it is read, from the base's layout."""
    from pybuild.oci.layout import open_verified

    if not build.session.blobs.has(digest) and image.base is not None and image.base.layout:
        for layer in image.base.image.layers:
            if layer.digest == digest:
                return open_verified(image.base.layout, layer)
    return build.session.blobs.open(digest)


def write_local(
    build: Build, image: FinishedImage, manifest: bytes, config: Descriptor, layers: tuple[Descriptor, ...]
) -> None:
    """The layout and the archive."""
    options = build.session.options
    if options.oci_layout_path:
        from pybuild.oci.layout import write_layout

        blobs = [(d.digest, lambda digest=d.digest: open_layer(build, image, digest)) for d in (config, *layers)]
        write_layout(options.oci_layout_path, manifest, image.media_types.manifest, blobs)
        build.session.log(f"Wrote OCI layout to {options.oci_layout_path}")
    if options.tar_path:
        from pybuild.output.archive import write_archive

        write_archive(
            options.tar_path,
            config,
            layers,
            options.tags or tuple(str(d) for d in options.destinations),
            lambda digest: open_layer(build, image, digest),
        )
        build.session.log(f"Wrote image archive to {options.tar_path}")


async def push(
    build: Build, image: FinishedImage, manifest: bytes, config: Descriptor, layers: tuple[Descriptor, ...]
) -> None:
    """Every blob to every repository that lacks it, then the manifest to every tag."""
    session = build.session
    destinations = session.options.destinations
    results = await asyncio.gather(*build.uploads, return_exceptions=True)
    for early in results:
        if isinstance(early, BaseException):
            session.debug(f"an early upload failed and is tried again: {early}")
    base = image.base
    base_digests = {layer.digest: layer for layer in base.image.layers} if base is not None else {}

    async def put(destination: Reference, descriptor: Descriptor) -> None:
        registries = build.registries()
        from_base = descriptor.digest in base_digests
        sources = [base.reference] if from_base and base is not None and base.reference is not None else []
        if await registries.has_blob(destination, descriptor) or await registries.mount_blob(destination, descriptor, sources):
            return
        if sources and not session.blobs.has(descriptor.digest):
            growing = build.downloads().start(sources[0], base_digests[descriptor.digest])
            if growing is not None:
                await build.loop.run_in_executor(build.executor, growing.wait)
        await registries.upload_blob(destination, descriptor, lambda: open_layer(build, image, descriptor.digest))

    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    for destination in destinations:
        session.log(f"Pushing image to {destination.familiar}")
        try:
            await asyncio.gather(*(put(destination, d) for d in (config, *layers)))
            await build.registries().put_manifest(destination, manifest, image.media_types.manifest)
        except (AuthError, RegistryError) as e:
            e.args = (f"failed to push to destination {destination}: {e.message}",)
            e.message = str(e.args[0])
            raise
        session.log(f"Pushed {destination.name}@{digest}")
    if os.environ.get("BUILDER_OUTPUT"):
        from pybuild.output.digest_files import write_builder_output

        with output_errors():
            write_builder_output(os.environ["BUILDER_OUTPUT"], destinations, digest)
