"""See index.pyi; the tree itself is in tree.pyx."""

import errno as _errno
import os
from typing import NamedTuple

from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memset, strlen
from posix.time cimport clock_gettime, nanosleep, timespec

from pybuild._native.entries cimport Entry, EntryList
from pybuild._native.tree cimport (
    MISSING, OUT_OF_MEMORY, PATH_LIMIT, ROOT, TOO_MANY_LINKS,
    Attributes, Inode, Node, Tree,
)

cdef extern from "time.h" nogil:
    int CLOCK_REALTIME_COARSE

TYPES = {48: "file", 50: "symlink", 51: "char", 52: "block", 53: "dir", 54: "fifo"}


class Stat(NamedTuple):
    type: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: str
    rdev: tuple
    nlink_group: int


cdef bint starts(const char *name, size_t n, const char *prefix) noexcept nogil:
    cdef size_t k = strlen(prefix)
    return n >= k and memcmp(name, prefix, k) == 0


cdef bint xattr_wanted(const char *name, size_t n) noexcept nogil:
    if starts(name, n, b"user."):
        return not starts(name, n, b"user.overlay.")
    if starts(name, n, b"trusted."):
        return not starts(name, n, b"trusted.overlay.")
    return (n == 19 and starts(name, n, b"security.capability")) or starts(name, n, b"system.posix_acl_")


