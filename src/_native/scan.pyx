"""See scan.pyi. The walk itself is in scanner.pyx."""

import errno as _errno
import os
import threading

from libc.errno cimport ENOENT, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memset
from posix.stat cimport struct_stat
from posix.unistd cimport close

from pybuild._native.cancel cimport Cancel
from pybuild._native.entries cimport Entry, EntryList
from pybuild._native.index cimport Index, xattr_wanted
from pybuild._native.scanner cimport DELETED, EMIT, FULL, REDO, SPLIT, TIME, UPDATE, Finding, Scanner, Task, Worker
from pybuild._native.tree cimport ROOT, Attributes, Inode

cdef extern from "scan_dir.h" nogil:
    int O_DIRECTORY, O_PATH, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH
    int fstatat(int, const char *, struct_stat *, int)
    int disk_open(int, const char *, size_t, int)
    int64_t disk_mtime(const struct_stat *)
    int64_t disk_ctime(const struct_stat *)
    unsigned int scan_major(uint64_t)
    unsigned int scan_minor(uint64_t)
    uint8_t scan_type(unsigned int)
    int64_t scan_xattrs(int, const char *, int (*)(const char *, size_t) noexcept nogil, char **)
    int scan_trusts_ctime(int)

cdef enum:
    TICK = 10000000          # ns: the coarsest clock tick in use


cdef int wanted(const char *name, size_t n) noexcept nogil:
    return xattr_wanted(name, n)


cdef int compare_findings(const void *pa, const void *pb) noexcept nogil:
    # as EntryList.sort: '/' before every other byte
    cdef const Finding *a = (<const Finding **>pa)[0]
    cdef const Finding *b = (<const Finding **>pb)[0]
    cdef size_t n = a.length if a.length < b.length else b.length
    cdef size_t i = 0
    cdef unsigned char ca, cb
    while i < n and a.path[i] == b.path[i]:
        i += 1
    if i == n:
        return (a.length > b.length) - (a.length < b.length)
    ca = <unsigned char>a.path[i]
    cb = <unsigned char>b.path[i]
    if ca == c'/':
        return -1
    if cb == c'/':
        return 1
    return -1 if ca < cb else 1


