"""See untar.pyi. The disk is only touched through descriptors of directories whose paths the index has resolved; what the disk has there
is never a symlink, or the call fails."""

import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EBUSY, EEXIST, ENOENT, ENOMEM, ENOTDIR, EPERM, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset, strlen
from posix.stat cimport S_IFBLK, S_IFCHR, S_IFIFO, fchmod, struct_stat
from posix.time cimport timespec
from posix.unistd cimport close, geteuid, getegid, unlink

from pybuild._native.index cimport (
    MISSING, NOT_ON_DISK, OUT_OF_MEMORY, OWNER_ELSEWHERE, PATH_LIMIT, ROOT, TOO_LONG, TOO_MANY_LINKS, XATTRS_ELSEWHERE,
    Attributes, DigestState, Index, Inode, Node, digest_final, digest_init, digest_update, xattr_wanted,
)

cdef extern from "tar_header.h" nogil:
    enum: PAX_PATH, PAX_LINK, PAX_SIZE, PAX_UID, PAX_GID, PAX_MTIME, TAR_META_LIMIT
    const int64_t TAR_TIME_LIMIT
    ctypedef struct PaxFields:
        unsigned int have
        char *path
        char *link
        size_t path_len, link_len
        int64_t size, mtime_ns
        uint32_t uid, gid
        char *xattrs
        size_t xattr_len
    void pax_clear(PaxFields *)
    const char *pax_parse(PaxFields *, const char *, size_t, int)
    const char *pax_string(char **, size_t *, const char *, size_t)
    const char *pax_xattr(PaxFields *, const char *, size_t, const char *, size_t, int)
    int tar_number(const unsigned char *, size_t, int64_t *)
    bint tar_is_zero(const unsigned char *)
    bint tar_checksum_ok(const unsigned char *)
    size_t tar_text(const unsigned char *, size_t)
    size_t tar_clean(const char *, size_t, char *, int *)

cdef extern from "disk_ops.h" nogil:
    int O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_CLOEXEC, O_DIRECTORY, O_PATH, O_NONBLOCK
    int AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH
    int openat(int, const char *, int, ...)
    int mkdirat(int, const char *, unsigned int)
    int mknodat(int, const char *, unsigned int, uint64_t)
    int symlinkat(const char *, int, const char *)
    int linkat(int, const char *, int, const char *, int)
    int fchownat(int, const char *, unsigned int, unsigned int, int)
    int fchown(int, unsigned int, unsigned int)
    int fchmodat(int, const char *, unsigned int, int)
    int futimens(int, const timespec *)
    int utimensat(int, const char *, const timespec *, int)
    int fstat(int, struct_stat *)
    int fstatat(int, const char *, struct_stat *, int)
    ssize_t write(int, const void *, size_t)
    int snprintf(char *, size_t, const char *, ...)
    int64_t disk_ns(timespec)
    timespec disk_timespec(int64_t)
    int disk_open(int, const char *, size_t, int)
    int disk_remove(int, const char *)
    int disk_set_xattrs(int, const char *, const char *, size_t, int, int)

cdef extern from "sys/sysmacros.h" nogil:
    uint64_t makedev(unsigned int, unsigned int)

cdef extern from *:
    """
    static int64_t stat_mtime(const struct stat *s) { return (int64_t)s->st_mtim.tv_sec * 1000000000 + s->st_mtim.tv_nsec; }
    static int64_t stat_ctime(const struct stat *s) { return (int64_t)s->st_ctim.tv_sec * 1000000000 + s->st_ctim.tv_nsec; }
    static void set_errno(int e) { errno = e; }
    static void memmove_down(char *at, size_t by, size_t n) { memmove(at, at + by, n); }
    static uint32_t process_umask(void) {
        unsigned int mask = 077;
        char line[256];
        FILE *f = fopen("/proc/self/status", "re");
        while (f && fgets(line, sizeof line, f))
            if (sscanf(line, "Umask: %o", &mask) == 1) break;
        if (f) fclose(f);
        return mask;
    }
    """
    int64_t stat_mtime(const struct_stat *) nogil
    int64_t stat_ctime(const struct_stat *) nogil
    void memmove_down(char *, size_t, size_t) nogil
    void set_errno(int) nogil
    uint32_t process_umask() nogil

cdef int64_t MAX32 = 4294967295

cdef enum:
    BLOCK = 512
    SLOTS = 16               # directories kept open
    KEEP_LIMIT = 1048576     # bytes of a file that is kept in memory
    TOUCHED = 8              # node flag: its times (and mode, for a directory) are to be set in finish()

cdef enum State:
    HEADER, META, DATA, SKIP, DONE, FAILED

cdef enum:
    FINE = 0
    MALFORMED = -1           # self.message
    SYSTEM = -2              # self.code, and the path in self.path
    NO_MEMORY = -3

cdef struct Slot:
    char *path
    size_t length
    int fd
    uint64_t used

cdef struct Kept:
    char *path
    size_t path_len
    char *data
    size_t length
    bint valid


