"""See untar.pyi. The disk is only touched through descriptors of directories whose paths the index has resolved; what the disk has there
is never a symlink, or the call fails."""

import os

from libc.errno cimport EBUSY, EEXIST, EINTR, ELOOP, ENAMETOOLONG, EPERM, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove, strlen
from posix.stat cimport S_IFBLK, S_IFCHR, S_IFIFO
from posix.unistd cimport close

from pybuild._native.index cimport Index
from pybuild._native.tree cimport (
    MISSING, NOT_ON_DISK, PATH_LIMIT, ROOT, TOO_MANY_LINKS,
    Attributes, DigestState, Inode, digest_final, digest_init, digest_update,
)
from pybuild._native.rootdir cimport RootDir
from pybuild._native.tarstream cimport DONE, FAILED, FINE, NO_MEMORY, TarStream

cdef extern from "tar_header.h" nogil:
    size_t tar_clean(const char *, size_t, char *, int *)

cdef extern from "disk_ops.h" nogil:
    int O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_CLOEXEC
    int openat(int, const char *, int, ...)
    int mknodat(int, const char *, unsigned int, uint64_t)
    int symlinkat(const char *, int, const char *)
    int linkat(int, const char *, int, const char *, int)
    ssize_t write(int, const void *, size_t)
    int disk_remove(int, const char *)
    void set_errno "disk_errno" (int)

cdef extern from "sys/sysmacros.h" nogil:
    uint64_t makedev(unsigned int, unsigned int)

cdef enum:
    KEEP_LIMIT = 1048576     # bytes of a file that is kept in memory

cdef struct Kept:
    char *path
    size_t path_len
    char *data
    size_t length
    bint valid


