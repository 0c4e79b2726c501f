# Ignore patterns, compiled once, matched without the interpreter lock in time linear in the path's length.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef struct Span:
    uint32_t low
    uint32_t high

cdef struct State:
    uint8_t kind              # SET, STAR, ENTRY, INNER, BEGIN, END, WORD, NO_WORD
    uint8_t negated
    uint32_t first            # spans of the set
    uint32_t count

cdef struct Compiled:
    uint8_t kind              # EXACT, PREFIX, SUFFIX, TREE_TAIL, NAME_TAIL, AUTOMATON, NEVER
    uint8_t exclusion
    char *text                # EXACT, PREFIX, SUFFIX, *_TAIL: what is compared
    size_t length
    char *lead                # AUTOMATON: bytes that every match begins and ends with
    size_t lead_length
    char *tail
    size_t tail_length
    uint32_t states           # the accepting state is number `states`
    uint32_t words            # 64-bit words of a state set
    State *state
    Span *span
    uint64_t *step            # [128][words]: states that this ASCII character leads on to the next one
    uint64_t *stay            # [128][words]: states that this ASCII character stays in
    uint64_t *skip_one        # [words]: states that lead to the next one without a character
    uint64_t *skip_two
    uint64_t *anchor          # [4][words]: states that lead on at the beginning, the end, a word's boundary, elsewhere

cdef class Matcher:
    cdef Compiled *compiled
    cdef int n_patterns
    cdef bint has_negation
    cdef readonly tuple patterns
    # Whether `path` is ignored. `parent_state` is what was written for its directory (n_patterns bytes), NULL at the top: then the
    # directories of the path are looked at too. `state_out` (n_patterns bytes, may be NULL) is for what lies below `path`.
    cdef bint match_c(self, const char *path, size_t n, const uint8_t *parent_state, uint8_t *state_out) noexcept nogil
    # The state for what lies below a directory, as a walk from the root to it would have it.
    cdef bint walk_state_c(self, const char *dirpath, size_t n, uint8_t *state_out) noexcept nogil
    # Whether a later "!" pattern can bring back anything below an ignored directory.
    cdef bint may_reinclude_c(self, const char *dirpath, size_t n) noexcept nogil