cdef class Detector(Scanner):
    """A scanner whose findings become the index's new state and the entries of a layer."""

    cdef int settle_splits(self) except -1:
        # of the names that shared a file and whose file is another now: when all moved together, nothing happened to them
        cdef Worker *w
        cdef Finding *f
        cdef size_t k
        cdef int i
        groups = {}
        for i in range(self.worker_count):
            w = &self.workers[i]
            for k in range(w.count):
                f = &w.findings[k]
                if f.verdict == SPLIT:
                    groups.setdefault((self.index.nodes[f.node].inode, f.dev, f.ino), []).append((i, k))
        for (inode, _, _), members in groups.items():
            together = len(members) == self.index.inodes[<uint32_t>inode].names & 0x3FFF
            for i, k in members:
                self.workers[i].findings[k].verdict = UPDATE if together else EMIT
        return 0

    cdef EntryList result(self):
        cdef EntryList out = EntryList()
        cdef size_t total = 0, emitted = 0, deleted = 0, k, i
        cdef Finding **order
        cdef Finding *f
        cdef int root, number
        cdef int failed = 0
        self.settle_splits()
        root = out.add_root(self.rootfd)
        for number in range(self.worker_count):
            total += self.workers[number].count
        order = <Finding **>malloc((total + 1) * sizeof(void *))
        if order == NULL:
            raise MemoryError
        with nogil:
            for number in range(self.worker_count):
                for k in range(self.workers[number].count):
                    f = &self.workers[number].findings[k]
                    if f.verdict == UPDATE:
                        self.index.set_disk(f.node, f.ino, f.ctime_ns, f.mtime_ns)
                    elif f.verdict == DELETED:
                        order[deleted + emitted] = order[deleted]
                        order[deleted] = f
                        deleted += 1
                    elif f.verdict == EMIT:
                        order[deleted + emitted] = f
                        emitted += 1
            qsort(order, deleted, sizeof(void *), compare_findings)
            qsort(order + deleted, emitted, sizeof(void *), compare_findings)
            for k in range(deleted):
                if out.push_path(order[k].path, order[k].length) == NULL:
                    failed = 1
                    break
                out.entries[out.count - 1].type = c'W'
                self.index.remove(order[k].node)
            for k in range(deleted, deleted + emitted):
                if failed or self.take(out, order[k], root):
                    failed = 1
                    break
        if not failed:
            self.link_names(out, order + deleted, emitted)
        free(order)
        if failed:
            raise MemoryError
        return out

    cdef int take(self, EntryList out, Finding *f, int root) noexcept nogil:
        # one changed entry into the index and the list
        cdef Attributes a
        cdef Entry *e
        cdef int64_t offset, node
        cdef size_t base = f.length
        cdef int64_t at
        memset(&a, 0, sizeof(a))
        a.type, a.mode, a.uid, a.gid, a.size = f.type, f.mode, f.uid, f.gid, f.size
        a.mtime_ns, a.ctime_ns, a.ino, a.flags = f.mtime_ns, f.ctime_ns, f.ino, f.flags
        a.digest[0], a.digest[1] = f.digest[0], f.digest[1]
        a.link, a.link_len, a.xattrs, a.xattr_len = f.link, f.link_len, f.xattrs, f.xattr_len
        if f.type == c'3' or f.type == c'4':
            a.rdev_major, a.rdev_minor = scan_major(f.rdev), scan_minor(f.rdev)
        if f.length == 0:
            if self.index.set_attributes(ROOT, &a):
                return -1
        else:
            while base and f.path[base - 1] != c'/':
                base -= 1
            node = self.index.find_path(f.path, base - 1 if base else 0)
            if node < 0:
                return -1
            node = self.index.put(node, f.path + base, f.length - base, &a)
            if node < 0:
                return -1
            f.node = node
        e = out.push_path(f.path, f.length)
        if e == NULL:
            return -1
        at = <int64_t>out.count - 1
        e.type, e.mode, e.uid, e.gid, e.size, e.mtime_ns = a.type, a.mode, a.uid, a.gid, a.size, a.mtime_ns
        e.rdev_major, e.rdev_minor = a.rdev_major, a.rdev_minor
        if f.type == c'0':
            e.root = <uint8_t>root
            e.source_off, e.source_len = e.path_off, e.path_len
        if f.link_len:
            offset = out.store(f.link, f.link_len)
            if offset < 0:
                return -1
            e = &out.entries[at]
            e.link_off, e.link_len = <uint64_t>offset, <uint32_t>f.link_len
        if f.xattr_len:
            offset = out.store(f.xattrs, f.xattr_len)
            if offset < 0:
                return -1
            e = &out.entries[at]
            e.xattr_off, e.xattr_len = <uint64_t>offset, <uint32_t>f.xattr_len
        return 0

    cdef int link_names(self, EntryList out, Finding **order, size_t n) except -1:
        # names of one file that are all in this layer: the first has the contents, the others link to it
        cdef size_t k, first, skip = out.count - n, base
        cdef Finding *f
        cdef Entry *e
        cdef int64_t parent
        names = {}
        for k in range(n):
            f = order[k]
            if f.type != c'0' or f.nlink < 2:
                continue
            first = names.setdefault((f.dev, f.ino), k)
            if first == k:
                continue
            e = &out.entries[skip + k]
            e.type = c'1'
            e.size, e.xattr_len, e.root, e.source_len = 0, 0, 255, 0
            e.link_off, e.link_len = out.entries[skip + first].path_off, out.entries[skip + first].path_len
            base = f.length
            while base and f.path[base - 1] != c'/':
                base -= 1
            parent = self.index.nodes[f.node].parent
            if self.index.link(parent, f.path + base, f.length - base, order[first].node) < 0:
                raise MemoryError
        return 0


