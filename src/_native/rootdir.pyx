"""See rootdir.pxd."""

import os

from libc.errno cimport EACCES, EEXIST, ENAMETOOLONG, ENOENT, ENOMEM, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove
from posix.stat cimport fchmod, struct_stat
from posix.time cimport timespec
from posix.unistd cimport close, getegid, geteuid

from pybuild._native.index cimport Index
from pybuild._native.tree cimport (
    NOT_ON_DISK, OWNER_ELSEWHERE, PATH_LIMIT, ROOT, XATTRS_ELSEWHERE,
    Attributes, Inode, Node,
)

cdef extern from "disk_ops.h" nogil:
    int O_RDONLY, O_DIRECTORY, O_PATH, O_NONBLOCK, AT_SYMLINK_NOFOLLOW, AT_FDCWD
    int mkdirat(int, const char *, unsigned int)
    int fchownat(int, const char *, unsigned int, unsigned int, int)
    int fchown(int, unsigned int, unsigned int)
    int fchmodat(int, const char *, unsigned int, int)
    int futimens(int, const timespec *)
    int utimensat(int, const char *, const timespec *, int)
    int fstat(int, struct_stat *)
    int fstatat(int, const char *, struct_stat *, int)
    int snprintf(char *, size_t, const char *, ...)
    timespec disk_timespec(int64_t)
    int disk_open(int, const char *, size_t, int)
    int disk_remove(int, const char *)
    int disk_set_xattrs(int, const char *, const char *, size_t, int, int)
    int64_t disk_mtime(const struct_stat *)
    int64_t disk_ctime(const struct_stat *)
    unsigned int disk_umask()
    void set_errno "disk_errno" (int)

cdef enum:
    SLOTS = 16
    TOUCHED = 8              # node flag


