"""W7: four stages that do not need one another, and a fifth that copies from each. What a builder runs side by side."""

from __future__ import annotations

from benchmarks.debian import push_debian
from benchmarks.workloads.common import Prepared, Setup, Workload, dockerfile

STAGES, BYTES, SMALL = 4, 90_000_000, 400

STAGE = """\
FROM {base} AS part{n}
RUN mkdir /out && find /usr -xdev -type f | sort | xargs cat | tail -c +{skip} | head -c {size} | gzip -6 > /out/part{n}.gz
RUN mkdir /out/small && i=0; while [ $i -lt {small} ]; do echo {n} $i > /out/small/$i; i=$((i+1)); done
"""


def prepare(setup: Setup) -> Prepared:
    base = push_debian(setup)
    size, small = setup.scaled(BYTES), setup.scaled(SMALL)
    text = "".join(STAGE.format(base=base, n=n, skip=1 + n * 10_000_000, size=size, small=small) for n in range(STAGES))
    text += f"FROM {base}\n" + "".join(f"COPY --from=part{n} /out /parts/{n}\n" for n in range(STAGES))
    context, path = dockerfile(setup, text)
    what = f"{STAGES} stages, each gzip of {size / 1e6:.0f} MB and {small} small files"
    return Prepared(context, path, what, files=STAGES * (small + 1))


WORKLOADS = (Workload("W7", "four independent stages, COPY --from each", prepare),)
