# The walk of the change detector: workers take directories from a common stack and note what they find.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from posix.stat cimport struct_stat

from pybuild._native.cancel cimport Cancel
from pybuild._native.index cimport Index

cdef extern from "scan_dir.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    struct scan_unlocked:
        size_t count

cdef enum Mode:
    TIME, REDO, FULL

cdef enum Verdict:
    SAME, EMIT, UPDATE, SPLIT, DELETED

cdef struct Task:
    char *path
    size_t length
    int64_t node             # MISSING: a directory the index does not know

cdef struct Finding:
    char *path               # malloc'ed; NULL for those that need none
    size_t length
    char *link
    size_t link_len
    char *xattrs
    size_t xattr_len
    int64_t node
    int64_t size
    int64_t mtime_ns
    int64_t ctime_ns
    uint64_t ino
    uint64_t dev
    uint64_t rdev
    uint64_t digest[2]
    uint32_t mode
    uint32_t uid
    uint32_t gid
    uint32_t nlink
    uint8_t type
    uint8_t verdict
    uint8_t flags

cdef struct Worker:
    Finding *findings
    size_t count
    size_t capacity
    Task *tasks              # subdirectories of the one in hand
    size_t task_count
    size_t task_cap
    char *listing
    char *reading
    char *path               # of the directory in hand, and a name behind it
    char *link

cdef class Scanner:
    cdef Index index
    cdef int rootfd
    cdef Mode mode
    cdef bint owners, trusted
    cdef int64_t racy            # ctimes from here on may hide a change (full)
    cdef bytes ignore_text
    cdef const char *ignore      # NUL-terminated paths, an empty one at the end; NULL for none
    cdef Cancel cancel_object
    cdef const volatile int *cancel
    cdef pthread_mutex_t lock
    cdef pthread_cond_t wake
    cdef Task *stack
    cdef size_t depth, capacity
    cdef int active
    cdef volatile int failed     # errno
    cdef char *failed_path
    cdef scan_unlocked unlocked
    cdef Worker *workers
    cdef int worker_count

    cdef int push(self, Task *tasks, size_t n) noexcept nogil            # hand subdirectories over; with the lock held; 0 or -1
    cdef void work(self, int number) noexcept nogil                      # what worker `number` does until all is done
    cdef void lock_again(self) noexcept nogil                            # directories that had to be made searchable get their modes back
    cdef void fail(self, int code, const char *path) noexcept nogil
    cdef bint ignores(self, const char *path, size_t n, bint below) noexcept nogil
    cdef Finding *note(self, Worker *w, const char *path, size_t n, int verdict) noexcept nogil
    cdef int unlock(self, Task *task) noexcept nogil
    cdef int scan_dir(self, Worker *w, Task *task) noexcept nogil
    cdef int find_removed(self, Worker *w, Task *task, size_t base, bint ignoring) noexcept nogil
    cdef int entry(self, Worker *w, int fd, size_t base, size_t end, int64_t node, struct_stat *st) noexcept nogil
    cdef int hash_file(self, Worker *w, int fd, const char *name, uint64_t *out) noexcept nogil
    cdef int compare(self, Worker *w, int fd, size_t base, size_t end, int64_t node, struct_stat *st, uint8_t type) noexcept nogil
    cdef int emit(self, Worker *w, int fd, size_t base, size_t end, int64_t node, struct_stat *st, uint8_t type, uint64_t *digest,
                  int verdict=*) noexcept nogil
