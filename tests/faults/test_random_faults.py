"""Random faults, several hundred of them, over pushes and pulls: what ends well is the image, what fails leaves none."""

from __future__ import annotations

import asyncio
import os
import pathlib
import random
from dataclasses import replace

import pytest

from pybuild.errors import PybuildError
from pybuild.oci.blobs import BlobStore
from pybuild.oci.reference import Reference
from pybuild.registry.client import Registries

from .proxy import Fault, FaultyProxy
from .support import AMD64, QUICK, Served, clean_environment, push_sample, sample_image

pytestmark = pytest.mark.registry

FAULTS: tuple[Fault, ...] = (
    "reset before", "reset after", "reset in body", "truncate", "short upload", "corrupt answer", "corrupt upload", "ignore range",
    "wrong range", "no such range", "500", "503", "429", "redirect", "delay",
)  # fmt: skip
OPTIONS = replace(QUICK, attempts=6, backoff=0.001)
#: more with PYBUILD_FAULTS=1000
WANTED = int(os.environ.get("PYBUILD_FAULTS", "120"))


class Plan:
    """A fault for a share of the requests. Ranges are broken only where there is one."""

    def __init__(self, seed: int, share: float) -> None:
        self.random = random.Random(seed)
        self.share = share
        self.made = 0

    def __call__(self, method: str, path: str, headers: dict[str, str]) -> Fault:
        if self.random.random() > self.share:
            return "none"
        fault = self.random.choice(FAULTS)
        if "range" in fault and "Range" not in headers:
            fault = "reset before"
        # a name that is asked for without a digest cannot be verified by anybody: a bit of its manifest may be another
        if fault == "corrupt answer" and (method != "GET" or "/blobs/" not in path):
            fault = "truncate"
        # a manifest that is damaged and still valid is noticed after it was stored
        if fault == "corrupt upload" and "/manifests/" in path:
            fault = "short upload"
        self.made += 1
        return fault


@pytest.mark.parametrize("share", [0.15, 0.45])
def test_no_wrong_and_no_half_image(upstream: Served, home: pathlib.Path, tmp_path: pathlib.Path, share: float) -> None:
    made = rounds = pushed = pulled = 0
    while made < WANTED:
        rounds += 1
        seed = int(share * 100) * 100_000 + rounds
        image = sample_image([300_000, 1_200_000, 40], seed=f"{share} {rounds} {os.getpid()}".encode())
        name = f"random/s{int(share * 100)}r{rounds}"
        plan = Plan(seed, share)
        store = BlobStore(str(tmp_path / f"store{rounds}"))

        async def push(host: str, image=image, name=name) -> None:  # type: ignore[no-untyped-def]
            async with Registries(OPTIONS, lambda e: None, clean_environment(home)) as registries:
                await push_sample(registries, Reference(host, name, "1"), image)

        async def pull(host: str, image=image, name=name, store=store) -> None:  # type: ignore[no-untyped-def]
            async with Registries(OPTIONS, lambda e: None, clean_environment(home)) as registries:
                reference = Reference(host, name, "1")
                found = await registries.resolve(reference, AMD64)
                assert found.digest == image.digest
                growing = [registries.download(reference, d, store) for d in found.layers]
                await asyncio.gather(*(asyncio.to_thread(g.wait) for g in growing))

        with FaultyProxy(upstream.host, plan, seed).serve() as proxy:
            try:
                asyncio.run(push(proxy.host))
                good = True
                pushed += 1
            except PybuildError:
                good = False
            stored = upstream.whole_image(name, "1")
            # a push may have succeeded though its last answer was lost; it is never half there, and never missing after success
            assert stored in (None, image.blobs)
            assert stored is not None or not good, f"seed {seed}: the push ended well, and there is no image"
            if stored is not None:
                try:
                    asyncio.run(pull(proxy.host))
                    pulled += 1
                    assert all(store.has(d.digest) for d in image.layers)
                except PybuildError:
                    pass
        for entry in pathlib.Path(store.path_, "sha256").iterdir():
            assert entry.read_bytes() == image.blobs[f"sha256:{entry.name}"], f"seed {seed}: a wrong blob in the store"
        assert os.listdir(os.path.join(store.path_, "tmp")) == []
        made += plan.made
    # most of it has to work: an error each time would be no wrong image either
    assert pushed >= rounds * (0.9 if share < 0.3 else 0.3)
    assert pulled >= pushed * 0.3
    print(f"{made} faults, {rounds} rounds, {pushed} pushed, {pulled} pulled")
