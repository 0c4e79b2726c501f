"""See match.pyi."""
import functools
import os
import posixpath
import unicodedata

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

cdef enum:
    MAX_WORDS = 64

cdef enum:
    EXACT = 0
    PREFIX = 1
    SUFFIX = 2
    TREE_TAIL = 3     # any name that ends in `text`, in any directory
    NAME_TAIL = 4     # a name at the top that ends in `text`
    AUTOMATON = 5
    NEVER = 6

cdef enum:
    SET = 0           # one character of a set
    STAR = 1          # any number of characters of a set
    ENTRY = 2         # directories, or none: leads to INNER and beyond it
    INNER = 3         # within the directories; a slash may end them
    BEGIN = 4         # nothing, at the beginning of the path only; and so on
    END = 5
    WORD = 6          # where a word of ASCII letters, digits and _ begins or ends
    NO_WORD = 7

_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
_ESCAPED = frozenset(".+()|{}$")
_POSIX = {
    "alnum": ((48, 57), (65, 90), (97, 122)),
    "alpha": ((65, 90), (97, 122)),
    "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)),
    "cntrl": ((0, 31), (127, 127)),
    "digit": ((48, 57),),
    "graph": ((33, 126),),
    "lower": ((97, 122),),
    "print": ((32, 126),),
    "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)),
    "upper": ((65, 90),),
    "word": ((48, 57), (65, 90), (95, 95), (97, 122)),
    "xdigit": ((48, 57), (65, 70), (97, 102)),
}
_PERL = {"d": ((48, 57),), "s": ((9, 10), (12, 13), (32, 32)), "w": ((48, 57), (65, 90), (95, 95), (97, 122))}
_ASSERTIONS = {"A": BEGIN, "z": END, "b": WORD, "B": NO_WORD}
_CONTROL = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_LAST_RUNE = 0x10FFFF
_REPLACEMENT = 0xFFFD


def clean_path(path):
    found = posixpath.normpath(path)
    return found[1:] if found.startswith("//") else found


# --- patterns to automata: Python, once for each pattern -----------------------------------------------------------------

def _translate(pattern):
    """moby's regular expression for a cleaned pattern, and how it would match: exact, prefix, suffix or regexp."""
    out = []
    kind = "exact"
    at = 0
    first = True
    end = len(pattern)
    while at < end:
        ch = pattern[at]
        at += 1
        if ch == "*":
            if pattern.startswith("*", at):
                at += 1
                if pattern.startswith("/", at):
                    at += 1
                if at == end:
                    if kind == "exact":
                        kind = "prefix"
                    else:
                        out.append(".*")
                        kind = "regexp"
                else:
                    out.append("(.*/)?")
                    kind = "regexp"
                if first:
                    kind = "suffix"
            else:
                out.append("[^/]*")
                kind = "regexp"
        elif ch == "?":
            out.append("[^/]")
            kind = "regexp"
        elif ch in _ESCAPED:
            out.append("\\" + ch)
        elif ch == "\\":
            if at < end:
                out.append("\\" + pattern[at])
                at += 1
                kind = "regexp"
            else:
                out.append("\\")
        elif ch in "[]":
            out.append(ch)
            kind = "regexp"
        else:
            out.append(ch)
        first = False
    return "".join(out), kind


def _rune(ch):
    # bytes that are no UTF-8 are all the same to a regular expression
    code = ord(ch)
    return _REPLACEMENT if 0xD800 <= code <= 0xDFFF else code


def _complement(spans):
    found = []
    low = 0
    for a, b in sorted(spans):
        if a > low:
            found.append((low, a - 1))
        low = max(low, b + 1)
    if low <= _LAST_RUNE:
        found.append((low, _LAST_RUNE))
    return tuple(found)


