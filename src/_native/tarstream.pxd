# A tar stream as it comes: headers read, names cleaned, data handed on. What is done with the entries is for subclasses.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from pybuild._native.tree cimport Attributes

cdef extern from "tar_header.h" nogil:
    ctypedef struct PaxFields:
        unsigned int have
        char *path
        char *link
        size_t path_len, link_len
        int64_t size, mtime_ns
        uint32_t uid, gid
        char *xattrs
        size_t xattr_len

cdef enum State:
    HEADER, META, DATA, SKIP, DONE, FAILED

cdef enum:
    FINE = 0
    MALFORMED = -1           # self.message
    SYSTEM = -2              # self.code, and the path in self.path
    NO_MEMORY = -3

cdef class TarStream:
    cdef bint strict                  # names that climb out of the archive are an error instead of clamped
    cdef State state
    cdef unsigned char header[512]
    cdef size_t have                  # bytes of the header or the extended header that are there
    cdef int zero_blocks
    cdef char *meta
    cdef size_t meta_cap, meta_need
    cdef uint8_t meta_type
    cdef uint64_t left                # bytes of data still to come, or to skip
    cdef uint32_t padding
    cdef PaxFields local, world
    cdef char *long_name
    cdef size_t long_name_len
    cdef const char *message
    cdef int code
    cdef char *path                   # where the entry goes, for errors; PATH_LIMIT bytes each
    cdef char *raw                    # work space for a path
    # the entry in hand
    cdef char *name                   # cleaned: no "." and "..", no slash at either end; "" is the archive's root
    cdef size_t name_len
    cdef char *link                   # target of a hard link (type '1') or a symlink, as it is written
    cdef size_t link_len
    cdef Attributes attributes        # type '0' to '6'; link is not set

    # For subclasses; each returns FINE or an error. After on_entry() of a regular file comes on_data() for each piece, then end_file().
    cdef int on_entry(self) noexcept nogil
    cdef int on_data(self, const unsigned char *p, size_t n) noexcept nogil
    cdef int end_file(self) noexcept nogil
    cdef void abandon(self) noexcept nogil       # after an error

    cdef int malformed(self, const char *message) noexcept nogil
    cdef int system(self, int code) noexcept nogil
    cdef int raise_error(self, int got) except -1
    cdef int check_end(self) noexcept nogil
    cdef int consume(self, const unsigned char *p, size_t n) noexcept nogil
    cdef void skip_bytes(self, uint64_t n) noexcept nogil
    cdef int on_header(self, const unsigned char *h) noexcept nogil
    cdef int read_name(self, const unsigned char *h, bint ustar, size_t *out_len) noexcept nogil
    cdef int read_owner_and_time(self, const unsigned char *h) noexcept nogil
    cdef int read_link(self, const unsigned char *h) noexcept nogil
    cdef int merge_xattrs(self) noexcept nogil
    cdef void forget(self) noexcept nogil
    cdef int begin_meta(self, uint8_t type, int64_t size) noexcept nogil
    cdef int on_meta(self) noexcept nogil