cdef class RootDir:
    def __cinit__(self, Index index not None, int rootfd, bint owners):
        cdef int i
        self.rootfd = -1
        for i in range(SLOTS):
            self.slots[i].fd = -1
        self.path = <char *>malloc(PATH_LIMIT)
        if self.path == NULL:
            raise MemoryError
        self.path[0] = 0
        self.index = index
        self.owners = owners
        self.euid, self.egid = geteuid(), getegid()
        self.privileged = self.euid == 0
        self.umask = disk_umask()
        self.rootfd = os.dup(rootfd)

    def __dealloc__(self):
        self.close_all()
        free(self.touched)
        free(self.path)

    cdef void close_all(self) noexcept nogil:
        self.drop_slots()
        if self.rootfd >= 0:
            close(self.rootfd)
            self.rootfd = -1

    cdef void drop_slots(self) noexcept nogil:
        cdef int i
        for i in range(SLOTS):
            if self.slots[i].fd >= 0:
                close(self.slots[i].fd)
                free(self.slots[i].path)
                self.slots[i].fd = -1

    cdef int open_dir(self, const char *path, size_t n) noexcept nogil:
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
        if fd < 0 and errno == EACCES and not self.privileged:
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
        if fchmodat(AT_FDCWD, link, mode | 0o700, 0):
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

    cdef int make_dir(self, int64_t parent, const char *path, size_t n, size_t base) noexcept nogil:
        cdef int at = self.open_parent(parent, path, base)
        cdef struct_stat st
        cdef const char *name = path + base
        if at < 0:
            return -1
        if mkdirat(at, name, 0o700) == 0:
            return 0
        if errno == EEXIST:
            if fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW):
                return -1
            if st.st_mode & 0o170000 == 0o040000:
                return 0
            if disk_remove(at, name) or mkdirat(at, name, 0o700):
                return -1
            return 0
        return -1

    cdef int open_parent(self, int64_t parent, const char *path, size_t base) noexcept nogil:
        cdef int at = self.open_dir(path, base - 1 if base else 0)
        return -1 if at < 0 or self.touch(parent) or self.unlock(at, parent) else at

    cdef int remove(self, int64_t parent, const char *path, size_t base) noexcept nogil:
        cdef int at = self.open_parent(parent, path, base)
        return -1 if at < 0 or (disk_remove(at, path + base) and errno != ENOENT) else 0

    # --- attributes on disk. Owner before mode, as a change of owner takes set-user-ID away, and before capabilities; times last.

    cdef void record(self, int64_t node, const struct_stat *st, int missed) noexcept nogil:
        cdef Inode *inode = self.index.inode_of(node)
        cdef uint32_t flags = XATTRS_ELSEWHERE if missed else 0
        if st.st_uid != inode.uid or st.st_gid != inode.gid:
            flags |= OWNER_ELSEWHERE
        inode.names = <unsigned short>((inode.names & 0x3FFF) | flags << 14)
        self.index.set_disk(node, st.st_ino, disk_ctime(st), disk_mtime(st))

    cdef int settle_path(self, int at, const char *name, int64_t node, const Attributes *a) noexcept nogil:
        cdef timespec times[2]
        cdef struct_stat st
        cdef char link[320]
        cdef int missed = 0
        if self.owners and (a.uid != self.euid or a.gid != self.egid) and fchownat(at, name, a.uid, a.gid, AT_SYMLINK_NOFOLLOW):
            return -1
        if a.type != c'2' and (a.mode & ~0o777 or a.mode & self.umask or a.uid != self.euid or a.gid != self.egid):
            # just made, so it is no symlink
            if fchmodat(at, name, a.mode, 0):
                return -1
        if a.xattr_len:
            snprintf(link, sizeof(link), b"/proc/self/fd/%d/%s", at, name)
            missed = disk_set_xattrs(-1, link, a.xattrs, a.xattr_len, self.privileged, 0)
            if missed < 0:
                return -1
        times[0] = times[1] = disk_timespec(a.mtime_ns)
        if utimensat(at, name, times, AT_SYMLINK_NOFOLLOW) or fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW):
            return -1
        if self.owners and (st.st_uid != a.uid or st.st_gid != a.gid):
            # a parent with set-group-id gave it another group
            if fchownat(at, name, a.uid, a.gid, AT_SYMLINK_NOFOLLOW) or (a.type != c'2' and fchmodat(at, name, a.mode, 0)) \
                    or fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW):
                return -1
        self.record(node, &st, missed)
        return 0

    cdef int settle_fd(self, int fd, int64_t node, const Attributes *a, bint directory) noexcept nogil:
        cdef timespec times[2]
        cdef struct_stat st
        cdef int missed = 0
        cdef bint chown
        if directory:
            if fstat(fd, &st):
                return -1
            chown = st.st_uid != a.uid or st.st_gid != a.gid
        else:
            chown = a.uid != self.euid or a.gid != self.egid
        if self.owners and chown and fchown(fd, a.uid, a.gid):
            return -1
        if (directory or chown or a.mode & ~0o777 or a.mode & self.umask) and fchmod(fd, a.mode):
            return -1
        if a.xattr_len or directory:
            missed = disk_set_xattrs(fd, NULL, a.xattrs, a.xattr_len, self.privileged, directory)
            if missed < 0:
                return -1
        times[0] = times[1] = disk_timespec(a.mtime_ns)
        if futimens(fd, times) or fstat(fd, &st):
            return -1
        if not directory and ((self.owners and (st.st_uid != a.uid or st.st_gid != a.gid)) or st.st_mode & 0o7777 != a.mode):
            # a parent with set-group-id or a default ACL had its own mind
            if self.owners and fchown(fd, a.uid, a.gid):
                return -1
            if fchmod(fd, a.mode) or fstat(fd, &st):
                return -1
        self.record(node, &st, missed)
        return 0

    cdef int settle(self) noexcept nogil:
        cdef size_t done
        cdef int got = 0
        while self.touched_count and got == 0:
            done = self.touched_count
            got = self.settle_first(done)
            # without privileges, opening those may have touched directories above them once more
            memmove(self.touched, self.touched + done, (self.touched_count - done) * sizeof(uint32_t))
            self.touched_count -= done
        return got

    cdef int settle_first(self, size_t count) noexcept nogil:
        # deepest first, so that no directory is closed to us before what lies in it is done
        cdef size_t i
        cdef uint32_t depth, deepest = 0
        cdef uint32_t *counts
        cdef uint32_t *order
        cdef Node *touched
        cdef int got = 0
        for i in range(count):
            depth = self.depth_of(self.touched[i])
            if depth > deepest:
                deepest = depth
        counts = <uint32_t *>calloc(deepest + 2, sizeof(uint32_t))
        order = <uint32_t *>malloc(count * sizeof(uint32_t))
        if counts == NULL or order == NULL:
            free(counts)
            free(order)
            set_errno(ENOMEM)
            return -1
        for i in range(count):
            counts[deepest - self.depth_of(self.touched[i]) + 1] += 1
        for depth in range(deepest + 1):
            counts[depth + 1] += counts[depth]
        for i in range(count):
            depth = deepest - self.depth_of(self.touched[i])
            order[counts[depth]] = self.touched[i]
            counts[depth] += 1
        for i in range(count):
            touched = &self.index.nodes[order[i]]
            if touched.flags & TOUCHED:
                touched.flags &= ~TOUCHED
                got = self.settle_node(order[i])
                if got:
                    break
        free(counts)
        free(order)
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
            set_errno(ENAMETOOLONG)
            return -1
        if self.index.nodes[node].flags & NOT_ON_DISK:
            return 0
        if self.index.type_of(node) != c'5':
            base = <size_t>n - self.index.nodes[node].name_len
            fd = self.open_dir(self.path, base - 1 if base else 0)
            if fd < 0 or fstatat(fd, self.path + base, &st, AT_SYMLINK_NOFOLLOW):
                return -1
            inode = self.index.inode_of(node)
            self.index.set_disk(node, st.st_ino, disk_ctime(&st), inode.mtime_ns)
            return 0
        fd = disk_open(self.rootfd, self.path, <size_t>n, O_RDONLY | O_DIRECTORY | O_NONBLOCK)
        if fd < 0 and errno == EACCES and not self.privileged:
            # searched for by its descriptor, as on the way down
            fd = self.open_locked(self.path, <size_t>n)
            if fd >= 0:
                got = self.unlock(fd, node)
                close(fd)
                fd = disk_open(self.rootfd, self.path, <size_t>n, O_RDONLY | O_DIRECTORY | O_NONBLOCK)
        if fd < 0:
            return -1
        self.index.get(node, &a)
        got = self.settle_fd(fd, node, &a, True)
        close(fd)
        return got