def scan(Index index not None, int rootfd, mode, ignore, int threads, cancel, bint owners):
    if mode not in ("time", "redo", "full"):
        raise ValueError(f"no snapshot mode {mode!r}")
    if threads <= 0:
        threads = min(8, len(os.sched_getaffinity(0)))
    if index.count < 2000:
        threads = 1
    cdef Detector scanner = Detector(index, rootfd, threads)
    cdef Task task
    cdef struct_stat st
    scanner.mode = TIME if mode == "time" else REDO if mode == "redo" else FULL
    scanner.owners = owners
    scanner.trusted = scan_trusts_ctime(rootfd)
    scanner.racy = index.newest_ctime - TICK if index.newest_ctime > index.settled else index.newest_ctime + 1
    ignored = [p for p in (os.fsencode(p).strip(b"/") for p in ignore) if p]
    scanner.ignore_text = b"".join(p + b"\0" for p in ignored) + b"\0"
    scanner.ignore = <const char *>scanner.ignore_text if ignored else NULL
    if cancel is not None:
        scanner.cancel_object = cancel
        scanner.cancel = scanner.cancel_object.pointer()
    if fstatat(rootfd, b"", &st, AT_EMPTY_PATH):
        raise OSError(errno, os.strerror(errno), "")
    index.begin()
    task.path = <char *>malloc(1)
    if task.path == NULL:
        raise MemoryError
    task.path[0] = 0
    task.length = 0
    task.node = ROOT
    if scanner.push(&task, 1):
        raise MemoryError
    others = [threading.Thread(target=scanner.run, args=(i,), daemon=True) for i in range(1, threads)]
    for thread in others:
        thread.start()
    scanner.run(0)
    for thread in others:
        thread.join()
    scanner.lock_again()
    if scanner.failed:
        where = os.fsdecode(scanner.failed_path) if scanner.failed_path != NULL else None
        raise OSError(scanner.failed, os.strerror(scanner.failed), where)
    found = scanner.result()
    # the root itself is in no layer: its name would be empty
    index.set_disk(ROOT, st.st_ino, disk_ctime(&st), disk_mtime(&st))
    return found


def refresh(Index index not None, int rootfd, paths):
    cdef struct_stat st
    cdef Attributes a
    cdef int64_t node, parent, length
    cdef bytes p, name, above, link
    cdef char *xattrs
    cdef int fd
    for path in paths:
        p = os.fsencode(path).strip(b"/")
        above, _, name = p.rpartition(b"/")
        node = index.find_path(p, len(p))
        fd = disk_open(rootfd, above, len(above), O_DIRECTORY | O_PATH)
        if fd < 0 and errno != ENOENT:
            raise OSError(errno, os.strerror(errno), path)
        try:
            if fd < 0 or fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW if p else AT_EMPTY_PATH):
                if fd >= 0 and errno != ENOENT:
                    raise OSError(errno, os.strerror(errno), path)
                if node > ROOT:
                    index.remove(node)
                continue
            memset(&a, 0, sizeof(a))
            a.type = scan_type(st.st_mode)
            if not a.type:
                continue
            a.mode, a.uid, a.gid = st.st_mode & 0o7777, st.st_uid, st.st_gid
            a.mtime_ns, a.ctime_ns, a.ino = disk_mtime(&st), disk_ctime(&st), st.st_ino
            a.rdev_major, a.rdev_minor = scan_major(st.st_rdev), scan_minor(st.st_rdev)
            if a.type == c'0':
                a.size = st.st_size
            elif a.type == c'2':
                link = os.fsencode(os.readlink(name, dir_fd=fd))
                a.link, a.link_len = link, len(link)
            length = scan_xattrs(fd, name, wanted, &xattrs)
            if length < 0:
                raise OSError(errno, os.strerror(errno), path)
            a.xattrs, a.xattr_len = xattrs, <size_t>length
            if not p:
                got = index.set_attributes(ROOT, &a)
            else:
                parent = index.find_path(above, len(above))
                if parent < 0 or index.type_of(parent) != c'5':
                    free(xattrs)
                    raise OSError(_errno.ENOENT, "the index has no such directory", os.fsdecode(above))
                got = 0 if index.put(parent, name, len(name), &a) >= 0 else -1
            free(xattrs)
            if got:
                raise MemoryError
        finally:
            if fd >= 0:
                close(fd)
