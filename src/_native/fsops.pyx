"""See fsops.pyi."""
import errno
import os
import stat as stat_module
from typing import NamedTuple

cdef extern from "disk_ops.h" nogil:
    int disk_open(int dirfd, const char *path, size_t n, int flags)
    int disk_remove(int parent, const char *name)

cdef extern from "errno.h" nogil:
    int c_errno "errno"

_KINDS = {
    stat_module.S_IFREG: "file", stat_module.S_IFDIR: "dir", stat_module.S_IFLNK: "symlink", stat_module.S_IFCHR: "char",
    stat_module.S_IFBLK: "block", stat_module.S_IFIFO: "fifo", stat_module.S_IFSOCK: "socket",
}


class DiskStat(NamedTuple):
    type: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    dev: int
    nlink: int
    rdev: tuple
    link: str


def open_root(path):
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def resolve(int rootfd, path, *, follow_last=True):
    parts = [p for p in os.fsencode(path).split(b"/") if p not in (b"", b".")]
    parts.reverse()
    done = []
    links = 0
    while parts:
        name = parts.pop()
        if name == b"..":
            if done:
                done.pop()
            continue
        if parts or follow_last:
            try:
                target = os.readlink(b"/".join([*done, name]), dir_fd=rootfd)
            except OSError as e:
                if e.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                    raise
                done.append(name)
                continue
            links += 1
            if links > 40:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith(b"/"):
                done = []
            parts += [p for p in reversed(target.split(b"/")) if p not in (b"", b".")]
            continue
        done.append(name)
    return os.fsdecode(b"/".join(done))


cdef int open_below(int rootfd, path, int flags) except -1:
    # a resolved path; should a link have come into it since, the call fails rather than leave the root
    cdef bytes where = os.fsencode(path)
    cdef const char *c_where = where
    cdef size_t n = len(where)
    cdef int fd
    with nogil:
        fd = disk_open(rootfd, c_where, n, flags)
    if fd < 0:
        raise OSError(c_errno, os.strerror(c_errno), path)
    return fd


def lstat(int rootfd, path):
    # with all of the path, so that a ".." at its end stays inside too
    full = resolve(rootfd, path, follow_last=False)
    head, _, name = full.rpartition("/")
    parent = -1
    try:
        if head:
            parent = open_below(rootfd, head, os.O_PATH | os.O_DIRECTORY)
        at = parent if head else rootfd
        st = os.stat(name or ".", dir_fd=at, follow_symlinks=False)
        kind = _KINDS[stat_module.S_IFMT(st.st_mode)]
        link = os.readlink(name, dir_fd=at) if kind == "symlink" else ""
    except (FileNotFoundError, NotADirectoryError):
        return None
    finally:
        if parent >= 0:
            os.close(parent)
    return DiskStat(kind, st.st_mode & 0o7777, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino, st.st_dev,
                    st.st_nlink, (os.major(st.st_rdev), os.minor(st.st_rdev)), link)


def listdir(int rootfd, path):
    fd = open_below(rootfd, resolve(rootfd, path), os.O_RDONLY | os.O_DIRECTORY)
    found = []
    try:
        with os.scandir(fd) as entries:
            for e in entries:
                kind = "symlink" if e.is_symlink() else "dir" if e.is_dir(follow_symlinks=False) else "file" if e.is_file(follow_symlinks=False) else "other"
                found.append((e.name, kind))
    finally:
        os.close(fd)
    found.sort(key=lambda item: os.fsencode(item[0]))
    return found


def read_file(int rootfd, path, limit):
    fd = open_below(rootfd, resolve(rootfd, path), os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as f:
        data = f.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return data


def remove_tree(int parent_fd, name):
    cdef bytes encoded = os.fsencode(name)
    cdef const char *c_name = encoded
    cdef int failed
    if not encoded or b"/" in encoded or encoded in (b".", b".."):
        raise ValueError(f"{name!r} is not the name of an entry")
    with nogil:
        failed = disk_remove(parent_fd, c_name)
    if failed and c_errno != errno.ENOENT:
        raise OSError(c_errno, os.strerror(c_errno), name)