cdef class Extractor:
    cdef Index index
    cdef int rootfd
    cdef bint whiteouts, strict, owners, devices, privileged
    cdef uint32_t euid, egid, umask
    cdef bytes dest, skip_text
    cdef const char *dest_c
    cdef const char *skip_c           # NUL-terminated paths one after the other, an empty one at the end
    cdef Kept *keep
    cdef size_t keep_count

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
    cdef char *long_link
    cdef size_t long_name_len, long_link_len

    cdef const char *message
    cdef int code
    cdef char *path                   # canonical path of the entry; PATH_LIMIT bytes each
    cdef char *name                   # as the archive has it, cleaned
    cdef char *target
    cdef char *last_parent            # raw parent of the entry before
    cdef size_t path_len, base, name_len, last_parent_len
    cdef bint last_valid
    cdef int64_t parent
    cdef int64_t last_node
    cdef size_t last_canonical
    cdef char *canonical              # canonical path of last_parent

    cdef Slot slots[16]
    cdef uint64_t clock
    cdef int fd                       # the file being written
    cdef int64_t node
    cdef Attributes attributes
    cdef DigestState digest
    cdef Kept *keeping
    cdef uint32_t *touched
    cdef size_t touched_count, touched_cap
    cdef uint64_t n_files, n_bytes

    def __cinit__(self, Index index not None, int rootfd=-1, *, bint whiteouts=True, bint strict=False, skip=(), bint owners=True,
                  bint devices=True, dest="", keep=()):
        cdef int i
        self.fd = self.rootfd = -1
        for i in range(SLOTS):
            self.slots[i].fd = -1
        self.index = index
        self.path = <char *>malloc(PATH_LIMIT)
        self.name = <char *>malloc(PATH_LIMIT)
        self.target = <char *>malloc(PATH_LIMIT)
        self.last_parent = <char *>malloc(PATH_LIMIT)
        self.canonical = <char *>malloc(PATH_LIMIT)
        if not (self.path and self.name and self.target and self.last_parent and self.canonical):
            raise MemoryError
        self.path[0] = self.name[0] = 0
        self.whiteouts, self.strict, self.owners, self.devices = whiteouts, strict, owners, devices
        self.euid, self.egid = geteuid(), getegid()
        self.privileged = self.euid == 0
        self.umask = process_umask()
        skip = [p for p in (os.fsencode(p).strip(b"/") for p in skip) if p]
        self.skip_text = b"".join(p + b"\0" for p in skip) + b"\0"
        self.skip_c = <const char *>self.skip_text if skip else NULL
        self.dest = os.fsencode(index.resolve(dest))
        self.dest_c = <const char *>self.dest
        keep = [os.fsencode(p) for p in keep]
        self.keep = <Kept *>calloc(len(keep) + 1, sizeof(Kept))
        if self.keep == NULL:
            raise MemoryError
        for p in keep:
            self.keep[self.keep_count].path = <char *>malloc(len(p) + 1)
            if self.keep[self.keep_count].path == NULL:
                raise MemoryError
            memcpy(self.keep[self.keep_count].path, <const char *>(<bytes>p), len(p) + 1)
            self.keep[self.keep_count].path_len = len(p)
            self.keep_count += 1
        if rootfd >= 0:
            self.rootfd = os.dup(rootfd)
        index.begin()

    def __dealloc__(self):
        cdef size_t i
        self.drop_slots()
        if self.fd >= 0:
            close(self.fd)
        if self.rootfd >= 0:
            close(self.rootfd)
        for i in range(self.keep_count):
            free(self.keep[i].path)
            free(self.keep[i].data)
        free(self.keep)
        for p in (<size_t>self.path, <size_t>self.name, <size_t>self.target, <size_t>self.last_parent, <size_t>self.canonical,
                  <size_t>self.meta, <size_t>self.long_name, <size_t>self.long_link, <size_t>self.touched):
            free(<void *><size_t>p)
        pax_clear(&self.local)
        pax_clear(&self.world)

    # --- errors

    cdef int malformed(self, const char *message) noexcept nogil:
        self.message = message
        return MALFORMED

    cdef int system(self, int code) noexcept nogil:
        self.code = code
        return SYSTEM

    cdef int raise_error(self, int got) except -1:
        self.state = FAILED
        if self.fd >= 0:
            close(self.fd)
            self.fd = -1
        if got == NO_MEMORY:
            raise MemoryError
        where = os.fsdecode(self.path if self.path[0] else self.name)
        if got == SYSTEM:
            raise OSError(self.code, os.strerror(self.code), where)
        at = os.fsdecode(self.name)
        raise ValueError(f"{self.message.decode()}" + (f" (entry {at!r})" if at else ""))

    # --- the stream

    def feed(self, data):
        cdef Py_buffer view
        cdef int got
        if self.state == FAILED:
            raise ValueError("the archive failed before")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            with nogil:
                got = self.consume(<const unsigned char *>view.buf, <size_t>view.len)
        finally:
            PyBuffer_Release(&view)
        if got:
            self.raise_error(got)

    cdef int consume(self, const unsigned char *p, size_t n) noexcept nogil:
        cdef size_t take
        cdef int got
        while n:
            if self.state == HEADER:
                if self.have == 0 and n >= BLOCK:
                    got = self.on_header(p)
                    p += BLOCK
                    n -= BLOCK
                else:
                    take = BLOCK - self.have if BLOCK - self.have < n else n
                    memcpy(self.header + self.have, p, take)
                    self.have += take
                    p += take
                    n -= take
                    if self.have < BLOCK:
                        return FINE
                    self.have = 0
                    got = self.on_header(self.header)
                if got:
                    return got
            elif self.state == DATA:
                take = n if n < self.left else <size_t>self.left
                got = self.on_data(p, take)
                if got:
                    return got
                p += take
                n -= take
                self.left -= take
                if self.left == 0:
                    got = self.end_file()
                    if got:
                        return got
                    self.skip_bytes(self.padding)
            elif self.state == SKIP:
                take = n if n < self.left else <size_t>self.left
                p += take
                n -= take
                self.left -= take
                if self.left == 0:
                    self.state = HEADER
            elif self.state == META:
                take = self.meta_need - self.have
                if take > n:
                    take = n
                memcpy(self.meta + self.have, p, take)
                self.have += take
                p += take
                n -= take
                if self.have == self.meta_need:
                    self.have = 0
                    self.skip_bytes(self.padding)
                    got = self.on_meta()
                    if got:
                        return got
            else:
                return FINE  # what follows the end of an archive is nobody's
        return FINE

    cdef void skip_bytes(self, uint64_t n) noexcept nogil:
        self.left = n
        self.state = SKIP if n else HEADER

    cdef int on_header(self, const unsigned char *h) noexcept nogil:
        cdef int64_t size, mode, uid, gid, mtime, major = 0, minor = 0
        cdef uint8_t type = h[156]
        cdef bint ustar = memcmp(h + 257, b"ustar\0", 6) == 0
        cdef bint gnu = memcmp(h + 257, b"ustar  \0", 8) == 0
        cdef size_t n, k
        if tar_is_zero(h):
            self.zero_blocks += 1
            if self.zero_blocks == 2:
                self.state = DONE
            return FINE
        if self.zero_blocks:
            return self.malformed(b"tar: a lone block of zeros inside the archive")
        if not tar_checksum_ok(h):
            self.name[0] = 0
            return self.malformed(b"tar: a header with a wrong checksum: no tar archive, or a damaged one")
        if type == c'7' or type == 0:
            type = c'0'
        if tar_number(h + 124, 12, &size) or size < 0:
            return self.malformed(b"tar: a size that is negative or no number")
        if type == c'x' or type == c'g' or type == c'L' or type == c'K':
            return self.begin_meta(type, size)
        if tar_number(h + 100, 8, &mode) or tar_number(h + 108, 8, &uid) or tar_number(h + 116, 8, &gid) or tar_number(h + 136, 12, &mtime):
            return self.malformed(b"tar: a header field that is no number")
        if (type == c'3' or type == c'4') and (ustar or gnu) and (tar_number(h + 329, 8, &major) or tar_number(h + 337, 8, &minor)):
            return self.malformed(b"tar: a device number that is no number")

        # the name: GNU's long name, PAX, or the header's own with the prefix of ustar
        if self.long_name != NULL:
            if self.local.have & PAX_PATH:
                return self.malformed(b"tar: two names for one entry")
            n = self.long_name_len
            if n >= PATH_LIMIT:
                return self.malformed(b"tar: a path that is too long")
            memcpy(self.target, self.long_name, n)
        elif self.local.have & PAX_PATH:
            n = self.local.path_len
            if n >= PATH_LIMIT:
                return self.malformed(b"tar: a path that is too long")
            memcpy(self.target, self.local.path, n)
        else:
            n = 0
            if ustar and h[345]:
                n = tar_text(h + 345, 131 if memcmp(h + 508, b"tar\0", 4) == 0 else 155)
                memcpy(self.target, h + 345, n)
                self.target[n] = c'/'
                n += 1
            k = tar_text(h, 100)
            memcpy(self.target + n, h, k)
            n += k
        if n == 0:
            self.name[0] = 0
            return self.malformed(b"tar: an entry without a name")
        if type == c'0' and self.target[n - 1] == c'/':
            type = c'5'
        cdef int climbs
        self.name_len = tar_clean(self.target, n, self.name, &climbs)
        if climbs and self.strict:
            memcpy(self.name, self.target, n)
            self.name[n] = 0
            return self.malformed(b"tar: a path that leads out of the archive")

        memset(&self.attributes, 0, sizeof(Attributes))
        if self.local.have & PAX_SIZE:
            size = self.local.size
        if type != c'0':
            # as everywhere: only regular files have data, whatever their size field says
            if type < c'1' or type > c'6':
                if type == c'S':
                    return self.malformed(b"tar: a sparse file, which is not supported")
                return self.malformed(b"tar: an entry of unknown type")
            size = 0
        self.attributes.type = type
        self.attributes.size = size
        self.attributes.mode = <uint32_t>(mode & 0o7777)
        if self.local.have & PAX_UID:
            uid = self.local.uid
        elif self.world.have & PAX_UID:
            uid = self.world.uid
        if self.local.have & PAX_GID:
            gid = self.local.gid
        elif self.world.have & PAX_GID:
            gid = self.world.gid
        if uid < 0 or gid < 0 or uid >= MAX32 or gid >= MAX32:
            return self.malformed(b"tar: an owner that is out of range")
        self.attributes.uid, self.attributes.gid = <uint32_t>uid, <uint32_t>gid
        if self.local.have & PAX_MTIME:
            self.attributes.mtime_ns = self.local.mtime_ns
        elif self.world.have & PAX_MTIME:
            self.attributes.mtime_ns = self.world.mtime_ns
        elif -TAR_TIME_LIMIT < mtime < TAR_TIME_LIMIT:
            self.attributes.mtime_ns = mtime * 1000000000
        if major < 0 or minor < 0 or major > MAX32 or minor > MAX32:
            return self.malformed(b"tar: a device number that is out of range")
        self.attributes.rdev_major, self.attributes.rdev_minor = <uint32_t>major, <uint32_t>minor
        if self.merge_xattrs():
            return NO_MEMORY

        # the target of a link
        if type == c'1' or type == c'2':
            if self.long_link == NULL and not self.local.have & PAX_LINK:
                n = tar_text(h + 157, 100)
                if pax_string(&self.long_link, &self.long_link_len, <const char *>h + 157, n) != NULL:
                    return NO_MEMORY
            elif self.long_link != NULL and self.local.have & PAX_LINK:
                return self.malformed(b"tar: two targets for one link")
            elif self.long_link == NULL:
                self.long_link, self.long_link_len = self.local.link, self.local.link_len
                self.local.link = NULL
            if self.long_link_len == 0 or self.long_link_len >= PATH_LIMIT:
                return self.malformed(b"tar: a link without a target, or with one that is too long")
        cdef int got = self.on_entry()
        self.forget()
        if got:
            return got
        if type == c'0':
            self.padding = <uint32_t>(-size & 511)
            self.left = <uint64_t>size
            if size == 0:
                self.state = HEADER
                return self.end_file()
            self.state = DATA
        return FINE

    cdef int merge_xattrs(self) noexcept nogil:
        # those of the local header first, then the global ones it does not name; without what belongs to no layer
        cdef PaxFields *f = &self.local
        cdef size_t at, item
        cdef uint32_t v
        cdef unsigned short l
        if self.world.xattr_len:
            at = 0
            while at < self.world.xattr_len:
                memcpy(&l, self.world.xattrs + at, 2)
                memcpy(&v, self.world.xattrs + at + 2 + l, 4)
                if pax_xattr(f, self.world.xattrs + at + 2, l, self.world.xattrs + at + 6 + l, v, 0) != NULL:
                    return NO_MEMORY
                at += 6 + l + v
        at = 0
        while at < f.xattr_len:
            memcpy(&l, f.xattrs + at, 2)
            memcpy(&v, f.xattrs + at + 2 + l, 4)
            item = 6 + l + v
            if xattr_wanted(f.xattrs + at + 2, l):
                at += item
            else:
                f.xattr_len -= item
                memmove_down(f.xattrs + at, item, f.xattr_len - at)
        self.attributes.xattrs, self.attributes.xattr_len = f.xattrs, f.xattr_len
        return FINE

    cdef void forget(self) noexcept nogil:
        pax_clear(&self.local)
        free(self.long_name)
        free(self.long_link)
        self.long_name = self.long_link = NULL
        self.attributes.xattrs = NULL
        self.attributes.link = NULL

    cdef int begin_meta(self, uint8_t type, int64_t size) noexcept nogil:
        cdef char *grown
        self.name[0] = 0
        if size > TAR_META_LIMIT or (type != c'x' and type != c'g' and size > PATH_LIMIT):
            return self.malformed(b"tar: an extended header that is too large")
        if <size_t>size + 1 > self.meta_cap:
            grown = <char *>realloc(self.meta, <size_t>size + 1)
            if grown == NULL:
                return NO_MEMORY
            self.meta = grown
            self.meta_cap = <size_t>size + 1
        self.meta_type = type
        self.meta_need = <size_t>size
        self.padding = <uint32_t>(-size & 511)
        self.state = META
        if size == 0:
            self.state = HEADER
            return self.on_meta()
        return FINE

    cdef int on_meta(self) noexcept nogil:
        cdef const char *error = NULL
        cdef size_t n
        if self.meta_type == c'x':
            pax_clear(&self.local)
            error = pax_parse(&self.local, self.meta, self.meta_need, 0)
        elif self.meta_type == c'g':
            error = pax_parse(&self.world, self.meta, self.meta_need, 1)
        else:
            n = tar_text(<const unsigned char *>self.meta, self.meta_need)
            if n == 0:
                error = b"an empty long name"
            elif self.meta_type == c'L':
                error = pax_string(&self.long_name, &self.long_name_len, self.meta, n)
            else:
                error = pax_string(&self.long_link, &self.long_link_len, self.meta, n)
        return FINE if error == NULL else self.malformed(error)

    # --- directories on disk

    cdef void drop_slots(self) noexcept nogil:
        cdef int i
        for i in range(SLOTS):
            if self.slots[i].fd >= 0:
                close(self.slots[i].fd)
                free(self.slots[i].path)
                self.slots[i].fd = -1
        self.last_valid = False

    cdef int open_dir(self, const char *path, size_t n) noexcept nogil:
        # a descriptor (owned by the cache) of a directory by its canonical path; -1 with errno
        cdef int i, oldest = 0
        cdef char *copy
        cdef int fd
        self.clock += 1
        for i in range(SLOTS):
            if self.slots[i].fd >= 0 and self.slots[i].length == n and memcmp(self.slots[i].path, path, n) == 0:
                self.slots[i].used = self.clock
                return self.slots[i].fd
            if self.slots[i].fd < 0:
                oldest = i
            elif self.slots[oldest].fd >= 0 and self.slots[i].used < self.slots[oldest].used:
                oldest = i
        fd = disk_open(self.rootfd, path, n, O_PATH | O_DIRECTORY)
        if fd < 0 and errno == 13 and not self.privileged:
            fd = self.open_locked(path, n)
        if fd < 0:
            return -1
        copy = <char *>malloc(n + 1)
        if copy == NULL:
            close(fd)
            set_errno(ENOMEM)
            return -1
        memcpy(copy, path, n)
        copy[n] = 0
        if self.slots[oldest].fd >= 0:
            close(self.slots[oldest].fd)
            free(self.slots[oldest].path)
        self.slots[oldest].path, self.slots[oldest].length = copy, n
        self.slots[oldest].fd, self.slots[oldest].used = fd, self.clock
        return fd

    cdef int unlock(self, int fd, int64_t node) noexcept nogil:
        # without privileges a directory must be ours to search and write while it is filled; finish() gives it its mode back
        cdef char link[40]
        cdef uint32_t mode = self.index.inode_of(node).type_mode & 0o7777
        if self.privileged or mode & 0o700 == 0o700:
            return 0
        snprintf(link, sizeof(link), b"/proc/self/fd/%d", fd)
        if fchmodat(-100, link, mode | 0o700, 0):
            return -1
        return self.touch(node)

    cdef int open_locked(self, const char *path, size_t n) noexcept nogil:
        # like disk_open, making directories that deny it searchable on the way
        cdef int64_t node = ROOT
        cdef size_t start = 0, i
        cdef int fd = disk_open(self.rootfd, b"", 0, O_PATH | O_DIRECTORY)
        cdef int below
        for i in range(n + 1):
            if i == n or path[i] == c'/':
                if fd < 0 or self.unlock(fd, node):
                    break
                node = self.index.find(node, path + start, i - start)
                below = disk_open(fd, path + start, i - start, O_PATH | O_DIRECTORY) if node >= 0 else -1
                close(fd)
                fd = below
                start = i + 1
        return fd

    cdef int touch(self, int64_t node) noexcept nogil:
        cdef uint32_t *grown
        cdef size_t capacity
        if self.index.nodes[node].flags & TOUCHED:
            return 0
        if self.touched_count == self.touched_cap:
            capacity = self.touched_cap * 2 + 256
            grown = <uint32_t *>realloc(self.touched, capacity * sizeof(uint32_t))
            if grown == NULL:
                set_errno(ENOMEM)
                return -1
            self.touched = grown
            self.touched_cap = capacity
        self.touched[self.touched_count] = <uint32_t>node
        self.touched_count += 1
        cdef Node *touched = &self.index.nodes[node]
        touched.flags |= TOUCHED
        return 0

    cdef bint skipped(self, const char *path, size_t n) noexcept nogil:
        # at or below a path that is to be left alone
        return self.skip_test(path, n, False)

    cdef bint skip_test(self, const char *path, size_t n, bint inside) noexcept nogil:
        cdef const char *text = self.skip_c
        cdef size_t k
        if text == NULL:
            return False
        while text[0]:
            k = strlen(text)
            if inside:
                if k > n and memcmp(text, path, n) == 0 and (n == 0 or text[n] == c'/'):
                    return True
            elif n >= k and memcmp(text, path, k) == 0 and (n == k or path[k] == c'/'):
                return True
            text += k + 1
        return False

    cdef int make_dir(self, int64_t parent, const char *path, size_t n, size_t base) noexcept nogil:
        # the directory at `path` (its parent, the directory before `base`, exists) on disk, whatever was there
        cdef int at = self.open_dir(path, base - 1 if base else 0)
        cdef struct_stat st
        cdef const char *name = path + base
        if at < 0 or self.touch(parent) or self.unlock(at, parent):
            return self.system(errno)
        if mkdirat(at, name, 0o700) == 0:
            return FINE
        if errno == EEXIST:
            if fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW):
                return self.system(errno)
            if st.st_mode & 0o170000 == 0o040000:
                return FINE
            if disk_remove(at, name) or mkdirat(at, name, 0o700):
                return self.system(errno)
            return FINE
        return self.system(errno)

    # --- entries

    cdef int walk_error(self, int64_t got) noexcept nogil:
        return self.system(40 if got == TOO_MANY_LINKS else 36)  # ELOOP, ENAMETOOLONG

    cdef int below_dest(self, const char *name, size_t n, size_t *out_len) noexcept nogil:
        # `name` below the destination, into self.target
        cdef const char *dest = self.dest_c
        cdef size_t k = strlen(dest)
        if k + n + 2 > PATH_LIMIT:
            return self.system(36)
        memcpy(self.target, dest, k)
        if k and n:
            self.target[k] = c'/'
            k += 1
        memcpy(self.target + k, name, n)
        self.target[k + n] = 0
        out_len[0] = k + n
        return FINE

    cdef int on_entry(self) noexcept nogil:
        cdef size_t n, base, i
        cdef int got
        cdef const char *last
        self.n_files += 1
        self.path[0] = 0
        self.node = MISSING
        self.keeping = NULL
        got = self.below_dest(self.name, self.name_len, &n)
        if got:
            return got
        if n == 0:
            return self.on_root()
        base = n
        while base and self.target[base - 1] != c'/':
            base -= 1
        last = self.target + base
        if n - base > 255:
            return self.system(36)
        if self.whiteouts and n - base >= 4 and memcmp(last, b".wh.", 4) == 0:
            return self.on_whiteout(n, base)
        if self.whiteouts and self.name_len >= 8 and memcmp(self.name, b".wh..wh.", 8) == 0:
            return FINE  # what aufs keeps for itself
        got = self.find_parent(n, base)
        if got or self.path[0] == 0:
            return got
        for i in range(self.keep_count):
            if self.keep[i].path_len == self.path_len and memcmp(self.keep[i].path, self.path, self.path_len) == 0:
                self.keep[i].valid = False
                if self.attributes.type == c'0' and self.attributes.size <= KEEP_LIMIT:
                    self.keeping = &self.keep[i]
                    self.keeping.length = 0
        if self.attributes.type == c'5':
            return self.on_dir()
        if self.attributes.type == c'1':
            return self.on_hard_link()
        if self.attributes.type == c'2':
            self.attributes.link, self.attributes.link_len = self.long_link, self.long_link_len
            if self.strict and self.climbs(self.long_link, self.long_link_len):
                return self.malformed(b"tar: a symbolic link that leads out of the archive")
        return self.on_other()

    cdef bint climbs(self, const char *link, size_t n) noexcept nogil:
        # whether a relative target leaves the archive's root
        cdef int depth = 0
        cdef size_t i = 0, end
        if link[0] == c'/':
            return False
        for i in range(self.name_len):
            depth += self.name[i] == c'/'
        i = 0
        while i < n:
            end = i
            while end < n and link[end] != c'/':
                end += 1
            if end - i == 2 and link[i] == c'.' and link[i + 1] == c'.':
                depth -= 1
                if depth < 0:
                    return True
            elif end > i and not (end - i == 1 and link[i] == c'.'):
                depth += 1
            i = end + 1
        return False

    cdef int on_root(self) noexcept nogil:
        if self.attributes.type != c'5':
            return self.malformed(b"tar: the root must be a directory")
        if self.index.set_attributes(ROOT, &self.attributes):
            return NO_MEMORY
        if self.rootfd >= 0 and self.touch(ROOT):
            return NO_MEMORY
        return FINE

    cdef int find_parent(self, size_t n, size_t base) noexcept nogil:
        # self.parent, self.path and self.base for the raw path in self.target; an empty self.path when it is to be skipped
        cdef size_t raw = base - 1 if base else 0
        cdef size_t used = 0, start, i
        cdef int64_t node
        cdef int got
        if not (self.last_valid and raw == self.last_parent_len and memcmp(self.last_parent, self.target, raw) == 0):
            self.last_valid = False
            node = self.index.walk(self.target, raw, True, self.canonical, &used)
            if node < MISSING:
                return self.walk_error(node)
            if used + (n - base) + 2 > PATH_LIMIT:
                return self.system(36)
            self.last_canonical = used
            if node == MISSING or self.index.type_of(node) != c'5':
                if self.skip_c != NULL and self.skipped(self.canonical, used):
                    return FINE
                got = self.make_parents(used)
                if got:
                    return got
                node = self.index.find_path(self.canonical, used)
            self.last_node = node
            memcpy(self.last_parent, self.target, raw)
            self.last_parent_len = raw
            self.last_valid = True
        used = self.last_canonical
        memcpy(self.path, self.canonical, used)
        if used:
            self.path[used] = c'/'
            used += 1
        self.base = used
        memcpy(self.path + used, self.target + base, n - base)
        self.path_len = used + n - base
        self.path[self.path_len] = 0
        self.parent = self.last_node
        if self.skip_c != NULL and self.skipped(self.path, self.path_len):
            self.path[0] = 0
        return FINE

    cdef int make_parents(self, size_t used) noexcept nogil:
        # the directories of self.canonical that are missing, or in whose place lower layers have something else
        cdef int64_t node = ROOT, child
        cdef size_t start = 0, i
        cdef int got
        for i in range(used + 1):
            if i < used and self.canonical[i] != c'/':
                continue
            if i - start > 255:
                return self.system(36)
            child = self.index.find(node, self.canonical + start, i - start)
            if child < 0 or self.index.type_of(child) != c'5':
                if child >= 0 and self.index.nodes[child].mark == self.index.generation:
                    return self.malformed(b"tar: a path through something that is no directory")
                if self.rootfd >= 0:
                    memcpy(self.path, self.canonical, i)
                    self.path[i] = 0
                    got = self.make_dir(node, self.path, i, start)
                    if got:
                        return got
                child = self.index.put_implied(node, self.canonical + start, i - start)
                if child < 0 or (self.rootfd >= 0 and self.touch(child)):
                    return NO_MEMORY
            node = child
            start = i + 1
        return FINE

    cdef int remove_existing(self, int64_t node) noexcept nogil:
        # what the index has at self.path; the node stays, for put() to use again
        cdef int at
        if self.index.type_of(node) == c'5':
            if self.skip_c != NULL and self.skip_test(self.path, self.path_len, True):
                return self.system(EBUSY)
            self.drop_slots()
        self.last_valid = False
        if self.rootfd < 0 or self.index.nodes[node].flags & NOT_ON_DISK:
            return FINE
        at = self.open_dir(self.path, self.base - 1 if self.base else 0)
        if at < 0:
            return self.system(errno)
        if disk_remove(at, self.path + self.base) and errno != ENOENT:
            return self.system(errno)
        return FINE

    cdef int on_dir(self) noexcept nogil:
        cdef size_t n = self.path_len - self.base
        cdef int64_t node = self.index.find(self.parent, self.path + self.base, n)
        cdef int got
        if node < 0 or self.index.type_of(node) != c'5':
            if node >= 0:
                self.last_valid = False
            if self.rootfd >= 0:
                got = self.make_dir(self.parent, self.path, self.path_len, self.base)
                if got:
                    return got
        node = self.index.put(self.parent, self.path + self.base, n, &self.attributes)
        if node < 0 or (self.rootfd >= 0 and self.touch(node)):
            return NO_MEMORY
        return FINE

    cdef int parent_dir(self) noexcept nogil:
        # the directory of self.path, ready to be written to; -1 with errno
        cdef int at = self.open_dir(self.path, self.base - 1 if self.base else 0)
        if at < 0 or self.touch(self.parent) or self.unlock(at, self.parent):
            return -1
        return at

    cdef int on_hard_link(self) noexcept nogil:
        cdef size_t n = self.path_len - self.base, used, k
        cdef int climbs, at, target_at, got
        cdef int64_t target, node, above
        cdef char *link = self.long_link
        k = tar_clean(self.long_link, self.long_link_len, link, &climbs)
        if climbs and self.strict:
            return self.malformed(b"tar: a hard link to something outside of the archive")
        got = self.below_dest(link, k, &used)
        if got:
            return got
        # the canonical path of the target; from here on the parent's is not needed again
        self.last_valid = False
        target = self.index.walk(self.target, used, False, self.canonical, &used)
        if target < MISSING:
            return self.walk_error(target)
        if self.skip_c != NULL and self.skipped(self.canonical, used):
            return FINE
        if target == MISSING:
            return self.malformed(b"tar: a hard link to something that is not there")
        if self.index.type_of(target) == c'5':
            return self.malformed(b"tar: a hard link to a directory")
        node = self.index.find(self.parent, self.path + self.base, n)
        if node >= 0 and self.index.nodes[node].inode == self.index.nodes[target].inode:
            self.index.nodes[node].mark = self.index.generation
            return FINE
        if node >= 0:
            above = target
            while above != ROOT and above != node:
                above = self.index.nodes[above].parent
            if above == node:
                return self.malformed(b"tar: a hard link in place of a directory that holds its target")
            got = self.remove_existing(node)
            if got:
                return got
        if self.rootfd >= 0 and not self.index.nodes[target].flags & NOT_ON_DISK:
            at = self.parent_dir()
            if at < 0:
                return self.system(errno)
            k = used
            while k and self.canonical[k - 1] != c'/':
                k -= 1
            target_at = self.open_dir(self.canonical, k - 1 if k else 0)
            if target_at < 0:
                return self.system(errno)
            if linkat(target_at, self.canonical + k, at, self.path + self.base, 0):
                if errno != EEXIST or disk_remove(at, self.path + self.base) \
                        or linkat(target_at, self.canonical + k, at, self.path + self.base, 0):
                    return self.system(errno)
        node = self.index.link(self.parent, self.path + self.base, n, target)
        if node < 0 or (self.rootfd >= 0 and self.touch(node)):
            return NO_MEMORY
        return FINE

    cdef int on_other(self) noexcept nogil:
        # a file, symlink, device or fifo
        cdef size_t n = self.path_len - self.base
        cdef const char *name = self.path + self.base
        cdef uint8_t type = self.attributes.type
        cdef int64_t node = self.index.find(self.parent, name, n)
        cdef int at = -1, got, tries
        if node >= 0:
            got = self.remove_existing(node)
            if got:
                return got
        if self.rootfd >= 0:
            at = self.parent_dir()
            if at < 0:
                return self.system(errno)
            for tries in range(2):
                got = self.create(at, name)
                if got == 0 or errno != EEXIST or disk_remove(at, name):
                    break
            if got:
                if (type != c'3' and type != c'4') or errno != EPERM:
                    return self.system(errno)
                self.attributes.flags |= NOT_ON_DISK
        self.node = self.index.put(self.parent, name, n, &self.attributes)
        if self.node < 0:
            return NO_MEMORY
        if type == c'0':
            if self.fd >= 0:
                digest_init(&self.digest)
            return FINE
        if self.rootfd < 0 or self.attributes.flags & NOT_ON_DISK:
            return FINE
        return self.settle_path(at, name)

    cdef int create(self, int at, const char *name) noexcept nogil:
        cdef uint8_t type = self.attributes.type
        cdef uint32_t mode = self.attributes.mode & 0o777
        if type == c'0':
            self.fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode)
            return -1 if self.fd < 0 else 0
        if type == c'2':
            return symlinkat(self.attributes.link, at, name)
        if type == c'6':
            return mknodat(at, name, S_IFIFO | mode, 0)
        if not self.devices:
            set_errno(EPERM)
            return -1
        return mknodat(at, name, (S_IFCHR if type == c'3' else S_IFBLK) | mode,
                       makedev(self.attributes.rdev_major, self.attributes.rdev_minor))

    # --- attributes on disk. Owner before mode, as a change of owner takes set-user-ID away, and before capabilities; times last.

    cdef int64_t record(self, const struct_stat *st, int missed) noexcept nogil:
        cdef Inode *inode = self.index.inode_of(self.node)
        cdef uint32_t flags = XATTRS_ELSEWHERE if missed else 0
        if st.st_uid != inode.uid or st.st_gid != inode.gid:
            flags |= OWNER_ELSEWHERE
        inode.names = <unsigned short>((inode.names & 0x3FFF) | flags << 14)
        self.index.set_disk(self.node, st.st_ino, stat_ctime(st), stat_mtime(st))
        return 0

    cdef int settle_path(self, int at, const char *name) noexcept nogil:
        cdef Attributes *a = &self.attributes
        cdef timespec times[2]
        cdef struct_stat st
        cdef char link[320]
        cdef int missed = 0
        if self.owners and (a.uid != self.euid or a.gid != self.egid) and fchownat(at, name, a.uid, a.gid, AT_SYMLINK_NOFOLLOW):
            return self.system(errno)
        if a.type != c'2' and (a.mode & ~0o777 or a.mode & self.umask or a.uid != self.euid or a.gid != self.egid):
            # just made, so it is no symlink
            if fchmodat(at, name, a.mode, 0):
                return self.system(errno)
        if a.xattr_len:
            snprintf(link, sizeof(link), b"/proc/self/fd/%d/%s", at, name)
            missed = disk_set_xattrs(-1, link, a.xattrs, a.xattr_len, self.privileged, 0)
            if missed < 0:
                return self.system(errno)
        times[0] = times[1] = disk_timespec(a.mtime_ns)
        if utimensat(at, name, times, AT_SYMLINK_NOFOLLOW) or fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW):
            return self.system(errno)
        if self.owners and (st.st_uid != a.uid or st.st_gid != a.gid):
            # a parent with set-group-id gave it another group
            if fchownat(at, name, a.uid, a.gid, AT_SYMLINK_NOFOLLOW) or (a.type != c'2' and fchmodat(at, name, a.mode, 0)) \
                    or fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW):
                return self.system(errno)
        self.record(&st, missed)
        return FINE

    cdef int settle_fd(self, int fd, Attributes *a, bint directory) noexcept nogil:
        cdef timespec times[2]
        cdef struct_stat st
        cdef int missed = 0
        cdef bint chown
        if directory:
            if fstat(fd, &st):
                return self.system(errno)
            chown = st.st_uid != a.uid or st.st_gid != a.gid
        else:
            chown = a.uid != self.euid or a.gid != self.egid
        if self.owners and chown and fchown(fd, a.uid, a.gid):
            return self.system(errno)
        if (directory or chown or a.mode & ~0o777 or a.mode & self.umask) and fchmod(fd, a.mode):
            return self.system(errno)
        if a.xattr_len or directory:
            missed = disk_set_xattrs(fd, NULL, a.xattrs, a.xattr_len, self.privileged, directory)
            if missed < 0:
                return self.system(errno)
        times[0] = times[1] = disk_timespec(a.mtime_ns)
        if futimens(fd, times) or fstat(fd, &st):
            return self.system(errno)
        if not directory and ((self.owners and (st.st_uid != a.uid or st.st_gid != a.gid)) or st.st_mode & 0o7777 != a.mode):
            # a parent with set-group-id or a default ACL had its own mind
            if self.owners and fchown(fd, a.uid, a.gid):
                return self.system(errno)
            if fchmod(fd, a.mode) or fstat(fd, &st):
                return self.system(errno)
        self.record(&st, missed)
        return FINE

    # --- contents

    cdef int on_data(self, const unsigned char *p, size_t n) noexcept nogil:
        cdef size_t at = 0
        cdef ssize_t got
        cdef char *grown
        self.n_bytes += n
        if self.fd >= 0:
            digest_update(&self.digest, p, n)
            while at < n:
                got = write(self.fd, p + at, n - at)
                if got < 0:
                    if errno == 4:  # EINTR
                        continue
                    return self.system(errno)
                at += <size_t>got
        if self.keeping != NULL:
            grown = <char *>realloc(self.keeping.data, self.keeping.length + n)
            if grown == NULL:
                return NO_MEMORY
            memcpy(grown + self.keeping.length, p, n)
            self.keeping.data = grown
            self.keeping.length += n
        return FINE

    cdef int end_file(self) noexcept nogil:
        cdef int got = FINE
        cdef Attributes a
        cdef Inode *inode
        if self.keeping != NULL:
            self.keeping.valid = True
            self.keeping = NULL
        if self.fd >= 0:
            self.index.get(self.node, &a)
            got = self.settle_fd(self.fd, &a, False)
            inode = self.index.inode_of(self.node)
            digest_final(&self.digest, inode.digest)
            if close(self.fd) and got == FINE:
                got = self.system(errno)
            self.fd = -1
        return got

    # --- whiteouts

    cdef int on_whiteout(self, size_t n, size_t base) noexcept nogil:
        cdef size_t used
        cdef int64_t node
        cdef const char *last = self.target + base
        cdef size_t k = n - base
        cdef bint opaque = k == 12 and memcmp(last, b".wh..wh..opq", 12) == 0
        if opaque:
            n = base
        elif k >= 8 and memcmp(last, b".wh..wh.", 8) == 0:
            return FINE
        else:
            k -= 4
            if k == 0 or (k == 1 and last[4] == c'.') or (k == 2 and last[4] == c'.' and last[5] == c'.'):
                return self.malformed(b"tar: a whiteout without a name")
            memmove_down(self.target + base, 4, k)
            n = base + k
        node = self.index.walk(self.target, n, opaque, self.path, &used)
        if node < MISSING:
            return self.walk_error(node)
        if node == MISSING or (node == ROOT and not opaque) or (opaque and self.index.type_of(node) != c'5'):
            self.path[0] = 0
            return FINE
        return self.prune(node, opaque)

    cdef int prune(self, int64_t node, bint keep) noexcept nogil:
        # Index.prune, on disk too
        cdef int64_t n = self.index.path_of(node, self.path, PATH_LIMIT)
        cdef size_t base
        cdef uint32_t child, after
        cdef int at, got
        if n < 0:
            return self.system(36)
        if not keep and self.skip_c != NULL and self.skipped(self.path, <size_t>n):
            return FINE
        if not keep and not self.index.has_marked(node) and not (self.skip_c != NULL and self.skip_test(self.path, <size_t>n, True)):
            if self.rootfd >= 0 and not self.index.nodes[node].flags & NOT_ON_DISK:
                base = <size_t>n - self.index.nodes[node].name_len
                at = self.open_dir(self.path, base - 1 if base else 0)
                if at < 0 or self.touch(self.index.nodes[node].parent) or self.unlock(at, self.index.nodes[node].parent) \
                        or (disk_remove(at, self.path + base) and errno != ENOENT):
                    return self.system(errno)
            if self.index.type_of(node) == c'5':
                self.drop_slots()
            self.last_valid = False
            self.index.remove(node)
            return FINE
        child = self.index.nodes[node].first_child
        while child:
            after = self.index.nodes[child].next_sibling
            got = self.prune(child, False)
            if got:
                return got
            child = after
        return FINE

    # --- the end

    def finish(self):
        cdef int got
        if self.state == FAILED:
            raise ValueError("the archive failed before")
        if self.state == DATA or self.state == META or self.state == SKIP or self.have:
            got = self.malformed(b"tar: the archive ends too early")
        elif self.long_name != NULL or self.long_link != NULL or self.local.have or self.local.xattr_len:
            got = self.malformed(b"tar: the archive ends after an extended header")
        else:
            with nogil:
                got = self.settle_touched()
        if got:
            self.raise_error(got)
        self.drop_slots()
        self.state = DONE

    cdef int settle_touched(self) noexcept nogil:
        # deepest first, so that no directory is closed to us before what lies in it is done
        cdef size_t i
        cdef uint32_t depth, deepest = 0
        cdef int64_t node
        cdef uint32_t *counts
        cdef uint32_t *order
        cdef Node *touched
        cdef int got = FINE
        if self.touched_count == 0:
            return FINE
        for i in range(self.touched_count):
            depth = self.depth_of(self.touched[i])
            if depth > deepest:
                deepest = depth
        counts = <uint32_t *>calloc(deepest + 2, sizeof(uint32_t))
        order = <uint32_t *>malloc(self.touched_count * sizeof(uint32_t))
        if counts == NULL or order == NULL:
            free(counts)
            free(order)
            return NO_MEMORY
        for i in range(self.touched_count):
            counts[deepest - self.depth_of(self.touched[i]) + 1] += 1
        for i in range(deepest + 1):
            counts[i + 1] += counts[i]
        for i in range(self.touched_count):
            depth = deepest - self.depth_of(self.touched[i])
            order[counts[depth]] = self.touched[i]
            counts[depth] += 1
        for i in range(self.touched_count):
            node = order[i]
            if self.index.nodes[node].flags & TOUCHED:
                touched = &self.index.nodes[node]
                touched.flags &= ~TOUCHED
                got = self.settle_node(node)
                if got:
                    break
        free(counts)
        free(order)
        self.touched_count = 0
        return got

    cdef uint32_t depth_of(self, uint32_t node) noexcept nogil:
        cdef uint32_t depth = 0
        if not self.index.nodes[node].flags & TOUCHED:
            return 0  # removed meanwhile
        while node:
            node = self.index.nodes[node].parent
            depth += 1
        return depth

    cdef int settle_node(self, int64_t node) noexcept nogil:
        cdef int64_t n = self.index.path_of(node, self.path, PATH_LIMIT)
        cdef Attributes a
        cdef struct_stat st
        cdef Inode *inode
        cdef size_t base
        cdef int fd, got
        if n < 0:
            return self.system(36)
        if self.index.nodes[node].flags & NOT_ON_DISK:
            return FINE
        self.node = node
        if self.index.type_of(node) != c'5':
            base = <size_t>n - self.index.nodes[node].name_len
            fd = self.open_dir(self.path, base - 1 if base else 0)
            if fd < 0 or fstatat(fd, self.path + base, &st, AT_SYMLINK_NOFOLLOW):
                return self.system(errno)
            inode = self.index.inode_of(node)
            self.index.set_disk(node, st.st_ino, stat_ctime(&st), inode.mtime_ns)
            return FINE
        fd = disk_open(self.rootfd, self.path, <size_t>n, O_RDONLY | O_DIRECTORY | O_NONBLOCK)
        if fd < 0 and errno == 13 and not self.privileged:
            # searched for by its descriptor, as on the way down
            fd = self.open_locked(self.path, <size_t>n)
            if fd >= 0:
                got = self.unlock(fd, node)
                close(fd)
                fd = disk_open(self.rootfd, self.path, <size_t>n, O_RDONLY | O_DIRECTORY | O_NONBLOCK)
        if fd < 0:
            return self.system(errno)
        self.index.get(node, &a)
        got = self.settle_fd(fd, &a, True)
        close(fd)
        return got

    # --- what came of it

    @property
    def kept(self):
        cdef size_t i
        found = {}
        for i in range(self.keep_count):
            if self.keep[i].valid:
                path = os.fsdecode(self.keep[i].path[:self.keep[i].path_len])
                stat = self.index.lookup(path)
                if stat is not None and stat.type == "file":
                    found[path] = self.keep[i].data[:self.keep[i].length] if self.keep[i].length else b""
        return found

    @property
    def files(self):
        return self.n_files

    @property
    def bytes(self):
        return self.n_bytes
