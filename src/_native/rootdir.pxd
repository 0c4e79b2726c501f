# A root on disk that follows an index: directories by descriptor, attributes in the right order, directories' times and modes at the end.
# Functions return 0 (or a descriptor), or -1 with errno.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.stat cimport struct_stat

from pybuild._native.index cimport Index
from pybuild._native.tree cimport Attributes

cdef struct Slot:
    char *path
    size_t length
    int fd
    uint64_t used

cdef class RootDir:
    cdef Index index
    cdef int rootfd                   # own descriptor
    cdef bint owners, privileged
    cdef uint32_t euid, egid, umask
    cdef Slot slots[16]               # directories kept open
    cdef uint64_t clock
    cdef uint32_t *touched
    cdef size_t touched_count, touched_cap
    cdef char *path                   # what settle() was at

    # An O_PATH descriptor of a directory by its canonical path (no symlink in it); it belongs to a cache and holds until the next calls.
    cdef int open_dir(self, const char *path, size_t n) noexcept nogil
    # The directory that `path` lies in (`base`: where its last component begins; `parent`: its node), ready to be written to.
    cdef int open_parent(self, int64_t parent, const char *path, size_t base) noexcept nogil
    # after a directory was removed or replaced
    cdef void drop_slots(self) noexcept nogil
    # give all descriptors back; nothing works afterwards
    cdef void close_all(self) noexcept nogil
    # settle() is to set times (of a directory also owner, mode and attributes) of this node
    cdef int touch(self, int64_t node) noexcept nogil
    # make the directory `path`, whatever other type is there
    cdef int make_dir(self, int64_t parent, const char *path, size_t n, size_t base) noexcept nogil
    # remove `path` with all below it; fine when it is missing
    cdef int remove(self, int64_t parent, const char *path, size_t base) noexcept nogil
    # owner, mode, attributes and times of what was just made, and the index's memory of them
    cdef int settle_path(self, int at, const char *name, int64_t node, const Attributes *a) noexcept nogil
    cdef int settle_fd(self, int fd, int64_t node, const Attributes *a, bint directory) noexcept nogil
    # everything touched
    cdef int settle(self) noexcept nogil

    cdef int unlock(self, int fd, int64_t node) noexcept nogil
    cdef int open_locked(self, const char *path, size_t n) noexcept nogil
    cdef void record(self, int64_t node, const struct_stat *st, int missed) noexcept nogil
    cdef int settle_first(self, size_t count) noexcept nogil
    cdef uint32_t depth_of(self, uint32_t node) noexcept nogil
    cdef int settle_node(self, int64_t node) noexcept nogil
