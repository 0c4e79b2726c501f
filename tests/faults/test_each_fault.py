"""One kind of fault at a time, at a place where it hurts."""

from __future__ import annotations

import asyncio
import io
import os
import pathlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from pybuild.errors import AuthError, DigestError, PybuildError, RegistryError
from pybuild.oci.blobs import BlobStore
from pybuild.oci.reference import Reference
from pybuild.registry.client import Registries
from pybuild.registry.options import RegistryOptions

from .proxy import Fault, FaultyProxy
from .support import (
    AMD64,
    QUICK,
    SampleImage,
    Served,
    auth_entry,
    clean_environment,
    push_sample,
    sample_image,
    write_docker_config,
)

pytestmark = pytest.mark.registry


def times(count: int, fault: Fault, when: Callable[[str, str, dict[str, str]], bool]) -> Callable[[str, str, dict[str, str]], Fault]:
    """A plan: the first ``count`` requests of a kind get the fault."""
    left = [count]

    def plan(method: str, path: str, headers: dict[str, str]) -> Fault:
        if left[0] and when(method, path, headers):
            left[0] -= 1
            return fault
        return "none"

    return plan


def is_blob(method: str, path: str, headers: dict[str, str]) -> bool:
    return method == "GET" and "/blobs/sha256:" in path


def is_put(method: str, path: str, headers: dict[str, str]) -> bool:
    return method == "PUT" and "/uploads/" in path


def is_manifest_put(method: str, path: str, headers: dict[str, str]) -> bool:
    return method == "PUT" and "/manifests/" in path


def is_api(method: str, path: str, headers: dict[str, str]) -> bool:
    return True


def push(proxy: FaultyProxy, image: SampleImage, name: str, home: pathlib.Path, options: RegistryOptions = QUICK) -> None:
    async def run() -> None:
        async with Registries(options, lambda e: None, clean_environment(home)) as registries:
            reference = Reference(proxy.host, name, "1")
            await registries.check_push(reference)
            await push_sample(registries, reference, image)

    asyncio.run(run())


def pull(
    proxy: FaultyProxy, image: SampleImage, name: str, home: pathlib.Path, store: BlobStore, options: RegistryOptions = QUICK, **env: str
) -> None:
    """Resolve and fetch; what arrives is the image, or an error is raised."""

    async def run() -> None:
        async with Registries(options, lambda e: None, clean_environment(home, **env)) as registries:
            reference = Reference(proxy.host, name, "1")
            found = await registries.resolve(reference, AMD64)
            assert found.digest == image.digest
            growing = [registries.download(reference, d, store) for d in found.layers]
            for descriptor, blob in zip(found.layers, growing, strict=True):
                path = await asyncio.to_thread(blob.wait)
                assert pathlib.Path(path).read_bytes() == image.blobs[descriptor.digest]

    asyncio.run(run())


def prepare(upstream: Served, name: str, home: pathlib.Path, sizes: tuple[int, ...] = (3_000_000,)) -> SampleImage:
    """An image in the registry, put there without the proxy."""
    image = sample_image(sizes, seed=os.urandom(8))

    async def run() -> None:
        async with Registries(QUICK, lambda e: None, clean_environment(home)) as registries:
            await push_sample(registries, upstream.reference(f"{name}:1"), image)

    asyncio.run(run())
    return image


@pytest.mark.parametrize("fault", ["reset before", "reset after", "500", "503", "429", "delay", "truncate", "reset in body", "redirect"])
def test_pull_survives(upstream: Served, home: pathlib.Path, tmp_path: pathlib.Path, fault: Fault) -> None:
    image = prepare(upstream, "each/pull", home)
    for place in (is_api, is_blob):
        with FaultyProxy(upstream.host, times(3, fault, place)).serve() as proxy:
            pull(proxy, image, "each/pull", home, BlobStore(str(tmp_path / place.__name__)))
            assert [a.fault for a in proxy.asked].count(fault) >= 2


