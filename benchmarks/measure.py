"""Runs commands one after the other and says what they used.

As a module: :func:`measure`. As a program (which is how :func:`measure` uses it): a job as JSON on stdin, the figures as
JSON on stdout. It is a process of its own, so that what it has waited for is exactly what the job used:

* wall: monotonic clock, from before the first command starts until the last has ended; seconds.
* cpu: user + system of everything the commands started, from ``getrusage(RUSAGE_CHILDREN)`` of this process. It is a
  child subreaper, so a process whose parent died is waited for and counted here too.
* memory: the highest sum of the resident sets (``statm``, shared pages of each process included) of the whole process
  tree, sampled every 5 ms in the first quarter second and every 25 ms after it; never less than ``largest``. Bytes.
  The page cache is not part of it.
* largest: the largest resident set of one process as the kernel recorded it (``ru_maxrss``), bytes.

Only the standard library is used, and nothing from the rest of this package: it is started with ``-S -E`` to stay small.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

PR_SET_CHILD_SUBREAPER = 36
PAGE = os.sysconf("SC_PAGE_SIZE")
QUICK_UNTIL = 0.25  # seconds sampled at the quick interval
QUICK, SLOW = 0.005, 0.025
GRACE = 2.0  # seconds for processes left behind, before they are killed


@dataclass(frozen=True)
class Command:
    """One command of a job. ``root``: a directory to chroot into first. ``cwd`` is seen from inside it."""

    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = "/"
    root: str = ""


@dataclass(frozen=True)
class Usage:
    """What a job used. ``status``: exit status of the command that ended it (negative: the signal).

    ``left``: processes that were still running two seconds after the last command had ended, and were killed.
    """

    wall: float
    cpu: float
    memory: int
    largest: int
    status: int
    left: int


def measure(commands: tuple[Command, ...], log: str, timeout: float) -> Usage:
    """Run ``commands`` in turn until one fails, their output going to the file ``log``. ``timeout``: seconds for all."""
    job = {"commands": [vars(command) for command in commands], "log": log, "timeout": timeout}
    done = subprocess.run(
        [sys.executable, "-S", "-E", os.path.abspath(__file__)],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the measuring process failed: {done.stderr.strip()}")
    return Usage(**json.loads(done.stdout))


class Tree:
    """The processes below this one, and the highest sum of their resident sets so far (``peak``, bytes)."""

    def __init__(self) -> None:
        self.peak = 0
        self._inside: dict[int, bool] = {os.getpid(): True}

    def sample(self) -> None:
        """Look once. A process is judged by its parent when first seen; it stays in the tree if the parent changes."""
        total = 0
        numbers = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
        for gone in self._inside.keys() - set(numbers):
            del self._inside[gone]
        for number in numbers:
            if number not in self._inside:
                self._inside[number] = self._is_inside(number)
            if self._inside[number] and number != os.getpid():
                total += resident(number)
        self.peak = max(self.peak, total)

    def _is_inside(self, number: int) -> bool:
        chain = number
        while chain > 1:
            if self._inside.get(chain):
                return True
            chain = parent(chain)
        return False


def parent(number: int) -> int:
    try:
        with open(f"/proc/{number}/stat", "rb") as f:
            return int(f.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def resident(number: int) -> int:
    try:
        with open(f"/proc/{number}/statm", "rb") as f:
            return int(f.read().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def start(command: Command, out: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.setsid()
        if command.root:
            os.chroot(command.root)
        os.chdir(command.cwd)
        os.execvpe(command.argv[0], list(command.argv), command.env)
    except BaseException as error:
        os.write(2, f"{command.argv[0]}: {error}\n".encode())
    os._exit(127)


def wait(pid: int, tree: Tree, begun: float, deadline: float) -> int:
    """Exit status of ``pid``; samples meanwhile. Past ``deadline`` it is killed."""
    poll = select.poll()
    descriptor = os.pidfd_open(pid)
    poll.register(descriptor, select.POLLIN)
    while True:
        tree.sample()
        now = time.monotonic()
        if now > deadline:
            os.kill(pid, signal.SIGKILL)
        if poll.poll((QUICK if now - begun < QUICK_UNTIL else SLOW) * 1000):
            break
    os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def reap() -> int:
    """Wait for what is left of the job; the number of processes that had to be killed."""
    until, killed = time.monotonic() + GRACE, 0
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return killed
        if time.monotonic() > until:
            for number in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
                if parent(number) == os.getpid():
                    os.kill(number, signal.SIGKILL)
                    killed += 1
            os.waitpid(-1, 0)
        time.sleep(0.01)


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    job = json.load(sys.stdin)
    commands = [Command(tuple(c["argv"]), c["env"], c["cwd"], c["root"]) for c in job["commands"]]
    out = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    tree, status = Tree(), 0
    begun = time.monotonic()
    for command in commands:
        status = wait(start(command, out), tree, begun, begun + job["timeout"])
        if status:
            break
    wall = time.monotonic() - begun
    left = reap()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    largest = used.ru_maxrss * 1024
    figures = Usage(wall, used.ru_utime + used.ru_stime, max(tree.peak, largest), largest, status, left)
    json.dump(vars(figures), sys.stdout)


if __name__ == "__main__":
    main()
