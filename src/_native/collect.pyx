"""See collect.pyi."""
import errno
import os

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset, strcmp, strlen

from pybuild._native.cancel cimport Cancel
from pybuild._native.entries cimport Entry, EntryList
from pybuild._native.index cimport xattr_wanted
from pybuild._native.match cimport Matcher

cdef extern from "time.h" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec

cdef extern from "sys/stat.h" nogil:
    struct stat_t "stat":
        unsigned int st_mode
        unsigned long st_ino
        unsigned long st_dev
        unsigned long st_rdev
        unsigned long st_nlink
        unsigned int st_uid
        unsigned int st_gid
        int64_t st_size
        timespec st_mtim
    int fstatat(int fd, const char *path, stat_t *st, int flags)

cdef extern from "fcntl.h" nogil:
    int openat(int fd, const char *path, int flags, ...)
    int O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_CLOEXEC, AT_SYMLINK_NOFOLLOW

cdef extern from "dirent.h" nogil:
    ctypedef struct DIR:
        pass
    struct dirent:
        char d_name[256]
    DIR *fdopendir(int fd)
    dirent *readdir(DIR *d)
    int closedir(DIR *d)
    int dirfd(DIR *d)

cdef extern from "unistd.h" nogil:
    int close(int fd)
    ssize_t readlinkat(int fd, const char *path, char *buf, size_t n)

cdef extern from "sys/xattr.h" nogil:
    ssize_t llistxattr(const char *path, char *list, size_t size)
    ssize_t lgetxattr(const char *path, const char *name, void *value, size_t size)

cdef extern from "sys/sysmacros.h" nogil:
    unsigned int major(unsigned long dev)
    unsigned int minor(unsigned long dev)

cdef extern from "errno.h" nogil:
    int c_errno "errno"
    int ENOMEM, ENAMETOOLONG, ECANCELED, ENOENT

cdef struct Link:
    uint64_t ino
    uint64_t dev
    uint64_t path_off
    uint32_t path_len

cdef enum:
    PATH_CAP = 32768
    KEEP = 0xFFFFFFFF


