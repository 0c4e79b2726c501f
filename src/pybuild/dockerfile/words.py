"""Words: variable expansion, quotes and escapes as BuildKit's shell lexer has them.

Forms: ``$v`` ``${v}`` ``${v:-w}`` ``${v-w}`` ``${v:+w}`` ``${v+w}`` ``${v:?m}`` ``${v?m}`` ``${v#p}`` ``${v##p}`` ``${v%p}``
``${v%%p}`` ``${v/p/r}`` ``${v//p/r}``. A word is read once, from left to right, in time linear in its length.
Source of the behaviour: the Dockerfile reference and BuildKit's lexer (docker/dockerfile 1.26).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from pybuild.dockerfile.patterns import Pattern, compile_pattern, remove_prefix, remove_suffix, replace
from pybuild.dockerfile.spaces import SPACE
from pybuild.dockerfile.text_error import TextError

#: deeper nesting of ``${…}`` is refused
MAX_DEPTH = 64
#: characters that the variables of one word may put into it
MAX_EXPANSION = 16 << 20
_SPECIAL_NAMES = frozenset("@*#?-$!")


@dataclass(frozen=True, slots=True)
class Expansion:
    """A processed word: its text, the words it splits into, the variables it used and those that were not set."""

    text: str
    words: tuple[str, ...]
    used: frozenset[str]
    missing: frozenset[str]


@dataclass(slots=True)
class _Split:
    """Splits text into words while it is produced: blanks separate unless they were quoted or escaped."""

    words: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)

    def plain(self, text: str) -> None:
        start = 0
        for at, ch in enumerate(text):
            if ch in SPACE:
                if at > start:
                    self.current.append(text[start:at])
                self.close()
                start = at + 1
        if start < len(text):
            self.current.append(text[start:])

    def quoted(self, text: str) -> None:
        if text:
            self.current.append(text)

    def close(self) -> None:
        if self.current:
            self.words.append("".join(self.current))
            self.current.clear()


@lru_cache(maxsize=32)
def _stops(escape: str, quotes: bool, stop: str) -> re.Pattern[str]:
    """Finds the next character that plain text ends at."""
    special = "$<" + escape + ("'\"" if quotes else "") + stop
    return re.compile("[" + re.escape(special) + "]")


class _Lexer:
    """One pass over one word."""

    __slots__ = (
        "at",
        "depth",
        "end",
        "env",
        "escape",
        "grown",
        "missing",
        "quotes",
        "raw_escapes",
        "raw_quotes",
        "skip_unset",
        "text",
        "used",
    )

    def __init__(
        self,
        text: str,
        env: Mapping[str, str],
        escape: str,
        *,
        raw_quotes: bool = False,
        raw_escapes: bool = False,
        skip_unset: bool = False,
        quotes: bool = True,
    ) -> None:
        self.text = text
        self.end = len(text)
        self.at = 0
        self.env = env
        self.escape = escape
        self.raw_quotes = raw_quotes
        self.raw_escapes = raw_escapes
        self.skip_unset = skip_unset
        self.quotes = quotes
        self.used: set[str] = set()
        self.missing: set[str] = set()
        self.depth = 0
        self.grown = 0

    def peek(self) -> str:
        return self.text[self.at] if self.at < self.end else ""

    def until(self, stop: str, raw_escapes: bool, split: _Split | None = None) -> str:
        """Text up to ``stop`` (``""``: to the end), which is consumed."""
        if self.depth >= MAX_DEPTH:
            raise TextError(f"${{…}} nested more than {MAX_DEPTH} deep")
        self.depth += 1
        before, self.raw_escapes = self.raw_escapes, raw_escapes
        try:
            return self._until(stop, split)
        finally:
            self.depth -= 1
            self.raw_escapes = before

    def _until(self, stop: str, split: _Split | None) -> str:
        found: list[str] = []
        text, escape = self.text, self.escape
        special = _stops(escape, self.quotes, stop)
        while self.at < self.end:
            match = special.search(text, self.at)
            upto = match.start() if match else self.end
            if upto > self.at:
                found.append(text[self.at : upto])
                if split is not None:
                    split.plain(found[-1])
                self.at = upto
                if match is None:
                    break
            ch = text[upto]
            if ch == stop:
                self.at += 1
                return "".join(found)
            if ch == "$":
                value = self.dollar()
                found.append(value)
                if split is not None:
                    split.plain(value)
            elif ch == "'" and self.quotes:
                found.append(self.single())
                if split is not None:
                    split.quoted(found[-1])
            elif ch == '"' and self.quotes:
                found.append(self.double())
                if split is not None:
                    split.quoted(found[-1])
            elif ch == escape:
                self.at += 1
                taken = ch if self.raw_escapes else ""
                if self.at < self.end:
                    taken += text[self.at]
                    self.at += 1
                found.append(taken)
                if split is not None:
                    split.quoted(taken)
            else:
                found.append(self.angle())
                if split is not None:
                    split.quoted(found[-1])
        if stop:
            raise TextError(f"unexpected end of statement while looking for matching {stop}")
        return "".join(found)

    def angle(self) -> str:
        """``<``; the blanks after ``<<`` belong to the word, so that ``<< NAME`` is one."""
        start = self.at
        self.at += 1
        if self.peek() == "<":
            self.at += 1
            while self.peek() in (" ", "\t"):
                self.at += 1
        return self.text[start : self.at]

    def single(self) -> str:
        close = self.text.find("'", self.at + 1)
        if close < 0:
            raise TextError("unexpected end of statement while looking for matching single-quote")
        inside = self.text[self.at : close + 1] if self.raw_quotes else self.text[self.at + 1 : close]
        self.at = close + 1
        return inside

    def double(self) -> str:
        found = ['"'] if self.raw_quotes else []
        text, escape = self.text, self.escape
        self.at += 1
        special = _stops(escape, True, "")
        while True:
            match = special.search(text, self.at)
            if match is None:
                raise TextError("unexpected end of statement while looking for matching double-quote")
            upto = match.start()
            found.append(text[self.at : upto])
            self.at = upto
            ch = text[upto]
            if ch == '"':
                self.at += 1
                if self.raw_quotes:
                    found.append(ch)
                return "".join(found)
            if ch == "$":
                found.append(self.dollar())
                continue
            self.at += 1
            if ch == escape:
                if self.raw_escapes:
                    found.append(ch)
                following = self.peek()
                if not following:
                    continue
                # only these can be escaped within double quotes; before anything else the escape character stays
                if following in ('"', "$", escape):
                    ch = following
                    self.at += 1
            found.append(ch)

    def name(self) -> str:
        ch = self.peek()
        if ch.isdecimal():
            start = self.at
            while self.peek().isdecimal():
                self.at += 1
            return self.text[start : self.at]
        if ch in _SPECIAL_NAMES and ch:
            self.at += 1
            return ch
        start = self.at
        while (ch := self.peek()) and (ch == "_" or ch.isalpha() or ch.isdecimal()):
            self.at += 1
        return self.text[start : self.at]

    def lookup(self, name: str) -> str | None:
        value = self.env.get(name)
        if value is None:
            self.missing.add(name)
        else:
            self.used.add(name)
        return value

    def dollar(self) -> str:
        value = self._dollar()
        self.grown += len(value)
        if self.grown > MAX_EXPANSION:
            raise too_long()
        return value

    def _dollar(self) -> str:
        self.at += 1
        if self.peek() != "{":
            name = self.name()
            if not name:
                return "$"
            value = self.lookup(name)
            if value is None:
                return f"${name}" if self.skip_unset else ""
            return value
        self.at += 1
        ch = self.peek()
        if not ch:
            raise TextError("syntax error: missing '}'")
        if ch in "{}:":
            raise TextError("syntax error: bad substitution", hint="a variable's name belongs between ${ and }")
        name = self.name()
        ch = self.peek()
        self.at += 1
        if not ch:
            raise TextError("syntax error: missing '}'")
        if ch == "}":
            value = self.lookup(name)
            if value is None:
                return f"${{{name}}}" if self.skip_unset else ""
            return value
        if ch == "/":
            return self.substitute(name)
        null_is_unset = ch == ":"
        operator = ch
        if null_is_unset:
            ch = self.peek()
            self.at += 1
            operator += ch
            if not ch:
                raise TextError("syntax error: missing '}'")
            if ch not in "+-?":
                raise unsupported(operator)
        if ch not in "+-?#%":
            raise unsupported(operator)
        word = self.operand("}", ch in "#%", "syntax error: missing '}'")
        return self.apply(name, operator, ch, null_is_unset, word)

    def operand(self, stop: str, raw_escapes: bool, missing: str) -> str:
        try:
            return self.until(stop, raw_escapes)
        except TextError as e:
            if self.at >= self.end and e.message.startswith(
                "unexpected end of statement while looking for matching " + stop
            ):
                raise TextError(missing) from None
            raise

    def apply(self, name: str, operator: str, ch: str, null_is_unset: bool, word: str) -> str:
        value = self.lookup(name)
        if value is None and self.skip_unset:
            return f"${{{name}{operator}{word}}}"
        unset = value is None or (null_is_unset and not value)
        if ch == "-":
            return word if unset else (value or "")
        if ch == "+":
            return "" if unset else word
        if ch == "?":
            if unset:
                what = "is not allowed to be unset" if value is None else "is not allowed to be empty"
                raise TextError(f"{name}: {word or what}")
            return value or ""
        longest = word.startswith(ch)
        pattern = self.pattern(word[1:] if longest else word)
        cut = remove_prefix if ch == "#" else remove_suffix
        return cut(pattern, value or "", longest=longest)

    def substitute(self, name: str) -> str:
        everywhere = self.peek() == "/"
        if everywhere:
            self.at += 1
        searched = self.operand("/", True, "syntax error: missing '/' in ${}")
        replacement = self.operand("}", True, "syntax error: missing '}'")
        value = self.lookup(name)
        if value is None and self.skip_unset:
            return f"${{{name}/{searched}/{replacement}}}"
        pattern = self.pattern(searched)
        try:
            return replace(pattern, value or "", replacement, everywhere=everywhere, limit=MAX_EXPANSION)
        except ValueError:
            raise too_long() from None

    def pattern(self, text: str) -> Pattern:
        try:
            return compile_pattern(text)
        except ValueError as e:
            raise TextError(f"invalid pattern ({text}) in substitution: {e}") from None


def too_long() -> TextError:
    return TextError(f"variables make the word longer than {MAX_EXPANSION >> 20} MiB")


def unsupported(operator: str) -> TextError:
    return TextError(
        f"unsupported modifier ({operator}) in substitution",
        hint="these are known: ${v:-w} ${v-w} ${v:+w} ${v+w} ${v:?m} ${v?m} ${v#p} ${v##p} ${v%p} ${v%%p} ${v/p/r} ${v//p/r}",
    )


def process(
    word: str,
    env: Mapping[str, str],
    *,
    escape: str = "\\",
    raw_quotes: bool = False,
    raw_escapes: bool = False,
    skip_unset: bool = False,
    quotes: bool = True,
) -> Expansion:
    """Expand a word and split it, and tell which variables it names.

    ``raw_quotes`` and ``raw_escapes`` keep quotes and escape characters in the result, ``skip_unset`` leaves unset variables as they
    were written, ``quotes=False`` takes quotes for ordinary characters (here-documents). ``TextError`` when the word is malformed.
    """
    lexer = _Lexer(
        word, env, escape, raw_quotes=raw_quotes, raw_escapes=raw_escapes, skip_unset=skip_unset, quotes=quotes
    )
    split = _Split()
    text = lexer.until("", raw_escapes, split)
    split.close()
    return Expansion(text, tuple(split.words), frozenset(lexer.used), frozenset(lexer.missing))


def expand(word: str, env: Mapping[str, str], *, escape: str = "\\") -> str:
    """The word with its variables expanded, quotes removed and escapes resolved; ``TextError`` when it is malformed."""
    if "$" not in word and escape not in word and "'" not in word and '"' not in word:
        return word
    return _Lexer(word, env, escape).until("", False)


def expand_words(word: str, env: Mapping[str, str], *, escape: str = "\\") -> list[str]:
    """Like ``expand``, split into words at blanks that are not quoted, after the expansion."""
    return list(process(word, env, escape=escape).words)


def expand_heredoc(body: str, env: Mapping[str, str]) -> str:
    """A here-document's body: variables are expanded, quotes stay, ``\\`` escapes (whatever the escape directive says)."""
    if "$" not in body and "\\" not in body:
        return body
    return _Lexer(body, env, "\\", quotes=False).until("", False)


def used_names(words: Iterable[str], *, escape: str = "\\") -> set[str]:
    """Names of the variables that words refer to, when none of them is set. Malformed words count as far as they can be read."""
    found: set[str] = set()
    for word in words:
        lexer = _Lexer(word, {}, escape)
        try:
            lexer.until("", False)
        except TextError:
            pass
        found |= lexer.missing
    return found