cdef class Extractor(TarStream):
    cdef Index index
    cdef RootDir root
    cdef bint on_disk, whiteouts, devices
    cdef bytes dest, skip_bytes_
    cdef const char *dest_text
    cdef const char *skip             # NUL-terminated paths one after the other, an empty one at the end; NULL for none
    cdef Kept *keep
    cdef size_t keep_count
    cdef size_t path_len, base        # of self.path, the canonical path of the entry, and of its last component
    cdef int64_t parent
    # the parent of the entry before: as it was written, and where it is
    cdef char *last_parent
    cdef char *canonical
    cdef size_t last_parent_len, last_canonical
    cdef int64_t last_node
    cdef bint last_valid
    # the file being written
    cdef int fd
    cdef int64_t node
    cdef DigestState digest
    cdef Kept *keeping
    cdef uint64_t n_files, n_bytes

    def __cinit__(self, Index index not None, int rootfd=-1, *, bint whiteouts=True, bint strict=False, skip=(), bint owners=True,
                  bint devices=True, dest="", keep=()):
        cdef Kept *kept
        self.fd = -1
        self.index = index
        self.last_parent = <char *>malloc(PATH_LIMIT)
        self.canonical = <char *>malloc(PATH_LIMIT)
        self.keep = <Kept *>calloc(len(keep) + 1, sizeof(Kept))
        if self.last_parent == NULL or self.canonical == NULL or self.keep == NULL:
            raise MemoryError
        self.whiteouts, self.strict, self.devices = whiteouts, strict, devices
        skip = [p for p in (os.fsencode(p).strip(b"/") for p in skip) if p]
        self.skip_bytes_ = b"".join(p + b"\0" for p in skip) + b"\0"
        self.skip = <const char *>self.skip_bytes_ if skip else NULL
        self.dest = os.fsencode(index.resolve(dest))
        self.dest_text = <const char *>self.dest
        for p in keep:
            p = os.fsencode(p)
            kept = &self.keep[self.keep_count]
            kept.path = <char *>malloc(len(p) + 1)
            if kept.path == NULL:
                raise MemoryError
            memcpy(kept.path, <const char *>(<bytes>p), len(p) + 1)
            kept.path_len = len(p)
            self.keep_count += 1
        if rootfd >= 0:
            self.root = RootDir(index, rootfd, owners)
            self.on_disk = True
        index.begin()

    def __dealloc__(self):
        cdef size_t i
        if self.fd >= 0:
            close(self.fd)
        for i in range(self.keep_count):
            free(self.keep[i].path)
            free(self.keep[i].data)
        free(self.keep)
        free(self.last_parent)
        free(self.canonical)

    cdef void abandon(self) noexcept nogil:
        if self.fd >= 0:
            close(self.fd)
            self.fd = -1
        if self.on_disk:
            self.root.close_all()

    cdef bint skipped(self, const char *path, size_t n) noexcept nogil:
        # at or below a path that is to be left alone
        return self.skip_test(path, n, False)

    cdef bint skip_test(self, const char *path, size_t n, bint inside) noexcept nogil:
        cdef const char *text = self.skip
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

    # --- entries

    cdef int walk_error(self, int64_t got) noexcept nogil:
        return self.system(ELOOP if got == TOO_MANY_LINKS else ENAMETOOLONG)

    cdef int below_dest(self, const char *name, size_t n, size_t *out_len) noexcept nogil:
        # `name` below the destination, into self.raw
        cdef const char *dest = self.dest_text
        cdef size_t k = strlen(dest)
        if k + n + 2 > PATH_LIMIT:
            return self.system(ENAMETOOLONG)
        memcpy(self.raw, dest, k)
        if k and n:
            self.raw[k] = c'/'
            k += 1
        memcpy(self.raw + k, name, n)
        self.raw[k + n] = 0
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
        while base and self.raw[base - 1] != c'/':
            base -= 1
        last = self.raw + base
        if n - base > 255:
            return self.system(ENAMETOOLONG)
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
            self.attributes.link, self.attributes.link_len = self.link, self.link_len
            if self.strict and self.climbs(self.link, self.link_len):
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
        if self.on_disk and self.root.touch(ROOT):
            return NO_MEMORY
        return FINE

    cdef int find_parent(self, size_t n, size_t base) noexcept nogil:
        # self.parent, self.path and self.base for the raw path in self.raw; an empty self.path when it is to be skipped
        cdef size_t raw = base - 1 if base else 0
        cdef size_t used = 0, start, i
        cdef int64_t node
        cdef int got
        if not (self.last_valid and raw == self.last_parent_len and memcmp(self.last_parent, self.raw, raw) == 0):
            self.last_valid = False
            node = self.index.walk(self.raw, raw, True, self.canonical, &used)
            if node < MISSING:
                return self.walk_error(node)
            if used + (n - base) + 2 > PATH_LIMIT:
                return self.system(ENAMETOOLONG)
            self.last_canonical = used
            if node == MISSING or self.index.type_of(node) != c'5':
                if self.skip != NULL and self.skipped(self.canonical, used):
                    return FINE
                got = self.make_parents(used)
                if got:
                    return got
                node = self.index.find_path(self.canonical, used)
            self.last_node = node
            memcpy(self.last_parent, self.raw, raw)
            self.last_parent_len = raw
            self.last_valid = True
        used = self.last_canonical
        memcpy(self.path, self.canonical, used)
        if used:
            self.path[used] = c'/'
            used += 1
        self.base = used
        memcpy(self.path + used, self.raw + base, n - base)
        self.path_len = used + n - base
        self.path[self.path_len] = 0
        self.parent = self.last_node
        if self.skip != NULL and self.skipped(self.path, self.path_len):
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
                return self.system(ENAMETOOLONG)
            child = self.index.find(node, self.canonical + start, i - start)
            if child < 0 or self.index.type_of(child) != c'5':
                if child >= 0 and self.index.nodes[child].mark == self.index.generation:
                    return self.malformed(b"tar: a path through something that is no directory")
                if self.on_disk:
                    memcpy(self.path, self.canonical, i)
                    self.path[i] = 0
                    if self.root.make_dir(node, self.path, i, start):
                        return self.system(errno)
                child = self.index.put_implied(node, self.canonical + start, i - start)
                if child < 0 or (self.on_disk and self.root.touch(child)):
                    return NO_MEMORY
            node = child
            start = i + 1
        return FINE

    cdef void forget_dirs(self) noexcept nogil:
        # a directory or symlink goes: what was resolved may lead elsewhere now
        self.last_valid = False
        if self.on_disk:
            self.root.drop_slots()

    cdef int remove_existing(self, int64_t node) noexcept nogil:
        # what the index has at self.path; the node stays, for put() to use again
        cdef uint8_t type = self.index.type_of(node)
        if type == c'5':
            if self.skip != NULL and self.skip_test(self.path, self.path_len, True):
                return self.system(EBUSY)
            self.forget_dirs()
        elif type == c'2':
            self.last_valid = False
        if not self.on_disk or self.index.nodes[node].flags & NOT_ON_DISK:
            return FINE
        return self.system(errno) if self.root.remove(self.parent, self.path, self.base) else FINE

    cdef int on_dir(self) noexcept nogil:
        cdef size_t n = self.path_len - self.base
        cdef int64_t node = self.index.find(self.parent, self.path + self.base, n)
        cdef int got
        if node < 0 or self.index.type_of(node) != c'5':
            if node >= 0:
                self.last_valid = False
            if self.on_disk:
                if self.root.make_dir(self.parent, self.path, self.path_len, self.base):
                    return self.system(errno)
        node = self.index.put(self.parent, self.path + self.base, n, &self.attributes)
        if node < 0 or (self.on_disk and self.root.touch(node)):
            return NO_MEMORY
        return FINE

    cdef int on_hard_link(self) noexcept nogil:
        cdef size_t n = self.path_len - self.base, used, k
        cdef int climbs, at, target_at, got
        cdef int64_t target, node, above
        cdef char *link = self.link
        k = tar_clean(self.link, self.link_len, link, &climbs)
        if climbs and self.strict:
            return self.malformed(b"tar: a hard link to something outside of the archive")
        got = self.below_dest(link, k, &used)
        if got:
            return got
        # the canonical path of the target; from here on the parent's is not needed again
        self.last_valid = False
        target = self.index.walk(self.raw, used, False, self.canonical, &used)
        if target < MISSING:
            return self.walk_error(target)
        if self.skip != NULL and self.skipped(self.canonical, used):
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
        if self.on_disk and not self.index.nodes[target].flags & NOT_ON_DISK:
            at = self.root.open_parent(self.parent, self.path, self.base)
            if at < 0:
                return self.system(errno)
            k = used
            while k and self.canonical[k - 1] != c'/':
                k -= 1
            target_at = self.root.open_dir(self.canonical, k - 1 if k else 0)
            if target_at < 0:
                return self.system(errno)
            if linkat(target_at, self.canonical + k, at, self.path + self.base, 0):
                if errno != EEXIST or disk_remove(at, self.path + self.base) \
                        or linkat(target_at, self.canonical + k, at, self.path + self.base, 0):
                    return self.system(errno)
        node = self.index.link(self.parent, self.path + self.base, n, target)
        if node < 0 or (self.on_disk and self.root.touch(node)):
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
        if self.on_disk:
            at = self.root.open_parent(self.parent, self.path, self.base)
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
        if not self.on_disk or self.attributes.flags & NOT_ON_DISK:
            return FINE
        return self.system(errno) if self.root.settle_path(at, name, self.node, &self.attributes) else FINE

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
                    if errno == EINTR:
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
            if self.root.settle_fd(self.fd, self.node, &a, False):
                got = self.system(errno)
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
        cdef const char *last = self.raw + base
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
            memmove(self.raw + base, self.raw + base + 4, k)
            n = base + k
        node = self.index.walk(self.raw, n, opaque, self.path, &used)
        if node < MISSING:
            return self.walk_error(node)
        if node == MISSING or (node == ROOT and not opaque) or (opaque and self.index.type_of(node) != c'5'):
            self.path[0] = 0
            return FINE
        return self.prune(node, opaque)

    cdef int prune(self, int64_t node, bint keep) noexcept nogil:
        # Index.prune, on disk too
        cdef int64_t n = self.index.path_of(node, self.path, PATH_LIMIT)
        cdef uint32_t child, after
        cdef int got
        if n < 0:
            return self.system(ENAMETOOLONG)
        if not keep and self.skip != NULL and self.skipped(self.path, <size_t>n):
            return FINE
        if not keep and not self.index.has_marked(node) and not (self.skip != NULL and self.skip_test(self.path, <size_t>n, True)):
            if self.on_disk and not self.index.nodes[node].flags & NOT_ON_DISK:
                if self.root.remove(self.index.nodes[node].parent, self.path, <size_t>n - self.index.nodes[node].name_len):
                    return self.system(errno)
            self.forget_dirs()
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

    def finish(self):
        cdef int got
        if self.state == FAILED:
            raise ValueError("the archive failed before")
        with nogil:
            got = self.check_end()
            if got == FINE and self.on_disk and self.root.settle():
                memcpy(self.path, self.root.path, strlen(self.root.path) + 1)
                got = self.system(errno)
        if got:
            self.raise_error(got)
        if self.on_disk:
            self.root.close_all()
        self.state = DONE

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
