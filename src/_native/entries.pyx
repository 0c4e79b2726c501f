"""See entries.pyi."""
import errno
import os

from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcmp, memcpy, memset, strlen
from posix.unistd cimport close

cdef extern from "fcntl.h" nogil:
    int fcntl(int fd, int cmd, ...)
    int F_DUPFD_CLOEXEC

cdef extern from "disk_ops.h" nogil:
    int disk_open(int dirfd, const char *path, size_t n, int flags)

cdef extern from "errno.h" nogil:
    int c_errno "errno"

from typing import NamedTuple


class LayerEntry(NamedTuple):
    path: str
    type: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: str
    xattrs: dict
    rdev: tuple
    root: int
    source: str


_NAMES = {"file": 48, "hardlink": 49, "symlink": 50, "char": 51, "block": 52, "dir": 53, "fifo": 54, "whiteout": 87, "opaque": 79}
_TYPES = {v: k for k, v in _NAMES.items()}


cdef struct SortKey:
    const char *path
    uint32_t length
    uint8_t group
    uint64_t position


cdef int compare_paths(const char *a, uint32_t la, const char *b, uint32_t lb) noexcept nogil:
    # component-wise: '/' sorts before every other byte, so a directory's children follow it at once
    cdef uint32_t n = la if la < lb else lb
    cdef uint32_t i = 0
    cdef unsigned char ca, cb
    while i < n and a[i] == b[i]:
        i += 1
    if i == n:
        return 0 if la == lb else (-1 if la < lb else 1)
    ca = <unsigned char>a[i]
    cb = <unsigned char>b[i]
    if ca == c'/':
        return -1
    if cb == c'/':
        return 1
    return -1 if ca < cb else 1


cdef int compare_keys(const void *pa, const void *pb) noexcept nogil:
    cdef const SortKey *a = <const SortKey *>pa
    cdef const SortKey *b = <const SortKey *>pb
    cdef int c
    if a.group != b.group:
        return -1 if a.group < b.group else 1
    c = compare_paths(a.path, a.length, b.path, b.length)
    if c:
        return c
    return -1 if a.position < b.position else 1


cdef int part_links(EntryList entries) except -1:
    # a file that is written over later leaves its content to the names that were linked to it before
    cdef size_t i, first
    cdef Entry *e
    cdef Entry moved
    cdef dict last = {}
    cdef dict linked = {}
    for i in range(entries.count):
        e = &entries.entries[i]
        if e.type == c'W' or e.type == c'O':
            continue
        if e.type == c'1':
            holder = last.get(entries.arena[e.link_off:e.link_off + e.link_len])
            if holder is not None:
                linked.setdefault(holder, []).append(i)
        last[entries.arena[e.path_off:e.path_off + e.path_len]] = i
    for holder, names in linked.items():
        e = &entries.entries[<size_t>holder]
        if e.type == c'1' or last[entries.arena[e.path_off:e.path_off + e.path_len]] == holder:
            continue
        moved = e[0]
        first = entries.count
        for name in names:
            e = &entries.entries[<size_t>name]
            if last[entries.arena[e.path_off:e.path_off + e.path_len]] != name:
                continue
            if first == entries.count:
                first = name
                moved.path_off, moved.path_len = e.path_off, e.path_len
                e[0] = moved
            else:
                e.link_off, e.link_len = moved.path_off, moved.path_len
    return 0