def _escape(text, at):
    """The character that an escape after a backslash at ``at`` stands for, and where it ends."""
    ch = text[at : at + 1]
    at += 1
    if ch in _CONTROL and ch:
        return _CONTROL[ch], at
    if ch and "0" <= ch <= "7":
        if ch != "0" and not ("0" <= text[at : at + 1] <= "7" and text[at : at + 1]):
            raise ValueError("syntax error in pattern")
        value = int(ch)
        for _ in range(2):
            digit = text[at : at + 1]
            if not digit or not "0" <= digit <= "7":
                break
            value = value * 8 + int(digit)
            at += 1
        return value, at
    if not ch or ord(ch) >= 128 or ch.isalnum():
        raise ValueError("syntax error in pattern")
    return ord(ch), at


@functools.lru_cache(maxsize=8)
def _category(letter):
    """The characters of a Unicode category, as spans."""
    if letter not in "LMNPSZC":
        raise ValueError("syntax error in pattern")
    found = []
    start = None
    for code in range(_LAST_RUNE + 2):
        inside = code <= _LAST_RUNE and unicodedata.category(chr(code))[0] == letter
        if inside and start is None:
            start = code
        elif start is not None and not inside:
            found.append((start, code - 1))
            start = None
    return tuple(found)


def _named(text, at):
    """A set with a name (``\\d``, ``\\pL``) whose backslash is at ``at``: its spans, whether negated, where it ends. Or None."""
    name = text[at + 1 : at + 2]
    if name and name.lower() in _PERL:
        return _PERL[name.lower()], name.isupper(), at + 2
    if name and name in "pP":
        letter = text[at + 2 : at + 3]
        return _category(letter or "?"), name == "P", at + 3
    return None


def _class(text, at):
    """A bracket expression that begins before ``at``: its spans, whether negated, where it ends."""
    negated = text.startswith("^", at)
    if negated:
        at += 1
    spans = []
    first = True
    while first or not text.startswith("]", at):
        if at >= len(text):
            raise ValueError("syntax error in pattern")
        first = False
        if text.startswith("[:", at):
            close = text.find(":]", at + 2)
            if close >= 0:
                name = text[at + 2 : close]
                inverse = name.startswith("^")
                found = _POSIX.get(name[1:] if inverse else name)
                if found is None:
                    raise ValueError("syntax error in pattern")
                spans += _complement(found) if inverse else found
                at = close + 2
                continue
        named = _named(text, at) if text[at] == "\\" else None
        if named is not None:
            spans += _complement(named[0]) if named[1] else named[0]
            at = named[2]
            continue
        low, at = _class_char(text, at)
        high = low
        if text.startswith("-", at) and at + 1 < len(text) and text[at + 1] != "]":
            high, at = _class_char(text, at + 1)
            if high < low:
                raise ValueError("syntax error in pattern")
        spans.append((low, high))
    return tuple(spans), negated, at + 1


def _class_char(text, at):
    if at >= len(text):
        raise ValueError("syntax error in pattern")
    if text[at] == "\\":
        return _escape(text, at + 1)
    return _rune(text[at]), at + 1


def _atoms(text):
    """A regular expression of the form that ``_translate`` makes, as (kind, spans, negated) items."""
    found = []
    at = 0
    end = len(text)
    while at < end:
        ch = text[at]
        following = text[at + 1 : at + 2]
        if ch == "^" or (ch == "\\" and following in _ASSERTIONS):
            found.append((BEGIN if ch == "^" else _ASSERTIONS[following], (), False))
            at += 1 if ch == "^" else 2
            continue
        if ch == "\\" and following == "Q":
            # what follows is literal, the end of the expression included: no path is like that
            return None
        if text.startswith("(.*/)?", at):
            found.append((ENTRY, (), False))
            found.append((INNER, ((10, 10),), True))
            at += 6
            continue
        if ch == ".":
            spans, negated = ((10, 10),), True
            at += 1
        elif ch == "[":
            spans, negated, at = _class(text, at + 1)
        elif ch == "\\":
            named = _named(text, at)
            if named is not None:
                spans, negated, at = named
            else:
                value, at = _escape(text, at + 1)
                spans, negated = ((value, value),), False
        else:
            spans, negated = ((_rune(ch), _rune(ch)),), False
            at += 1
        if text.startswith("*", at):
            found.append((STAR, spans, negated))
            at += 1
        else:
            found.append((SET, spans, negated))
    return found