@pytest.mark.parametrize("fault", ["reset before", "reset after", "500", "503", "429", "delay", "short upload", "corrupt upload", "reset in body"])
@pytest.mark.parametrize("place", [is_api, is_put, is_manifest_put])
def test_push_survives(upstream: Served, home: pathlib.Path, fault: Fault, place: Callable[[str, str, dict[str, str]], bool]) -> None:
    image = sample_image([1_500_000, 10], seed=os.urandom(8))
    name = f"each/push{os.urandom(4).hex()}"
    with FaultyProxy(upstream.host, times(2, fault, place)).serve() as proxy:
        push(proxy, image, name, home)
    assert upstream.whole_image(name, "1") == image.blobs


def test_download_goes_on_where_it_broke(upstream: Served, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    image = prepare(upstream, "each/resume", home)
    plan = times(3, "reset in body", lambda m, p, h: image.layers[0].digest in p)
    with FaultyProxy(upstream.host, plan, seed=5).serve() as proxy:
        pull(proxy, image, "each/resume", home, BlobStore(str(tmp_path / "store")))
    layer = [a for a in proxy.asked if image.layers[0].digest in a.path]
    starts = [int((a.range or "bytes=0-").removeprefix("bytes=").removesuffix("-")) for a in layer]
    assert len(starts) >= 2
    assert starts == sorted(starts)
    assert starts[-1] > 0


@pytest.mark.parametrize("fault", ["ignore range", "wrong range", "no such range"])
def test_server_with_broken_ranges(upstream: Served, home: pathlib.Path, tmp_path: pathlib.Path, fault: Fault) -> None:
    image = prepare(upstream, "each/ranges", home)
    first = times(1, "reset in body", lambda m, p, h: image.layers[0].digest in p)
    proxy = FaultyProxy(upstream.host, lambda m, p, h: fault if "Range" in h else first(m, p, h), seed=3)
    with proxy.serve():
        pull(proxy, image, "each/ranges", home, BlobStore(str(tmp_path / "store")))
    assert fault in [a.fault for a in proxy.asked]


def test_damage_on_the_way_is_noticed(upstream: Served, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    image = prepare(upstream, "each/damage", home)
    store = BlobStore(str(tmp_path / "store"))
    with FaultyProxy(upstream.host, lambda m, p, h: "corrupt answer" if image.layers[0].digest in p else "none").serve() as proxy:
        with pytest.raises(DigestError, match=rf"blob {image.layers[0].digest} of .*each/damage:1 arrived with digest sha256:"):
            pull(proxy, image, "each/damage", home, store)
    assert not store.has(image.layers[0].digest)
    assert os.listdir(tmp_path / "store" / "tmp") == []
    with FaultyProxy(upstream.host, lambda m, p, h: "corrupt answer" if image.config.digest in p else "none").serve() as proxy:
        with pytest.raises(DigestError, match="the config of "):
            pull(proxy, image, "each/damage", home, store)


@pytest.mark.parametrize("fault", ["truncate", "reset in body", "reset before", "503", "429"])
def test_fault_that_stays_ends_with_a_clear_error(upstream: Served, home: pathlib.Path, tmp_path: pathlib.Path, fault: Fault) -> None:
    image = prepare(upstream, "each/stays", home, (500_000,))
    store = BlobStore(str(tmp_path / "store"))
    options = replace(QUICK, attempts=3)
    # what broke off brings less than would count as progress
    proxy = FaultyProxy(upstream.host, lambda m, p, h: fault if image.layers[0].digest in p else "none", seed=1)
    with proxy.serve(), pytest.raises(RegistryError) as caught:
        pull(proxy, image, "each/stays", home, store, options)
    assert image.layers[0].digest in str(caught.value) or proxy.host in str(caught.value)
    assert not store.has(image.layers[0].digest)
    assert os.listdir(tmp_path / "store" / "tmp") == []


@pytest.mark.parametrize("place", [is_put, is_manifest_put])
@pytest.mark.parametrize("fault", ["reset before", "500", "corrupt upload"])
def test_push_that_fails_leaves_no_image(
    upstream: Served, home: pathlib.Path, fault: Fault, place: Callable[[str, str, dict[str, str]], bool]
) -> None:
    image = sample_image([700_000, 10], seed=os.urandom(8))
    name = f"each/failed{os.urandom(4).hex()}"
    proxy = FaultyProxy(upstream.host, lambda m, p, h: fault if place(m, p, h) else "none", seed=2)
    with proxy.serve(), pytest.raises(PybuildError):
        push(proxy, image, name, home, replace(QUICK, attempts=3))
    assert upstream.get(f"/v2/{name}/manifests/1")[0] == 404


def test_large_body_that_a_proxy_refuses_goes_in_chunks(upstream: Served, home: pathlib.Path) -> None:
    image = sample_image([20_000_000], seed=os.urandom(8))
    limit = 5_000_000

    def plan(method: str, path: str, headers: dict[str, str]) -> Fault:
        return "short upload" if int(headers.get("Content-Length", "0")) > limit else "none"

    with FaultyProxy(upstream.host, plan).serve() as proxy:
        push(proxy, image, "each/chunks", home, replace(QUICK, attempts=8))
    assert upstream.whole_image("each/chunks", "1") == image.blobs
    assert sum(a.method == "PATCH" and a.fault == "none" for a in proxy.asked) >= 4


def test_credentials_stay_with_the_registry(upstream: Served, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    image = prepare(upstream, "each/redirect", home)
    plan = lambda m, p, h: "redirect" if is_blob(m, p, h) and "Authorization" in h else "none"  # noqa: E731
    proxy = FaultyProxy(upstream.host, plan)
    proxy.fixed["/v2/"] = (401, {"WWW-Authenticate": 'Basic realm="test"'}, b"{}")
    with proxy.serve():
        env = write_docker_config(tmp_path / "docker", {"auths": {proxy.host: auth_entry("user", "s3cret")}})
        pull(proxy, image, "each/redirect", home, BlobStore(str(tmp_path / "store")), QUICK, **env)
    elsewhere = [a for a in proxy.asked if a.through_redirect]
    assert len(elsewhere) == 2
    assert all(a.authorization is None for a in elsewhere)
    assert all(a.authorization for a in proxy.asked if not a.through_redirect and a.path != "/v2/")


def test_registry_outside_does_not_lead_inside(upstream: Served, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pybuild.registry.transport as transport

    monkeypatch.setattr(transport, "is_private", lambda host: False)
    proxy = FaultyProxy(upstream.host, lambda m, p, h: "none")
    with proxy.serve():
        for realm in ("http://169.254.169.254/token", "https://10.0.0.1/token", "ftp://auth.example/token", "http://localhost:1/token"):
            proxy.fixed["/v2/"] = (401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'}, b"{}")
            with pytest.raises(RegistryError, match="names a token service that cannot be used"):
                push(proxy, sample_image([1]), "each/realm", home)
        proxy.fixed["/v2/"] = (200, {}, b"{}")
        digest = sample_image([1]).layers[0].digest
        for target in ("http://169.254.169.254/secret", "file:///etc/passwd", "http://localhost:1/"):
            proxy.fixed[f"/v2/each/inside/blobs/{digest}"] = (307, {"Location": target}, b"")

            async def run() -> None:
                async with Registries(QUICK, lambda e: None, clean_environment(home)) as registries:
                    await registries.has_blob(Reference(proxy.host, "each/inside", "1"), sample_image([1]).layers[0])

            with pytest.raises(RegistryError, match="leads to a"):
                asyncio.run(run())


def test_registry_that_wants_what_is_not_there(upstream: Served, home: pathlib.Path) -> None:
    proxy = FaultyProxy(upstream.host, lambda m, p, h: "none")
    proxy.fixed["/v2/"] = (401, {"WWW-Authenticate": 'Negotiate, Basic realm="a, b", Digest qop="auth"'}, b"{}")
    with proxy.serve(), pytest.raises(AuthError, match="wants a user and password"):
        push(proxy, sample_image([1]), "each/basic", home)


def test_upload_source_is_opened_anew_for_each_try(upstream: Served, home: pathlib.Path) -> None:
    image = sample_image([400_000], seed=os.urandom(8))
    opened = []

    async def run(proxy: FaultyProxy) -> None:
        async with Registries(QUICK, lambda e: None, clean_environment(home)) as registries:

            def opener() -> io.BytesIO:
                opened.append(io.BytesIO(image.blobs[image.layers[0].digest]))
                return opened[-1]

            assert await registries.upload_blob(Reference(proxy.host, "each/anew", "1"), image.layers[0], opener) == "uploaded"

    with FaultyProxy(upstream.host, times(2, "short upload", is_put)).serve() as proxy:
        asyncio.run(run(proxy))
    assert len(opened) == 3
    assert all(f.closed for f in opened)
