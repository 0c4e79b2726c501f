"""The build command: what ``pybuild`` without a sub-command does."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, cast

from pybuild.cli.executor_flags import EXECUTOR_FLAGS
from pybuild.cli.options import apply_environment, build_options, notes
from pybuild.cli.pflag import FlagTable, Values, parse
from pybuild.errors import ContextError, Interrupted, PybuildError, UsageError
from pybuild.report.formats import LEVELS, Format

if TYPE_CHECKING:
    from pybuild.report.reporter import Reporter

TABLE = FlagTable(EXECUTOR_FLAGS)
BROKEN_PIPE = 141


def run_build_command(words: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """Build. The exit status; ``UsageError`` and ``ContextError`` while nothing has begun."""
    values = parse(words, TABLE)
    begin = time.monotonic()
    reporter = make_reporter(values)
    try:
        with ended_by_sigterm():
            return build(values, environment, reporter, begin)
    except (UsageError, ContextError):
        raise
    except PybuildError as e:
        return failed(reporter, e, values)
    except KeyboardInterrupt:
        return failed(reporter, Interrupted(signal.SIGINT), values)
    except Exception as e:
        return crashed(reporter, e)
    finally:
        reporter.close()


def build(values: Values, environment: Mapping[str, str], reporter: Reporter, begin: float) -> int:
    for warning in values.warnings:
        reporter.log("warning", warning)
    apply_environment(values, environment)
    if values.arguments:
        raise UsageError(f'unexpected argument "{values.arguments[0]}"')
    for note in notes(values, EXECUTOR_FLAGS):
        reporter.log("warning", note)
    options = build_options(values, environment)
    if options.isolation == "in-place" and not options.force:
        from pybuild.cli.container import REFUSAL, in_container

        if not in_container():
            raise PybuildError(REFUSAL)
    if len(values.texts("target")) > 1:
        reporter.log("warning", f"only the first target is built: {options.target}")
    if options.check_only:
        from pybuild.build.check import check

        findings = check(options)
        for finding in findings:
            reporter.log("warning", f"{finding.rule}: {finding.message} ({finding.place})")
        reporter.log("info", f"{len(findings)} findings" if findings else "No findings")
        return 1 if findings else 0
    from pybuild.build import run
    from pybuild.cli.registry_options import registry_options
    from pybuild.report.summary import closing_line

    try:
        result = run(options, registry_options(values), reporter.emit)
    except ContextError as e:
        return failed(reporter, e, values)
    except UsageError as e:
        return failed(reporter, e, values)
    reporter.log("info", closing_line(result, reporter.spans, time.monotonic() - begin))
    return 0


def make_reporter(values: Values) -> Reporter:
    """The reporter that the logging flags ask for."""
    level = values.text("verbosity").lower()
    level = "warning" if level == "warn" else level
    if level not in LEVELS:
        raise UsageError(f'parsing log level: not a valid logrus Level: "{values.text("verbosity")}"')
    log_format = values.text("log-format")
    if log_format not in ("text", "color", "json"):
        raise UsageError(f'not a valid log format: "{log_format}". Please specify one of (text, color, json)')
    from pybuild.report.reporter import Reporter

    return Reporter(cast(Format, log_format), level, timestamp=values.on("log-timestamp"))


def failed(reporter: Reporter, error: PybuildError, values: Values) -> int:
    """Tell about a build that failed; its exit status."""
    from pybuild.report.errors import error_text

    reporter.close()
    if reporter.broken:
        return BROKEN_PIPE
    if "debug" in reporter.shown:
        reporter.log("debug", "".join(traceback.format_exception(error)).rstrip())
    tell(reporter, error_text(error), values.text("log-format"))
    return error.exit_code


def tell(reporter: Reporter, text: str, log_format: str) -> None:
    """An error: as it is, without level and time, as kaniko does; in the JSON format an object like all others."""
    if log_format == "json":
        reporter.log("fatal", text)
    else:
        reporter.plain(text + "\n")


def crashed(reporter: Reporter, error: Exception) -> int:
    """Tell about an error that should not be: the traceback only for those who look into it."""
    reporter.close()
    if reporter.broken:
        return BROKEN_PIPE
    if "debug" in reporter.shown:
        reporter.log("debug", "".join(traceback.format_exception(error)).rstrip())
    reporter.plain(
        f"error building image: internal error: {type(error).__name__}: {error}\n"
        "hint: this is a fault of pybuild; --verbosity=debug shows where it comes from\n"
    )
    return 1


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM raises ``Interrupted`` while no build runs that handles it itself."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum)

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
