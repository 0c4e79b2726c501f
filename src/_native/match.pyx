"""See match.pyi."""
import os

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

cdef enum:
    CHAR = 0       # one byte
    ONE = 1        # one byte but "/"
    STAR = 2       # any bytes but "/"
    SET = 3        # one byte of a class
    ALL = 4        # anything
    DIRS = 5       # nothing, or anything that ends in "/"
    INSIDE = 6     # the middle of DIRS
    REST = 7       # the rest of a character of several bytes
    MAX_TOKENS = 4096


cdef list compile_pattern(bytes text, bint dockerignore):
    """Tokens (kind, byte, set of 32 bytes or None); ``ValueError`` when malformed."""
    tokens = []
    cdef size_t i = 0, n = len(text)
    while i < n:
        c = text[i]
        if c == 0x2A:
            if dockerignore and i + 1 < n and text[i + 1] == 0x2A:
                i += 2
                if i < n and text[i] == 0x2F:
                    i += 1
                if i >= n:
                    tokens.append((ALL, 0, None))
                else:
                    tokens.append((DIRS, 0, None))
                    tokens.append((INSIDE, 0, None))
                continue
            if not tokens or tokens[len(tokens) - 1][0] != STAR:
                tokens.append((STAR, 0, None))
        elif c == 0x3F:
            tokens.append((ONE, 0, None))
            tokens.append((REST, 0, None))
        elif c == 0x5B:
            i += 1
            members = bytearray(32)
            invert = i < n and text[i] == 0x5E
            if invert:
                i += 1
            empty = True
            while True:
                if i >= n or (text[i] == 0x5D and empty and not dockerignore):
                    raise ValueError("syntax error in pattern")
                if text[i] == 0x5D and not empty:
                    break
                low, i = class_byte(text, i)
                high = low
                if i + 1 < n and text[i] == 0x2D and text[i + 1] != 0x5D:
                    high, i = class_byte(text, i + 1)
                if high < low:
                    raise ValueError("syntax error in pattern")
                for b in range(low, high + 1):
                    members[b >> 3] |= 1 << (b & 7)
                empty = False
            if invert:
                for b in range(32):
                    members[b] ^= 0xFF
                # the following bytes of a character belong to its first
                for b in range(0x80, 0xC0):
                    members[b >> 3] &= ~(1 << (b & 7)) & 0xFF
            tokens.append((SET, 0, bytes(members)))
            tokens.append((REST, 0, None))
        elif c == 0x5C:
            i += 1
            if i >= n:
                raise ValueError("syntax error in pattern")
            tokens.append((CHAR, text[i], None))
        else:
            tokens.append((CHAR, c, None))
        i += 1
    if len(tokens) > MAX_TOKENS - 2:
        raise ValueError("the pattern is too long")
    return tokens


cdef tuple class_byte(bytes text, size_t i):
    if i < len(text) and text[i] == 0x5C:
        i += 1
    if i >= <size_t>len(text):
        raise ValueError("syntax error in pattern")
    return text[i], i + 1


cdef bint run(const Token *tokens, uint32_t count, const uint8_t *sets, const char *path, size_t n) noexcept nogil:
    # all states at once; state `count` is the end
    cdef uint8_t now[4096]
    cdef uint8_t following[4096]
    cdef uint32_t s
    cdef size_t i
    cdef uint8_t c
    cdef bint any_state
    cdef const Token *t
    # the literal beginning decides most cases
    s = 0
    while s < count and s < n and tokens[s].kind == CHAR:
        if tokens[s].char != <uint8_t>path[s]:
            return False
        s += 1
    if s == count:
        return n == count
    if s >= n and tokens[s].kind == CHAR:
        return False
    cdef uint32_t begin = s
    memset(now, 0, count + 1)
    now[s] = 1
    i = s
    while True:
        # what can be reached without a byte
        for s in range(begin, count):
            if now[s]:
                t = &tokens[s]
                if t.kind == STAR or t.kind == ALL or t.kind == REST:
                    now[s + 1] = 1
                elif t.kind == DIRS:
                    now[s + 1] = 1
                    now[s + 2] = 1
        if i == n:
            return now[count] != 0
        c = <uint8_t>path[i]
        i += 1
        memset(following + begin, 0, count + 1 - begin)
        any_state = False
        for s in range(begin, count):
            if not now[s]:
                continue
            t = &tokens[s]
            if t.kind == CHAR:
                if c == t.char:
                    following[s + 1] = 1
                    any_state = True
            elif t.kind == ONE:
                if c != c'/' and (c & 0xC0) != 0x80:
                    following[s + 1] = 1
                    any_state = True
            elif t.kind == STAR:
                if c != c'/':
                    following[s] = 1
                    any_state = True
            elif t.kind == SET:
                if sets[t.set_off + (c >> 3)] >> (c & 7) & 1:
                    following[s + 1] = 1
                    any_state = True
            elif t.kind == ALL:
                following[s] = 1
                any_state = True
            elif t.kind == INSIDE:
                following[s] = 1
                if c == c'/':
                    following[s + 1] = 1
                any_state = True
            elif t.kind == REST:
                if (c & 0xC0) == 0x80:
                    following[s] = 1
                    any_state = True
        if not any_state:
            return False
        memcpy(now + begin, following + begin, count + 1 - begin)


