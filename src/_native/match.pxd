# Patterns of ignore files, compiled once; matching needs no interpreter lock and no backtracking.
from libc.stdint cimport uint8_t, uint32_t

cdef struct Token:
    uint8_t kind
    uint8_t char
    uint32_t set_off         # of a class: 32 bytes, a bit for each byte value

cdef struct Pattern:
    uint32_t first
    uint32_t count
    bint negated

cdef class Matcher:
    cdef Token *tokens
    cdef uint8_t *sets
    cdef Pattern *patterns
    cdef readonly int n_patterns
    cdef readonly bint has_negation
    cdef readonly tuple texts
    # `parent_state` has a byte for each pattern: whether it matched a directory above (NULL at the top); `state_out` gets the same for
    # this path. True when the path is excluded.
    cdef bint match_c(self, const char *path, size_t n, const uint8_t *parent_state, uint8_t *state_out) noexcept nogil
    # whether a later "!" could bring back something below an excluded directory
    cdef bint may_reinclude_c(self, const char *path, size_t n) noexcept nogil