def _literal(atom):
    kind, spans, negated = atom
    if kind == SET and not negated and len(spans) == 1 and spans[0][0] == spans[0][1] and spans[0][0] != _REPLACEMENT:
        return chr(spans[0][0])
    return None


def _run(atoms):
    found = []
    for atom in atoms:
        ch = _literal(atom)
        if ch is None:
            break
        found.append(ch)
    return "".join(found)


_ANY_NAME = (STAR, ((47, 47),), True)


# --- C side --------------------------------------------------------------------------------------------------------------

cdef inline uint32_t decode(const unsigned char *s, size_t n, size_t *width) noexcept nogil:
    # one character of UTF-8; anything malformed is U+FFFD, one byte wide
    cdef uint32_t c = s[0]
    cdef uint32_t r
    width[0] = 1
    if c < 0x80:
        return c
    if c < 0xC2:
        return 0xFFFD
    if c < 0xE0:
        if n < 2 or (s[1] & 0xC0) != 0x80:
            return 0xFFFD
        width[0] = 2
        return ((c & 0x1F) << 6) | (s[1] & 0x3F)
    if c < 0xF0:
        if n < 3 or (s[1] & 0xC0) != 0x80 or (s[2] & 0xC0) != 0x80:
            return 0xFFFD
        r = ((c & 0x0F) << 12) | (<uint32_t>(s[1] & 0x3F) << 6) | (s[2] & 0x3F)
        if r < 0x800 or 0xD800 <= r <= 0xDFFF:
            return 0xFFFD
        width[0] = 3
        return r
    if c < 0xF5:
        if n < 4 or (s[1] & 0xC0) != 0x80 or (s[2] & 0xC0) != 0x80 or (s[3] & 0xC0) != 0x80:
            return 0xFFFD
        r = ((c & 0x07) << 18) | (<uint32_t>(s[1] & 0x3F) << 12) | (<uint32_t>(s[2] & 0x3F) << 6) | (s[3] & 0x3F)
        if r < 0x10000 or r > 0x10FFFF:
            return 0xFFFD
        width[0] = 4
        return r
    return 0xFFFD


cdef inline bint in_set(const Compiled *p, const State *s, uint32_t c) noexcept nogil:
    cdef uint32_t i
    for i in range(s.first, s.first + s.count):
        if p.span[i].low <= c <= p.span[i].high:
            return not s.negated
    return s.negated


cdef inline bint has(const uint64_t *bits, uint32_t i) noexcept nogil:
    return (bits[i >> 6] >> (i & 63)) & 1


cdef inline void put(uint64_t *bits, uint32_t i) noexcept nogil:
    bits[i >> 6] |= <uint64_t>1 << (i & 63)


cdef inline bint is_word(unsigned char c) noexcept nogil:
    return c'a' <= c <= c'z' or c'A' <= c <= c'Z' or c'0' <= c <= c'9' or c == c'_'


cdef inline int where(const char *text, size_t n, size_t at, bint complete) noexcept nogil:
    # which assertions hold at a position: bits in the order of Compiled.anchor
    cdef bint before = at > 0 and is_word(<unsigned char>text[at - 1])
    cdef bint after = at < n and is_word(<unsigned char>text[at])
    return (at == 0) | ((complete and at == n) << 1) | (4 if before != after else 8)


cdef void close_over(const Compiled *p, uint64_t *bits, int holds) noexcept nogil:
    # follow the transitions that need no character; they only lead forward
    cdef uint32_t w = p.words
    cdef uint32_t i
    cdef int k
    cdef uint64_t one, two, carry_one, carry_two, before, source
    cdef bint changed = True
    while changed:
        changed = False
        carry_one = 0
        carry_two = 0
        for i in range(w):
            before = bits[i]
            source = p.skip_one[i]
            for k in range(4):
                if holds >> k & 1:
                    source |= p.anchor[k * w + i]
            one = before & source
            two = before & p.skip_two[i]
            bits[i] = before | (one << 1) | carry_one | (two << 2) | carry_two
            carry_one = one >> 63
            carry_two = two >> 62
            if bits[i] != before:
                changed = True