cdef class Walk:
    cdef EntryList entries
    cdef Matcher ignore
    cdef Matcher exclude
    cdef int root
    cdef int *cancel
    cdef char *path            # below the source root
    cdef char *dest            # in the layer
    cdef size_t skip           # bytes of `path` that are the source itself, with the slash after it
    cdef uint32_t uid
    cdef uint32_t gid
    cdef uint16_t *modes       # what becomes of each mode: 4096 of files, then 4096 of directories; NULL keeps
    cdef Link *links
    cdef size_t link_count
    cdef size_t link_cap       # a power of two
    cdef int error
    cdef char *scratch

    def __cinit__(self):
        self.scratch = <char *>malloc(262144)
        self.path = <char *>malloc(PATH_CAP)
        self.dest = <char *>malloc(PATH_CAP)
        if self.path == NULL or self.dest == NULL or self.scratch == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.scratch)
        free(self.path)
        free(self.dest)
        free(self.modes)
        free(self.links)

    cdef int xattrs_of(self, Entry *e, int dirfd, const char *name) noexcept nogil:
        # attributes that belong into layers, packed and sorted by name
        cdef char where[600]
        # work space on the heap: these frames lie above one another for every level of directories
        cdef char *names = self.scratch
        cdef char *value = self.scratch + 65536
        cdef char *packed = self.scratch + 131072
        cdef const char *sorted_names[128]
        cdef ssize_t size, got
        cdef size_t at = 0, n, count = 0, out = 0, i
        cdef const char *swap
        if snprintf(where, 600, "/proc/self/fd/%d/%s", dirfd, name) >= 600:
            return 0
        size = llistxattr(where, names, 65536)
        if size <= 0:
            return 0
        while at < <size_t>size and count < 128:
            n = strlen(names + at)
            if xattr_wanted(names + at, n):
                sorted_names[count] = names + at
                i = count
                count += 1
                while i and strcmp(sorted_names[i - 1], sorted_names[i]) > 0:
                    swap = sorted_names[i]
                    sorted_names[i] = sorted_names[i - 1]
                    sorted_names[i - 1] = swap
                    i -= 1
            at += n + 1
        for i in range(count):
            got = lgetxattr(where, sorted_names[i], value, 65536)
            if got < 0:
                continue
            n = strlen(sorted_names[i])
            if out + n + got + 6 > 131072:
                break
            packed[out] = <char>(n & 0xFF)
            packed[out + 1] = <char>(n >> 8)
            memcpy(packed + out + 2, sorted_names[i], n)
            out += 2 + n
            packed[out] = <char>(got & 0xFF)
            packed[out + 1] = <char>((got >> 8) & 0xFF)
            packed[out + 2] = <char>((got >> 16) & 0xFF)
            packed[out + 3] = 0
            memcpy(packed + out + 4, value, got)
            out += 4 + got
        if out == 0:
            return 0
        cdef size_t position = e - self.entries.entries
        cdef int64_t off = self.entries.store(packed, out)
        if off < 0:
            return ENOMEM
        self.entries.entries[position].xattr_off = off
        self.entries.entries[position].xattr_len = <uint32_t>out
        return 0

    cdef int grow_links(self) noexcept nogil:
        cdef size_t cap = self.link_cap * 2 if self.link_cap else 256
        cdef Link *made = <Link *>calloc(cap, sizeof(Link))
        cdef size_t i, h
        if made == NULL:
            return ENOMEM
        for i in range(self.link_cap):
            if self.links[i].path_len:
                h = (self.links[i].ino * 0x9E3779B97F4A7C15ULL >> 20) & (cap - 1)
                while made[h].path_len:
                    h = (h + 1) & (cap - 1)
                made[h] = self.links[i]
        free(self.links)
        self.links = made
        self.link_cap = cap
        return 0

    cdef Link *link_of(self, stat_t *st) noexcept nogil:
        # the slot of an inode: used when path_len is set; NULL when memory ran out
        cdef size_t h
        if self.link_count * 2 >= self.link_cap and self.grow_links() != 0:
            return NULL
        h = (st.st_ino * 0x9E3779B97F4A7C15ULL >> 20) & (self.link_cap - 1)
        while self.links[h].path_len and (self.links[h].ino != st.st_ino or self.links[h].dev != st.st_dev):
            h = (h + 1) & (self.link_cap - 1)
        return &self.links[h]

    cdef int add(self, int dirfd, const char *name, size_t path_len, size_t dest_len, stat_t *st) noexcept nogil:
        cdef Entry *e
        cdef uint32_t kind = st.st_mode & 0o170000
        cdef char *target = self.scratch
        cdef ssize_t got
        cdef int64_t off
        cdef size_t position
        cdef Link *link
        cdef uint8_t type
        if kind == 0o100000:
            type = c'0'
        elif kind == 0o040000:
            type = c'5'
        elif kind == 0o120000:
            type = c'2'
        elif kind == 0o020000:
            type = c'3'
        elif kind == 0o060000:
            type = c'4'
        elif kind == 0o010000:
            type = c'6'
        else:
            return 0
        e = self.entries.push_path(self.dest, dest_len)
        if e == NULL:
            return ENOMEM
        position = self.entries.count - 1
        e.type = type
        e.mode = st.st_mode & 0o7777
        if self.modes != NULL and type != c'2':
            e.mode = self.modes[e.mode + (4096 if type == c'5' else 0)]
        e.uid = st.st_uid if self.uid == KEEP else self.uid
        e.gid = st.st_gid if self.gid == KEEP else self.gid
        e.mtime_ns = <int64_t>st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec
        if type == c'2':
            got = readlinkat(dirfd, name, target, PATH_CAP)
            if got < 0:
                return c_errno
            off = self.entries.store(target, got)
            if off < 0:
                return ENOMEM
            self.entries.entries[position].link_off = off
            self.entries.entries[position].link_len = <uint32_t>got
            return 0
        if type == c'3' or type == c'4':
            e.rdev_major = major(st.st_rdev)
            e.rdev_minor = minor(st.st_rdev)
        if type == c'0':
            if st.st_nlink > 1:
                link = self.link_of(st)
                if link == NULL:
                    return ENOMEM
                if link.path_len:
                    e.type = c'1'
                    e.link_off = link.path_off
                    e.link_len = link.path_len
                    return 0
                self.link_count += 1
                link.ino = st.st_ino
                link.dev = st.st_dev
                link.path_off = e.path_off
                link.path_len = e.path_len
            e.root = <uint8_t>self.root
            e.size = st.st_size
            off = self.entries.store(self.path, path_len)
            if off < 0:
                return ENOMEM
            self.entries.entries[position].source_off = off
            self.entries.entries[position].source_len = <uint32_t>path_len
        return self.xattrs_of(&self.entries.entries[position], dirfd, name)

    cdef int directory(self, int fd, size_t path_len, size_t dest_len, const uint8_t *ignored, const uint8_t *excluded) noexcept nogil:
        # everything in an open directory; closes fd. 0 or errno, self.path then names the place
        cdef DIR *d = fdopendir(fd)
        cdef dirent *item
        cdef const char *name
        cdef size_t n, p, q
        cdef stat_t st
        cdef int code = 0, below
        cdef uint8_t *states
        cdef bint skip, enter
        cdef int patterns = (self.ignore.n_patterns if self.ignore is not None else 0) + (self.exclude.n_patterns if self.exclude is not None else 0)
        if d == NULL:
            code = c_errno
            close(fd)
            return code
        states = <uint8_t *>malloc(patterns + 1)
        if states == NULL:
            closedir(d)
            return ENOMEM
        while True:
            if self.cancel != NULL and self.cancel[0]:
                code = ECANCELED
                break
            item = readdir(d)
            if item == NULL:
                break
            name = item.d_name
            if name[0] == c'.' and (name[1] == 0 or (name[1] == c'.' and name[2] == 0)):
                continue
            n = strlen(name)
            p = path_len
            q = dest_len
            if p + n + 2 > PATH_CAP or q + n + 2 > PATH_CAP:
                code = ENAMETOOLONG
                break
            if p:
                self.path[p] = c'/'
                p += 1
            memcpy(self.path + p, name, n + 1)
            p += n
            if q:
                self.dest[q] = c'/'
                q += 1
            memcpy(self.dest + q, name, n + 1)
            q += n
            skip = False
            enter = True
            if self.ignore is not None and self.ignore.match_c(self.path, p, ignored, states):
                skip = True
                enter = self.ignore.may_reinclude_c(self.path, p)
            if self.exclude is not None:
                below = self.ignore.n_patterns if self.ignore is not None else 0
                if self.exclude.match_c(self.path + self.skip, p - self.skip, excluded, states + below):
                    skip = True
                    enter = enter and self.exclude.may_reinclude_c(self.path + self.skip, p - self.skip)
            if skip and not enter:
                continue
            if fstatat(dirfd(d), name, &st, AT_SYMLINK_NOFOLLOW) != 0:
                code = c_errno
                break
            if (st.st_mode & 0o170000) != 0o040000:
                if not skip:
                    code = self.add(dirfd(d), name, p, q, &st)
                    if code:
                        break
                continue
            code = self.enter(dirfd(d), name, p, q, &st, skip, states)
            if code:
                break
        if code == 0:
            self.path[path_len] = 0
            self.dest[dest_len] = 0
        free(states)
        closedir(d)
        return code

    cdef int enter(self, int parent, const char *name, size_t p, size_t q, stat_t *st, bint skip, const uint8_t *states) noexcept nogil:
        # a directory below: its entry, unless it is only walked for what may be brought back in it, then its contents
        cdef int fd, code
        cdef size_t before
        cdef int below = self.ignore.n_patterns if self.ignore is not None else 0
        before = self.entries.count
        code = self.add(parent, name, p, q, st)
        if code:
            return code
        fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        if fd < 0:
            return c_errno
        code = self.directory(fd, p, q, states, states + below)
        if code == 0 and skip and self.entries.count == before + 1:
            self.entries.count = before
        return code