cdef class Index(Tree):
    cdef int apply_entry(self, EntryList entries, size_t i, char *path) noexcept nogil:
        cdef Entry *e = &entries.entries[i]
        cdef Attributes a
        cdef size_t n, used
        cdef int64_t parent, node, target
        if e.type == c'W' or e.type == c'O':
            node = self.walk(entries.arena + e.path_off, e.path_len, False, path, &n)
            if node > ROOT or (node == ROOT and e.type == c'O'):
                self.prune(node, e.type == c'O')
            return 0
        memset(&a, 0, sizeof(a))
        if e.path_len == 0:
            parent = ROOT
            path[0] = 0
            n = 0
            if e.type != c'5':
                return -5
        else:
            parent = self.place(entries.arena + e.path_off, e.path_len, path, &n)
            if parent < 0:
                return <int>parent
        used = n
        while used and path[used - 1] != c'/':
            used -= 1
        if e.type == c'1':
            # `path` is still needed for the name
            target = self.walk(entries.arena + e.link_off, e.link_len, False, self.scratch + 2 * PATH_LIMIT, &n)
            if target < 0 or self.type_of(target) == c'5':
                return -4
            return 0 if self.link(parent, path + used, strlen(path + used), target) >= 0 else OUT_OF_MEMORY
        a.type, a.mode, a.uid, a.gid = e.type, e.mode, e.uid, e.gid
        a.size, a.mtime_ns = e.size, e.mtime_ns
        a.rdev_major, a.rdev_minor = e.rdev_major, e.rdev_minor
        a.link, a.link_len = entries.arena + e.link_off, e.link_len
        a.xattrs, a.xattr_len = entries.arena + e.xattr_off, e.xattr_len
        if e.path_len == 0:
            return self.set_attributes(ROOT, &a)
        return 0 if self.put(parent, path + used, n - used, &a) >= 0 else OUT_OF_MEMORY

    # --- for Python

    def copy(self):
        cdef Index other = Index.__new__(Index)
        self.copy_to(other)
        return other

    def lookup(self, path):
        cdef bytes p = os.fsencode(path)
        cdef int64_t node = self.find_path(p, len(p))
        cdef Attributes a
        if node < 0:
            return None
        self.get(node, &a)
        return Stat(
            TYPES[a.type], a.mode, a.uid, a.gid, a.link_len if a.type == c'2' else a.size, a.mtime_ns,
            os.fsdecode(a.link[:a.link_len]) if a.type == c'2' else "", (a.rdev_major, a.rdev_minor),
            self.nodes[node].inode if self.inode_of(node).names & 0x3FFF > 1 else 0,
        )

    def resolve(self, path, *, bint follow_last=True):
        cdef bytes p = os.fsencode(path)
        cdef char *out = <char *>malloc(PATH_LIMIT)
        cdef size_t n = 0
        if out == NULL:
            raise MemoryError
        try:
            node = self.walk(p, len(p), follow_last, out, &n)
            if node < MISSING:
                code = _errno.ELOOP if node == TOO_MANY_LINKS else _errno.ENAMETOOLONG
                raise OSError(code, os.strerror(code), path)
            return os.fsdecode(out[:n])
        finally:
            free(out)

    def children(self, path):
        cdef bytes p = os.fsencode(path)
        cdef int64_t node = self.find_path(p, len(p))
        cdef uint32_t child
        if node < 0:
            raise FileNotFoundError(_errno.ENOENT, os.strerror(_errno.ENOENT), path)
        if self.type_of(node) != c'5':
            raise NotADirectoryError(_errno.ENOTDIR, os.strerror(_errno.ENOTDIR), path)
        found = []
        child = self.nodes[node].first_child
        while child:
            name = self.name_of(child)[:self.nodes[child].name_len]
            found.append((name, TYPES[self.type_of(child)]))
            child = self.nodes[child].next_sibling
        return [(os.fsdecode(name), kind) for name, kind in sorted(found)]

    def apply(self, EntryList entries not None):
        cdef size_t i
        cdef int got = 0
        cdef char *path = <char *>malloc(PATH_LIMIT)
        if path == NULL:
            raise MemoryError
        with nogil:
            self.begin()
            for i in range(entries.count):
                got = self.apply_entry(entries, i, path)
                if got:
                    break
            free(path)
        if got == OUT_OF_MEMORY:
            raise MemoryError
        if got:
            name = entries[i].path
            if got == -4:
                raise OSError(_errno.ENOENT, f"hard link to {entries[i].link!r}, which is missing or a directory", name)
            if got == -5:
                raise OSError(_errno.ENOTDIR, "the root must be a directory", name)
            code = _errno.ELOOP if got == TOO_MANY_LINKS else _errno.ENAMETOOLONG
            raise OSError(code, os.strerror(code), name)

    def entries(self, int rootfd, prefix="", *, dest="", owner=None):
        from pybuild._native.listing import list_entries

        return list_entries(self, rootfd, prefix, dest, owner)

    def add_parents(self, EntryList entries not None):
        from pybuild._native.listing import add_parents

        add_parents(self, entries)

    def conflicts(self, EntryList entries not None):
        from pybuild._native.listing import conflicts

        return conflicts(self, entries)

    def scan(self, int rootfd, *, mode="redo", ignore=(), int threads=0, cancel=None, bint owners=True):
        from pybuild._native.scan import scan

        return scan(self, rootfd, mode, ignore, threads, cancel, owners)

    def refresh(self, int rootfd, paths):
        from pybuild._native.scan import refresh

        refresh(self, rootfd, paths)

    def settle(self):
        cdef timespec now, pause
        cdef int64_t target = self.newest_ctime
        cdef int i, tries = 60
        self.settled = target
        if target == 0:
            return
        if target % 1000000000 == 0:
            # a file system that keeps whole seconds
            target += 999999999
            tries = 1100
        pause.tv_sec, pause.tv_nsec = 0, 1000000
        with nogil:
            for i in range(tries):
                clock_gettime(CLOCK_REALTIME_COARSE, &now)
                if <int64_t>now.tv_sec * 1000000000 + now.tv_nsec > target:
                    break
                nanosleep(&pause, NULL)

    @property
    def count(self):
        return self.live

    @property
    def memory(self):
        return (self.node_cap * sizeof(Node) + self.inode_cap * sizeof(Inode) + self.arena_cap
                + (<size_t>self.bucket_mask + 1) * sizeof(uint32_t))

    @property
    def newest_ctime_ns(self):
        return self.newest_ctime