cdef bint advance(const Compiled *p, const char *text, size_t n, bint complete, uint64_t *bits) noexcept nogil:
    # run the automaton over a text from its beginning (complete: that is all of the path, else a slash follows);
    # false when no state is left
    cdef uint64_t next_bits[MAX_WORDS]
    cdef uint32_t w = p.words
    cdef uint32_t i
    cdef uint64_t alive, carry, moved
    cdef size_t at = 0
    cdef size_t width = 0
    cdef uint32_t c
    cdef const State *state
    for i in range(w):
        bits[i] = 0
    bits[0] = 1
    close_over(p, bits, where(text, n, 0, complete))
    while at < n:
        c = <unsigned char>text[at]
        if c < 128:
            at += 1
            carry = 0
            alive = 0
            for i in range(w):
                moved = bits[i] & p.step[c * w + i]
                next_bits[i] = (bits[i] & p.stay[c * w + i]) | (moved << 1) | carry
                carry = moved >> 63
                alive |= next_bits[i]
        else:
            c = decode(<const unsigned char *>text + at, n - at, &width)
            at += width
            alive = 0
            for i in range(w):
                next_bits[i] = 0
            for i in range(p.states):
                if not has(bits, i):
                    continue
                state = &p.state[i]
                if state.kind == SET:
                    if in_set(p, state, c):
                        put(next_bits, i + 1)
                        alive = 1
                elif state.kind == STAR or state.kind == INNER:
                    if in_set(p, state, c):
                        put(next_bits, i)
                        alive = 1
        if not alive:
            return False
        close_over(p, next_bits, where(text, n, at, complete))
        for i in range(w):
            bits[i] = next_bits[i]
    return True


cdef inline bint ends_with(const char *path, size_t n, const char *text, size_t length) noexcept nogil:
    return n >= length and memcmp(path + n - length, text, length) == 0


cdef inline bint has_byte(const char *path, size_t n, char byte) noexcept nogil:
    cdef size_t i
    for i in range(n):
        if path[i] == byte:
            return True
    return False


cdef bint match_one(const Compiled *p, const char *path, size_t n) noexcept nogil:
    cdef uint64_t bits[MAX_WORDS]
    if p.kind == NEVER:
        return False
    if p.kind == EXACT:
        return n == p.length and memcmp(path, p.text, n) == 0
    if p.kind == PREFIX:
        return n >= p.length and memcmp(path, p.text, p.length) == 0
    if p.kind == SUFFIX:
        if ends_with(path, n, p.text, p.length):
            return True
        # **/foo matches foo
        return p.length and p.text[0] == c'/' and n + 1 == p.length and memcmp(path, p.text + 1, n) == 0
    if p.kind == TREE_TAIL:
        return ends_with(path, n, p.text, p.length) and not has_byte(path, n, c'\n')
    if p.kind == NAME_TAIL:
        return ends_with(path, n, p.text, p.length) and not has_byte(path, n - p.length, c'/')
    if p.lead_length and (n < p.lead_length or memcmp(path, p.lead, p.lead_length) != 0):
        return False
    if p.tail_length and not ends_with(path, n, p.tail, p.tail_length):
        return False
    return advance(p, path, n, True, bits) and has(bits, p.states)


cdef bint can_match_below(const Compiled *p, const char *path, size_t n) noexcept nogil:
    # whether the pattern can match any path that begins with `path` and a slash
    cdef uint64_t bits[MAX_WORDS]
    cdef uint64_t copy[MAX_WORDS]
    cdef uint32_t i
    cdef size_t common
    if p.kind == EXACT:
        return p.length > n + 1 and memcmp(p.text, path, n) == 0 and p.text[n] == c'/'
    if p.kind == PREFIX:
        common = p.length if p.length < n else n
        if memcmp(p.text, path, common) != 0:
            return False
        return p.length <= n or p.text[n] == c'/'
    if p.kind == SUFFIX or p.kind == TREE_TAIL:
        return True
    if p.kind == NAME_TAIL or p.kind == NEVER:
        # the text of a name has no slash
        return False
    if not advance(p, path, n, False, bits):
        return False
    # the slash
    for i in range(p.words):
        copy[i] = 0
    for i in range(p.states):
        if has(bits, i) and in_set(p, &p.state[i], c'/'):
            if p.state[i].kind == SET:
                put(copy, i + 1)
            elif p.state[i].kind == STAR:
                put(copy, i)
            elif p.state[i].kind == INNER:
                put(copy, i)
                put(copy, i + 1)
    # what comes next is not known: assertions may hold
    close_over(p, copy, 12)
    for i in range(p.states):
        if has(copy, i) and p.state[i].kind < BEGIN:
            return True
    return False