def collect(EntryList entries not None, int root, source, dest, *, Matcher ignore=None, Matcher exclude=None, uid=None, gid=None, mode=None,
            Cancel cancel=None):
    cdef Walk w = Walk.__new__(Walk)
    cdef bytes s = os.fsencode(source)
    cdef bytes t = os.fsencode(dest)
    cdef bytes name
    cdef size_t before = entries.count, n = len(s), m = len(t), i
    cdef stat_t st
    cdef int fd, code = 0, parent = -1, at
    cdef uint8_t *states = NULL
    cdef const char *c_name
    if root < 0 or root >= entries.nroots:
        raise ValueError(f"no source root {root}")
    if n + 2 > PATH_CAP or m + 2 > PATH_CAP:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), source)
    w.entries, w.ignore, w.exclude, w.root = entries, ignore, exclude, root
    w.cancel = cancel.pointer() if cancel is not None else NULL
    w.uid = KEEP if uid is None else uid
    w.gid = KEEP if gid is None else gid
    memcpy(w.path, <const char *>s, n + 1)
    memcpy(w.dest, <const char *>t, m + 1)
    w.skip = n + 1 if n else 0
    if mode is not None:
        w.modes = <uint16_t *>malloc(8192 * sizeof(uint16_t))
        if w.modes == NULL:
            raise MemoryError
        for i in range(4096):
            w.modes[i] = mode.apply(i, False)
            w.modes[i + 4096] = mode.apply(i, True)
    head, _, name = s.rpartition(b"/")
    if not name:
        name = b"."
    c_name = name
    if head:
        parent = os.open(head, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=entries.roots[root])
    at = parent if parent >= 0 else entries.roots[root]
    states = <uint8_t *>calloc((ignore.n_patterns if ignore is not None else 0) + (exclude.n_patterns if exclude is not None else 0) + 1, 1)
    if states == NULL:
        raise MemoryError
    try:
        if fstatat(at, c_name, &st, AT_SYMLINK_NOFOLLOW) != 0:
            raise OSError(c_errno, os.strerror(c_errno), source)
        if (st.st_mode & 0o170000) != 0o040000:
            code = w.add(at, c_name, n, m, &st)
        else:
            fd = openat(at, c_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            if fd < 0:
                raise OSError(c_errno, os.strerror(c_errno), source)
            if ignore is not None and n:
                # what the directories above decided holds below
                for i in range(n + 1):
                    if i == n or w.path[i] == c'/':
                        ignore.match_c(w.path, i, states, states)
            with nogil:
                code = w.directory(fd, n, m, states, states + (ignore.n_patterns if ignore is not None else 0))
        if code == ENOMEM:
            raise MemoryError
        if code:
            raise OSError(code, os.strerror(code), os.fsdecode(<bytes>w.path))
    except BaseException:
        entries.count = before
        raise
    finally:
        free(states)
        if parent >= 0:
            os.close(parent)
    return entries.count - before
