"""W3: Debian and twenty small RUN steps. What a step costs."""

from __future__ import annotations

from benchmarks.debian import push_debian
from benchmarks.workloads.common import Prepared, Setup, Workload, dockerfile, in_full_mode

STEPS = (
    "mkdir -p /srv/app/{n} && echo {n} > /srv/app/{n}/file",
    "for i in 1 2 3 4 5 6 7 8 9; do echo $i > /srv/part-{n}-$i; done",
    "echo option{n}=yes >> /etc/app.conf",
    "cp /etc/passwd /srv/passwd-{n} && chmod 600 /srv/passwd-{n}",
    "mv /srv/part-{p}-1 /srv/moved-{n} 2>/dev/null || ln -sf /etc/hostname /srv/link-{n}",
)


def prepare(setup: Setup) -> Prepared:
    base = push_debian(setup)
    count = setup.scaled(20, 3)
    steps = [f"RUN {STEPS[n % len(STEPS)].format(n=n, p=n - 3)}" for n in range(count)]
    context, path = dockerfile(setup, "\n".join([f"FROM {base}", *steps, ""]))
    return Prepared(context, path, f"{count} RUN steps")


WORKLOADS = (
    Workload("W3", "debian, 20 small RUN steps", prepare),
    Workload("W3-full", "the same, snapshot mode full", in_full_mode(prepare), kaniko_only=True),
)