cdef char *duplicate(bytes text) except NULL:
    cdef char *found = <char *>malloc(len(text) + 1)
    if found == NULL:
        raise MemoryError
    memcpy(found, <const char *>text, len(text) + 1)
    return found


cdef void release(Compiled *p) noexcept:
    free(p.text)
    free(p.lead)
    free(p.tail)
    free(p.state)
    free(p.span)
    free(p.step)
    free(p.stay)
    free(p.skip_one)
    free(p.skip_two)
    free(p.anchor)


cdef int compile_literal(Compiled *p, int kind, str text) except -1:
    data = os.fsencode(text)
    p.kind = kind
    p.text = duplicate(data)
    p.length = len(data)
    return 0


cdef int compile_pattern(Compiled *p, str pattern) except -1:
    cdef uint32_t i, c, w, total
    cdef State *state
    text, kind = _translate(pattern)
    if kind == "exact":
        return compile_literal(p, EXACT, pattern)
    if kind == "prefix":
        return compile_literal(p, PREFIX, pattern[: len(pattern) - 2])
    if kind == "suffix":
        return compile_literal(p, SUFFIX, pattern[2:])
    atoms = _atoms(text)
    if atoms is None:
        p.kind = NEVER
        return 0
    lead = _run(atoms)
    if len(lead) == len(atoms):
        return compile_literal(p, EXACT, lead)
    tail = _run(reversed(atoms))[::-1]
    if "/" not in tail and tail:
        head = atoms[: len(atoms) - len(tail)]
        if head == [_ANY_NAME]:
            return compile_literal(p, NAME_TAIL, tail)
        if len(head) == 3 and head[0][0] == ENTRY and head[2] == _ANY_NAME and "\n" not in tail:
            return compile_literal(p, TREE_TAIL, tail)
    total = len(atoms)
    w = (total + 1 + 63) // 64
    if w > MAX_WORDS:
        raise ValueError("pattern too long")
    p.kind = AUTOMATON
    p.states = total
    p.words = w
    p.lead = duplicate(os.fsencode(lead))
    p.lead_length = len(os.fsencode(lead))
    p.tail = duplicate(os.fsencode(tail))
    p.tail_length = len(os.fsencode(tail))
    spans = [span for _, own, _ in atoms for span in own]
    p.state = <State *>calloc(total, sizeof(State))
    p.span = <Span *>calloc(len(spans) + 1, sizeof(Span))
    p.step = <uint64_t *>calloc(128 * w, sizeof(uint64_t))
    p.stay = <uint64_t *>calloc(128 * w, sizeof(uint64_t))
    p.skip_one = <uint64_t *>calloc(w, sizeof(uint64_t))
    p.skip_two = <uint64_t *>calloc(w, sizeof(uint64_t))
    p.anchor = <uint64_t *>calloc(4 * w, sizeof(uint64_t))
    if not (p.state and p.span and p.step and p.stay and p.skip_one and p.skip_two and p.anchor):
        raise MemoryError
    for i, (low, high) in enumerate(spans):
        p.span[i].low = low
        p.span[i].high = high
    used = 0
    for i in range(total):
        atom_kind, own, negated = atoms[i]
        state = &p.state[i]
        state.kind = atom_kind
        state.negated = negated
        state.first = used
        state.count = len(own)
        used += len(own)
        if atom_kind >= BEGIN:
            put(p.anchor + (<int>atom_kind - BEGIN) * w, i)
        elif atom_kind == ENTRY:
            put(p.skip_one, i)
            put(p.skip_two, i)
        elif atom_kind == STAR:
            put(p.skip_one, i)
        if atom_kind >= BEGIN or atom_kind == ENTRY:
            continue
        for c in range(128):
            if in_set(p, state, c):
                if atom_kind == SET:
                    put(p.step + c * w, i)
                else:
                    put(p.stay + c * w, i)
        if atom_kind == INNER:
            put(p.step + 47 * w, i)
    return 0