cdef class Matcher:
    def __cinit__(self, patterns):
        compiled = []
        total = sets = 0
        self.texts = tuple(patterns)
        for text in self.texts:
            raw = os.fsencode(text)
            negated = raw.startswith(b"!")
            if negated:
                raw = raw[1:]
                self.has_negation = True
            if not raw:
                raise ValueError(f"illegal exclusion pattern: {text!r}")
            try:
                tokens = compile_pattern(raw, True)
            except ValueError as e:
                raise ValueError(f"{text!r}: {e}") from None
            compiled.append((tokens, negated))
            total += len(tokens)
            sets += sum(1 for t in tokens if t[2] is not None)
        self.n_patterns = len(compiled)
        self.tokens = <Token *>calloc(total + 1, sizeof(Token))
        self.sets = <uint8_t *>calloc(sets + 1, 32)
        self.patterns = <Pattern *>calloc(self.n_patterns + 1, sizeof(Pattern))
        if self.tokens == NULL or self.sets == NULL or self.patterns == NULL:
            raise MemoryError
        cdef uint32_t at = 0, set_at = 0
        cdef bytes members
        for k, (tokens, negated) in enumerate(compiled):
            self.patterns[k].first = at
            self.patterns[k].count = len(tokens)
            self.patterns[k].negated = negated
            for kind, byte, found in tokens:
                self.tokens[at].kind = kind
                self.tokens[at].char = byte
                if found is not None:
                    members = found
                    memcpy(self.sets + set_at, <const char *>members, 32)
                    self.tokens[at].set_off = set_at
                    set_at += 32
                at += 1

    def __dealloc__(self):
        free(self.tokens)
        free(self.sets)
        free(self.patterns)

    cdef bint match_c(self, const char *path, size_t n, const uint8_t *parent_state, uint8_t *state_out) noexcept nogil:
        cdef bint excluded = False, hit
        cdef int k
        cdef Pattern *p
        for k in range(self.n_patterns):
            p = &self.patterns[k]
            hit = (parent_state != NULL and parent_state[k]) or run(self.tokens + p.first, p.count, self.sets, path, n)
            state_out[k] = hit
            if hit:
                excluded = not p.negated
        return excluded

    cdef bint may_reinclude_c(self, const char *path, size_t n) noexcept nogil:
        # a "!" pattern whose literal beginning agrees with the directory as far as both go could match below it
        cdef int k
        cdef uint32_t s
        cdef size_t i
        cdef Pattern *p
        cdef Token *t
        for k in range(self.n_patterns):
            p = &self.patterns[k]
            if not p.negated:
                continue
            i = 0
            s = 0
            while True:
                if s == p.count:
                    break
                if i == n:
                    t = &self.tokens[p.first + s]
                    if t.kind != CHAR or t.char == c'/':
                        return True
                    break
                t = &self.tokens[p.first + s]
                if t.kind != CHAR:
                    return True
                if t.char != <uint8_t>path[i]:
                    break
                i += 1
                s += 1
        return False

    def matches(self, path):
        cdef bytes raw = os.fsencode(path)
        cdef const char *text = raw
        cdef uint8_t *states
        cdef size_t i, n = len(raw)
        cdef bint excluded = False, first = True
        states = <uint8_t *>malloc(self.n_patterns * 2 + 1)
        if states == NULL:
            raise MemoryError
        memset(states, 0, self.n_patterns)
        for i in range(n + 1):
            if i == n or text[i] == c'/':
                excluded = self.match_c(text, i, states, states)
        free(states)
        return excluded

    def may_reinclude(self, path):
        cdef bytes raw = os.fsencode(path)
        return self.may_reinclude_c(raw, len(raw))



def go_match(pattern, name):
    cdef bytes text = os.fsencode(name)
    cdef list tokens = compile_pattern(os.fsencode(pattern), False)
    cdef Token *made = <Token *>calloc(len(tokens) + 1, sizeof(Token))
    cdef uint8_t *sets = <uint8_t *>calloc(len(tokens) + 1, 32)
    cdef bytes members
    cdef size_t k
    if made == NULL or sets == NULL:
        free(made)
        free(sets)
        raise MemoryError
    for k, (kind, byte, found) in enumerate(tokens):
        made[k].kind = kind
        made[k].char = byte
        made[k].set_off = 32 * k
        if found is not None:
            members = found
            memcpy(sets + 32 * k, <const char *>members, 32)
    result = run(made, len(tokens), sets, text, len(text))
    free(made)
    free(sets)
    return result
