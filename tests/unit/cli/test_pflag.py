"""The command line as pflag reads it."""

from __future__ import annotations

import pytest

from pybuild.cli.executor_flags import EXECUTOR_FLAGS
from pybuild.cli.pflag import FlagTable, HelpWanted, Values, first_argument, parse
from pybuild.errors import UsageError

TABLE = FlagTable(EXECUTOR_FLAGS)


def read(*words: str) -> Values:
    return parse(words, TABLE)


def refused(*words: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read(*words)
    return caught.value


@pytest.mark.parametrize(
    "words",
    [
        ("--dockerfile", "D"),
        ("--dockerfile=D",),
        ("-f", "D"),
        ("-f=D",),
        ("-fD",),
        ("-f", "other", "-fD"),
    ],
)
def test_every_way_to_give_a_value(words: tuple[str, ...]) -> None:
    assert read(*words).text("dockerfile") == "D"


def test_an_empty_value_is_a_value() -> None:
    assert read("--context=").text("context") == ""
    assert read("--context", "").text("context") == ""
    assert read().text("context") == "/workspace/"


def test_a_value_may_look_like_a_flag() -> None:
    assert read("--label", "--cache").texts("label") == ["--cache"]
    assert read("-d", "-x").texts("destination") == ["-x"]


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_true(text: str) -> None:
    assert read(f"--no-push={text}").on("no-push")


@pytest.mark.parametrize("text", ["0", "f", "F", "FALSE", "false", "False"])
def test_false(text: str) -> None:
    assert not read(f"--ignore-var-run={text}").on("ignore-var-run")


@pytest.mark.parametrize("text", ["yes", "no", "on", "2", "", "tRUE", " true"])
def test_what_is_no_boolean(text: str) -> None:
    error = refused(f"--no-push={text}")
    assert (
        error.message
        == f'invalid argument "{text}" for "--no-push" flag: strconv.ParseBool: parsing "{text}": invalid syntax'
    )


def test_a_boolean_does_not_take_the_next_word() -> None:
    found = read("--no-push", "false")
    assert found.on("no-push")
    assert found.arguments == ["false"]


def test_lists_are_not_split_at_commas() -> None:
    assert read("--label", "a=1,2", "--label=b=3").texts("label") == ["a=1,2", "b=3"]


def test_target_is_split_at_commas() -> None:
    assert read("--target=a,b", "--target", "c").texts("target") == ["a", "b", "c"]
    assert read('--target="x,y",z').texts("target") == ["x,y", "z"]


def test_the_last_value_of_a_key_counts() -> None:
    assert read("--annotation", "a=1", "--annotation", "a=2=3").pairs("annotation") == {"a": "2=3"}


def test_a_pair_needs_an_equals_sign() -> None:
    assert refused("--annotation=a").message.endswith("invalid argument value. expect key=value, got a")


def test_map_values_add_up() -> None:
    found = read("--registry-map", "a=1;a=2;b=3", "--registry-map=a=4")
    assert found.multi("registry-map") == {"a": ["1", "2", "4"], "b": ["3"]}


def test_two_command_lines_do_not_share_values() -> None:
    read("--registry-map=a=1", "--label=x=y")
    again = read("--registry-map=a=2")
    assert again.multi("registry-map") == {"a": ["2"]}
    assert again.texts("label") == []


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("-1", -1), ("+7", 7), ("0x10", 16), ("010", 8), ("0b11", 3), ("0o7", 7)]
)
def test_whole_numbers(text: str, value: int) -> None:
    assert read(f"--push-retry={text}").number("push-retry") == value


@pytest.mark.parametrize("text", ["", "1.0", "one", " 1", "1 ", "--1", "0x", "08", "١"])
def test_what_is_no_number(text: str) -> None:
    assert refused(f"--push-retry={text}").message.endswith(f'strconv.ParseInt: parsing "{text}": invalid syntax')