cdef class Matcher:
    def __cinit__(self, patterns):
        self.compiled = NULL
        self.n_patterns = 0
        self.has_negation = False

    def __init__(self, patterns):
        if self.compiled != NULL:
            raise RuntimeError("a Matcher is made once")
        cleaned = []
        for pattern in patterns:
            pattern = pattern.strip(_SPACES)
            if not pattern:
                continue
            text = clean_path(pattern)
            exclusion = text.startswith("!")
            if exclusion:
                text = text[1:]
                if not text:
                    raise ValueError('illegal exclusion pattern: "!"')
            if "\0" in text:
                raise ValueError("a pattern cannot hold a zero byte")
            cleaned.append((pattern, text, exclusion))
        self.compiled = <Compiled *>calloc(len(cleaned) + 1, sizeof(Compiled))
        if self.compiled == NULL:
            raise MemoryError
        for pattern, text, exclusion in cleaned:
            try:
                go_match(text, ".")
                compile_pattern(&self.compiled[self.n_patterns], text)
            except ValueError as e:
                self.n_patterns += 1
                raise ValueError(f"{e}: {pattern}") from None
            self.compiled[self.n_patterns].exclusion = exclusion
            self.has_negation = self.has_negation or exclusion
            self.n_patterns += 1
        self.patterns = tuple(text for _, text, _ in cleaned)

    def __dealloc__(self):
        cdef int i
        if self.compiled != NULL:
            for i in range(self.n_patterns):
                release(&self.compiled[i])
            free(self.compiled)

    cdef bint match_c(self, const char *path, size_t n, const uint8_t *parent_state, uint8_t *state_out) noexcept nogil:
        cdef bint matched = False
        cdef bint found
        cdef int i
        cdef size_t k
        cdef const Compiled *p
        for i in range(self.n_patterns):
            p = &self.compiled[i]
            found = parent_state != NULL and parent_state[i]
            if not found:
                # a pattern that could not change the result is not looked at, and leaves no mark
                if p.exclusion == matched:
                    found = match_one(p, path, n)
                    if not found and parent_state == NULL:
                        for k in range(1, n):
                            if path[k] == c'/' and match_one(p, path, k):
                                found = True
                                break
            if state_out != NULL:
                state_out[i] = found
            if found:
                matched = not p.exclusion
        return matched

    cdef bint walk_state_c(self, const char *dirpath, size_t n, uint8_t *state_out) noexcept nogil:
        cdef size_t k
        cdef bint result = False
        memset(state_out, 0, self.n_patterns)
        for k in range(1, n + 1):
            if k == n or dirpath[k] == c'/':
                result = self.match_c(dirpath, k, state_out, state_out)
        return result

    cdef bint may_reinclude_c(self, const char *dirpath, size_t n) noexcept nogil:
        cdef int i
        if not self.has_negation:
            return False
        if n == 0:
            return True
        for i in range(self.n_patterns):
            if self.compiled[i].exclusion and can_match_below(&self.compiled[i], dirpath, n):
                return True
        return False

    def matches(self, str path not None):
        data = os.fsencode(clean_path(path))
        if data == b".":
            return False
        return bool(self.match_c(data, len(data), NULL, NULL))

    def match_below(self, str path not None, parent):
        cdef bytes out = bytes(self.n_patterns)
        cdef const uint8_t *above = NULL
        cdef bytes state
        data = os.fsencode(path)
        if parent is not None:
            state = parent
            if len(state) != self.n_patterns:
                raise ValueError("the state belongs to other patterns")
            above = <const uint8_t *><const char *>state
        elif self.n_patterns:
            state = bytes(self.n_patterns)
            if b"/" not in data:
                above = <const uint8_t *><const char *>state
        result = self.match_c(data, len(data), above, <uint8_t *><char *>out)
        return bool(result), out

    def walk_state(self, str path not None):
        cdef bytes out = bytes(self.n_patterns)
        data = os.fsencode(path)
        result = self.walk_state_c(data, len(data), <uint8_t *><char *>out)
        return bool(result), out

    def may_reinclude(self, str path not None):
        data = os.fsencode(path)
        return bool(self.may_reinclude_c(data, len(data)))

    @property
    def negations(self):
        return bool(self.has_negation)