cdef class EntryList:
    def __cinit__(self):
        self.entries = NULL
        self.count = self.capacity = 0
        self.arena = NULL
        self.arena_len = self.arena_cap = 0
        self.nroots = 0
        self.roots = <int *>malloc(255 * sizeof(int))
        if self.roots == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef int i
        if self.roots != NULL:
            for i in range(self.nroots):
                close(self.roots[i])
            free(self.roots)
        free(self.entries)
        free(self.arena)

    cdef Entry *push(self) noexcept nogil:
        cdef Entry *grown
        cdef size_t capacity
        if self.count == self.capacity:
            capacity = 64 if self.capacity == 0 else self.capacity + self.capacity // 2
            grown = <Entry *>realloc(self.entries, capacity * sizeof(Entry))
            if grown == NULL:
                return NULL
            self.entries = grown
            self.capacity = capacity
        grown = &self.entries[self.count]
        memset(grown, 0, sizeof(Entry))
        grown.root = NO_ROOT
        self.count += 1
        return grown

    cdef int64_t store(self, const char *data, size_t n) noexcept nogil:
        cdef char *grown
        cdef size_t capacity
        cdef size_t offset = self.arena_len
        if self.arena_len + n + 1 > self.arena_cap:
            capacity = 4096 if self.arena_cap == 0 else self.arena_cap + self.arena_cap // 2
            if capacity < self.arena_len + n + 1:
                capacity = self.arena_len + n + 1
            grown = <char *>realloc(self.arena, capacity)
            if grown == NULL:
                return -1
            self.arena = grown
            self.arena_cap = capacity
        if n:
            memcpy(self.arena + offset, data, n)
        self.arena[offset + n] = 0
        self.arena_len += n + 1
        return <int64_t>offset

    cdef Entry *push_path(self, const char *path, size_t n) noexcept nogil:
        cdef Entry *e
        cdef int64_t offset = self.store(path, n)
        if offset < 0:
            return NULL
        e = self.push()
        if e != NULL:
            e.path_off = <uint64_t>offset
            e.path_len = <uint32_t>n
        return e

    def add_root(self, int fd):
        if self.nroots >= 254:
            raise ValueError("a list of entries has at most 254 source roots")
        cdef int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3)
        if copy < 0:
            raise OSError(9, "cannot duplicate the descriptor of a source root")
        self.roots[self.nroots] = copy
        self.nroots += 1
        return self.nroots - 1

    def add(self, path, type, *, unsigned int mode, unsigned int uid=0, unsigned int gid=0, long long size=0, long long mtime_ns=0,
            link="", xattrs=None, rdev=(0, 0), int root=-1, source="", data=None):
        cdef bytes p = os.fsencode(path)
        cdef bytes s
        cdef bytes l = os.fsencode(link)
        cdef bytes x = b""
        if type not in _NAMES:
            raise ValueError(f"no entry type {type!r}")
        if p.startswith(b"/") or p.endswith(b"/") or b"\0" in p:
            raise ValueError(f"not a layer path: {path!r}")
        if root >= self.nroots:
            raise ValueError(f"no source root {root}")
        if data is not None:
            if root >= 0:
                raise ValueError("an entry has inline data or a source root, not both")
            s = bytes(data)
            size = len(s)
        else:
            s = os.fsencode(source)
        if xattrs:
            for name, value in sorted(xattrs.items()):
                n = os.fsencode(name)
                x += len(n).to_bytes(2, "little") + n + len(value).to_bytes(4, "little") + bytes(value)
        cdef Entry *e = self.push_path(p, len(p))
        if e == NULL:
            raise MemoryError
        cdef size_t i = self.count - 1
        cdef int64_t so = self.store(s, len(s))
        cdef int64_t lo = self.store(l, len(l))
        cdef int64_t xo = self.store(x, len(x))
        if so < 0 or lo < 0 or xo < 0:
            self.count = i
            raise MemoryError
        e = &self.entries[i]
        e.source_off, e.source_len = so, len(s)
        e.link_off, e.link_len = lo, len(l)
        e.xattr_off, e.xattr_len = xo, len(x)
        e.size, e.mtime_ns, e.mode, e.uid, e.gid = size, mtime_ns, mode & 0o7777, uid, gid
        e.rdev_major, e.rdev_minor = rdev
        e.type = _NAMES[type]
        e.root = NO_ROOT if root < 0 else <uint8_t>root

    def extend(self, EntryList other not None):
        cdef size_t i
        cdef size_t n = other.count
        cdef int base = self.nroots
        cdef Entry *e
        cdef int64_t shift
        if other is self:
            raise ValueError("a list cannot be appended to itself")
        for i in range(<size_t>other.nroots):
            self.add_root(other.roots[i])
        shift = self.store(other.arena, other.arena_len)
        if shift < 0:
            raise MemoryError
        for i in range(n):
            e = self.push()
            if e == NULL:
                raise MemoryError
            e[0] = other.entries[i]
            e.path_off += shift
            e.source_off += shift
            e.link_off += shift
            e.xattr_off += shift
            if e.root != NO_ROOT:
                e.root += base

    def sort(self):
        cdef size_t i, kept = 0
        cdef Entry *out
        cdef SortKey *keys
        cdef Entry *e
        cdef bint link = False, again = False
        if self.count < 2:
            return
        keys = <SortKey *>malloc(self.count * sizeof(SortKey))
        out = <Entry *>malloc(self.count * sizeof(Entry))
        if keys == NULL or out == NULL:
            free(keys)
            free(out)
            raise MemoryError
        with nogil:
            for i in range(self.count):
                e = &self.entries[i]
                keys[i].path = self.arena + e.path_off
                keys[i].length = e.path_len
                keys[i].group = 0 if e.type == c'W' or e.type == c'O' else 1
                keys[i].position = i
                link = link or e.type == c'1'
            qsort(keys, self.count, sizeof(SortKey), compare_keys)
            for i in range(1, self.count):
                if keys[i].group == keys[i - 1].group and keys[i].length == keys[i - 1].length \
                        and memcmp(keys[i].path, keys[i - 1].path, keys[i].length) == 0:
                    again = True
                    break
        if link and again:
            try:
                part_links(self)
            except BaseException:
                free(keys)
                free(out)
                raise
        with nogil:
            for i in range(self.count):
                if kept and keys[i].group == keys[i - 1].group and keys[i].length == keys[i - 1].length \
                        and memcmp(keys[i].path, keys[i - 1].path, keys[i].length) == 0:
                    kept -= 1
                out[kept] = self.entries[keys[i].position]
                kept += 1
            free(keys)
            free(self.entries)
            self.entries = out
            self.capacity = self.count
            self.count = kept
        self._settle_links()

    cdef int _settle_links(self) except -1:
        # the first name of an inode in tar order must be the one with the content
        cdef size_t i, j
        cdef Entry *e
        cdef Entry *f
        cdef dict links = {}
        cdef Entry swap
        cdef bint any_link = False
        for i in range(self.count):
            if self.entries[i].type == c'1':
                any_link = True
                break
        if not any_link:
            return 0
        for i in range(self.count):
            e = &self.entries[i]
            if e.type == c'1':
                links.setdefault(self.arena[e.link_off:e.link_off + e.link_len], []).append(i)
        for j in range(self.count):
            f = &self.entries[j]
            if f.type == c'1' or f.type == c'W' or f.type == c'O':
                continue
            names = links.get(self.arena[f.path_off:f.path_off + f.path_len])
            if names is None or names[0] > j:
                continue
            # the earliest link takes the content, the former holder and the others link to it
            i = names[0]
            e = &self.entries[i]
            swap = f[0]
            swap.path_off, swap.path_len = e.path_off, e.path_len
            for k in names[1:]:
                self.entries[<size_t>k].link_off = e.path_off
                self.entries[<size_t>k].link_len = e.path_len
            f.type = c'1'
            f.link_off, f.link_len = e.path_off, e.path_len
            f.xattr_len = 0
            f.size = 0
            e[0] = swap
        return 0

    def __len__(self):
        return self.count

    def __getitem__(self, Py_ssize_t i):
        if i < 0:
            i += self.count
        if i < 0 or <size_t>i >= self.count:
            raise IndexError(i)
        cdef Entry *e = &self.entries[i]
        cdef bytes packed = self.arena[e.xattr_off:e.xattr_off + e.xattr_len]
        xattrs = {}
        at = 0
        while at < len(packed):
            n = int.from_bytes(packed[at:at + 2], "little")
            name = packed[at + 2:at + 2 + n]
            at += 2 + n
            n = int.from_bytes(packed[at:at + 4], "little")
            xattrs[os.fsdecode(name)] = packed[at + 4:at + 4 + n]
            at += 4 + n
        return LayerEntry(
            os.fsdecode(self.arena[e.path_off:e.path_off + e.path_len]), _TYPES[e.type], e.mode, e.uid, e.gid, e.size, e.mtime_ns,
            os.fsdecode(self.arena[e.link_off:e.link_off + e.link_len]), xattrs, (e.rdev_major, e.rdev_minor),
            -1 if e.root == NO_ROOT else e.root,
            "" if e.root == NO_ROOT else os.fsdecode(self.arena[e.source_off:e.source_off + e.source_len]),
        )

    def __iter__(self):
        for i in range(self.count):
            yield self[i]

    def find(self, path):
        cdef bytes p = os.fsencode(path)
        cdef const char *wanted = p
        cdef size_t n = len(p)
        cdef size_t i = self.count
        cdef Entry *e
        with nogil:
            while i:
                i -= 1
                e = &self.entries[i]
                if e.path_len == n and memcmp(self.arena + e.path_off, wanted, n) == 0:
                    break
            else:
                i = self.count
        return -1 if i == self.count else <Py_ssize_t>i

    def read(self, Py_ssize_t i, Py_ssize_t limit):
        if i < 0 or <size_t>i >= self.count or self.entries[i].type != c'0':
            raise IndexError(i)
        cdef Entry *e = &self.entries[i]
        cdef bytes source = self.arena[e.source_off:e.source_off + e.source_len]
        if e.root == NO_ROOT:
            if len(source) > limit:
                raise OSError(errno.EFBIG, "file too large", self[i].path)
            return source
        cdef int fd = disk_open(self.roots[e.root], self.arena + e.source_off, e.source_len, os.O_RDONLY | os.O_NONBLOCK)
        if fd < 0:
            raise OSError(c_errno, os.strerror(c_errno), self[i].path)
        with os.fdopen(fd, "rb") as f:
            data = f.read(limit + 1)
        if len(data) > limit:
            raise OSError(errno.EFBIG, "file too large", self[i].path)
        return data

    @property
    def total_size(self):
        cdef int64_t total = 0
        cdef size_t i
        for i in range(self.count):
            if self.entries[i].type == c'0':
                total += self.entries[i].size
        return total

    @property
    def memory(self):
        return self.capacity * sizeof(Entry) + self.arena_cap
