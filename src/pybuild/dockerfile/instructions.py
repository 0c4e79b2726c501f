"""A Dockerfile's instructions as typed data: what the parser hands to the build.

Words are kept unexpanded: expansion needs the environment of the moment (``dockerfile.words``). Flags are parsed and checked.
Source of the grammar: the Dockerfile reference and BuildKit's parser.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pybuild.errors import Place


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A here-document of RUN, COPY or ADD. ``content`` is the body with tabs already chomped for ``<<-``."""

    name: str
    content: str
    expand: bool
    chomp: bool
    fd: int = 0
    #: the body as written, tabs included (what the shell and the history of a RUN get)
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Instruction:
    """Common to all. ``text`` is the instruction as written with continuation lines joined (used for history and logs)."""

    place: Place
    text: str
    #: last line of the instruction, heredoc bodies included (1-based)
    end_line: int
    #: comments directly above it, without the ``#`` (they may switch checks off for it)
    comments: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True, slots=True)
class From(Instruction):
    image: str
    #: stage name, lower-cased, or "" when it has none
    name: str
    platform: str


@dataclass(frozen=True, slots=True)
class KeyValue:
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Env(Instruction):
    pairs: tuple[KeyValue, ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Label(Instruction):
    pairs: tuple[KeyValue, ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class ArgPair:
    key: str
    #: None when there is no default
    value: str | None


@dataclass(frozen=True, slots=True)
class Arg(Instruction):
    pairs: tuple[ArgPair, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """Exec form: ``argv`` are the words. Shell form: ``argv`` has one item, the raw text, and ``shell`` is true.
    ``heredocs`` are those whose text must be handed to the shell (only on RUN)."""

    argv: tuple[str, ...]
    shell: bool


@dataclass(frozen=True, slots=True)
class Mount:
    """One ``--mount`` of RUN. Fields hold unexpanded words; ``None`` means not given. Expansion and the defaults that
    depend on it are ``dockerfile.mounts.expand_mount``'s."""

    type: str
    source: str | None = None
    target: str | None = None
    from_: str | None = None
    id: str | None = None
    sharing: str | None = None
    size: str | None = None
    mode: str | None = None
    uid: str | None = None
    gid: str | None = None
    env: str | None = None
    required: bool = False
    #: None: the type's default; True: ro given; False: rw given
    readonly: bool | None = None
    #: the flag's value as written: ``dockerfile.mounts.expand_mount`` reads it again with the variables of the moment
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Run(Instruction):
    command: Command
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[Mount, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy(Instruction):
    """COPY. ``sources`` exclude the heredocs, which are files of their own (name, content)."""

    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Add(Instruction):
    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    chown: str = ""
    chmod: str = ""
    link: bool = False
    excludes: tuple[str, ...] = ()
    checksum: str = ""
    keep_git_dir: bool = False
    #: None: the default (local archives are unpacked, remote ones are not)
    unpack: bool | None = None


@dataclass(frozen=True, slots=True)
class Cmd(Instruction):
    command: Command


@dataclass(frozen=True, slots=True)
class Entrypoint(Instruction):
    command: Command


@dataclass(frozen=True, slots=True)
class Shell(Instruction):
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expose(Instruction):
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Volume(Instruction):
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class User(Instruction):
    user: str


@dataclass(frozen=True, slots=True)
class Workdir(Instruction):
    path: str


@dataclass(frozen=True, slots=True)
class Stopsignal(Instruction):
    signal: str


@dataclass(frozen=True, slots=True)
class Healthcheck(Instruction):
    """``test`` is the config's Test list: ``["NONE"]``, ``["CMD", …]`` or ``["CMD-SHELL", text]``. Durations in ns, 0 = inherit."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Onbuild(Instruction):
    #: the trigger's text as it goes to the config
    trigger: str


@dataclass(frozen=True, slots=True)
class Maintainer(Instruction):
    name: str


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: its FROM, its index in the file and its instructions in order."""

    index: int
    from_: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        return self.from_.name


@dataclass(frozen=True, slots=True)
class Warning_:
    """A finding of the build checks: rule name as BuildKit's, message, place."""

    rule: str
    message: str
    place: Place


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A parsed file: global ARGs (before the first FROM), the stages, the directives and the escape character."""

    file: str
    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    escape: str = "\\"
    directives: dict[str, str] = field(default_factory=dict)
    warnings: tuple[Warning_, ...] = ()