# --- Go's filepath.Match ---------------------------------------------------------------------------------------------------

cdef int class_rune(const unsigned char *p, size_t n, size_t *at, uint32_t *rune) noexcept nogil:
    # one character of a bracket expression; -1 when it is malformed or the last of the pattern
    cdef size_t width = 0
    if at[0] >= n or p[at[0]] == c'-' or p[at[0]] == c']':
        return -1
    if p[at[0]] == c'\\':
        at[0] += 1
        if at[0] >= n:
            return -1
    rune[0] = decode(p + at[0], n - at[0], &width)
    if rune[0] == 0xFFFD and width == 1:
        return -1
    at[0] += width
    return -1 if at[0] >= n else 0


cdef int bracket(const unsigned char *p, size_t n, size_t *at, uint32_t c, bint *inside) noexcept nogil:
    # a bracket expression whose "[" is at at[0]; leaves at[0] behind its "]"
    cdef bint negated = False
    cdef bint found = False
    cdef int ranges = 0
    cdef uint32_t low = 0
    cdef uint32_t high = 0
    at[0] += 1
    if at[0] < n and p[at[0]] == c'^':
        negated = True
        at[0] += 1
    while True:
        if at[0] < n and p[at[0]] == c']' and ranges:
            at[0] += 1
            break
        if class_rune(p, n, at, &low) < 0:
            return -1
        high = low
        if p[at[0]] == c'-':
            at[0] += 1
            if class_rune(p, n, at, &high) < 0:
                return -1
        if low <= c <= high:
            found = True
        ranges += 1
    inside[0] = found != negated
    return 0


cdef int check_glob(const unsigned char *p, size_t n) noexcept nogil:
    cdef size_t at = 0
    cdef bint ignored = False
    while at < n:
        if p[at] == c'\\':
            if at + 1 >= n:
                return -1
            at += 2
        elif p[at] == c'[':
            if bracket(p, n, &at, 0, &ignored) < 0:
                return -1
        else:
            at += 1
    return 0


cdef bint match_glob(const unsigned char *p, size_t n, const unsigned char *s, size_t m) noexcept nogil:
    # only the last star is ever tried again: an earlier one could not do better
    cdef size_t at = 0
    cdef size_t pos = 0
    cdef size_t star_at = 0
    cdef size_t star_pos = 0
    cdef bint star = False
    cdef bint good
    cdef size_t width = 0
    cdef uint32_t c
    while True:
        good = False
        if at < n and p[at] == c'*':
            at += 1
            star = True
            star_at = at
            star_pos = pos
            continue
        if at == n:
            if pos == m:
                return True
        elif pos < m:
            if p[at] == c'?':
                if s[pos] != c'/':
                    decode(s + pos, m - pos, &width)
                    pos += width
                    at += 1
                    good = True
            elif p[at] == c'[':
                c = decode(s + pos, m - pos, &width)
                pos += width
                if bracket(p, n, &at, c, &good) < 0:
                    return False
            else:
                if p[at] == c'\\':
                    at += 1
                if p[at] == s[pos]:
                    at += 1
                    pos += 1
                    good = True
        if good:
            continue
        if not star or star_pos >= m or s[star_pos] == c'/':
            return False
        star_pos += 1
        pos = star_pos
        at = star_at


def go_match(str pattern not None, str name not None):
    cdef bytes p = os.fsencode(pattern)
    cdef bytes s = os.fsencode(name)
    if check_glob(<const unsigned char *><const char *>p, len(p)) < 0:
        raise ValueError("syntax error in pattern")
    return bool(match_glob(<const unsigned char *><const char *>p, len(p), <const unsigned char *><const char *>s, len(s)))
