# The list of entries that a layer is made of, in one block of memory: producers (change detection, collection from a
# context, instructions) append to it, the tar writer and the materializer read it without the interpreter lock.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    NO_ROOT = 255

cdef struct Entry:
    uint64_t path_off        # offsets into the arena; every string there is NUL-terminated
    uint64_t source_off      # path below the source root, or the inline bytes when root == NO_ROOT
    uint64_t link_off
    uint64_t xattr_off       # packed: u16 name length, name, u32 value length, value; repeated (host byte order)
    uint32_t path_len
    uint32_t source_len
    uint32_t link_len
    uint32_t xattr_len
    int64_t size             # bytes of a regular file
    int64_t mtime_ns
    uint32_t mode            # permission bits with setuid, setgid, sticky: 07777
    uint32_t uid
    uint32_t gid
    uint32_t rdev_major
    uint32_t rdev_minor
    uint8_t type             # '0' file, '1' hard link (link = layer path), '2' symlink, '3' char, '4' block, '5' directory, '6' fifo, 'W' whiteout, 'O' opaque
    uint8_t root             # index into the list's source roots, or NO_ROOT: content is inline

cdef class EntryList:
    cdef Entry *entries
    cdef size_t count
    cdef size_t capacity
    cdef char *arena
    cdef size_t arena_len
    cdef size_t arena_cap
    cdef int *roots          # file descriptors owned by the list
    cdef int nroots
    # All return 0, or -1 when memory ran out. Callable without the interpreter lock; not safe for concurrent calls.
    cdef Entry *push(self) noexcept nogil                                            # a zeroed entry with root = NO_ROOT, or NULL
    cdef int64_t store(self, const char *data, size_t n) noexcept nogil              # copies n bytes and a NUL into the arena; offset or -1
    cdef Entry *push_path(self, const char *path, size_t n) noexcept nogil           # push and store the path
    cdef int _settle_links(self) except -1