def test_a_number_that_is_too_large() -> None:
    assert "value out of range" in refused("--push-retry=99999999999999999999").message


@pytest.mark.parametrize(("text", "value"), [("1h30m", 5400.0), ("0", 0.0), ("1.5s", 1.5), ("336h", 1209600.0)])
def test_durations(text: str, value: float) -> None:
    assert read(f"--cache-ttl={text}").seconds("cache-ttl") == value


def test_a_duration_without_unit() -> None:
    assert 'time: missing unit in duration "10"' in refused("--cache-ttl=10").message
    assert 'time: invalid duration "soon"' in refused("--cache-ttl=soon").message


def test_unknown_flag_names_the_nearest() -> None:
    error = refused("--destinaton", "x")
    assert error.message == "unknown flag: --destinaton"
    assert "--destination" in error.hint


def test_unknown_flag_far_from_all() -> None:
    error = refused("--qqqqqqqqqqqq")
    assert error.message == "unknown flag: --qqqqqqqqqqqq"
    assert error.hint == ""


def test_one_dash_is_shorthands() -> None:
    assert read("-context=x").text("context") == "ontext=x"
    error = refused("-label=x")
    assert error.message == "unknown shorthand flag: 'l' in -label=x"
    assert "--label" in error.hint


def test_missing_values() -> None:
    assert refused("--destination").message == "flag needs an argument: --destination"
    assert refused("-d").message == "flag needs an argument: 'd' in -d"


def test_bad_syntax() -> None:
    assert refused("--=x").message == "bad flag syntax: --=x"
    assert refused("---x").message == "bad flag syntax: ---x"
    assert refused("-z").message == "unknown shorthand flag: 'z' in -z"


def test_two_dashes_end_the_flags() -> None:
    found = read("--no-push", "--", "--cache", "x")
    assert found.arguments == ["--cache", "x"]
    assert not found.on("cache")


def test_help() -> None:
    for word in ("--help", "-h"):
        with pytest.raises(HelpWanted):
            read("--no-push", word)


def test_old_spellings() -> None:
    found = read(
        "--snapshotMode=redo", "--customPlatform", "linux/arm64", "--tarPath=x.tar", "--whitelist-var-run=false"
    )
    assert found.text("snapshot-mode") == "redo"
    assert found.text("custom-platform") == "linux/arm64"
    assert found.text("tar-path") == "x.tar"
    assert not found.on("ignore-var-run")
    assert "Flag --snapshotMode is deprecated. Use: --snapshot-mode" in found.warnings
    assert "Flag --customPlatform is deprecated. Use: --custom-platform" in found.warnings
    assert not [w for w in found.warnings if "tarPath" in w]
    assert "Flag --whitelist-var-run has been deprecated, Please use ignore-var-run instead." in found.warnings


def test_new_spellings_do_not_warn() -> None:
    assert read("--snapshot-mode=redo", "--ignore-var-run=false").warnings == []


@pytest.mark.parametrize(
    ("words", "at"),
    [
        (["version"], 0),
        (["--no-push", "false"], 1),
        (["--context", "version", "version"], 2),
        (["-c", "version"], -1),
        (["-cversion", "version"], 1),
        (["--context=x", "version"], 1),
        (["--unknown", "value", "version"], 2),
        (["--", "version"], -1),
        ([], -1),
    ],
)
def test_where_the_command_is(words: list[str], at: int) -> None:
    assert first_argument(words, TABLE) == at


def test_no_name_means_two_flags() -> None:
    names = [name for flag in EXECUTOR_FLAGS for name in (flag.name, *flag.old)]
    shorts = [flag.short for flag in EXECUTOR_FLAGS if flag.short]
    assert len(names) == len(set(names))
    assert len(shorts) == len(set(shorts))
    assert {*shorts} == {"f", "c", "b", "d", "v"}


def test_flags_without_effect_say_why() -> None:
    assert [flag.name for flag in EXECUTOR_FLAGS if (flag.status == "works") == bool(flag.note)] == []
