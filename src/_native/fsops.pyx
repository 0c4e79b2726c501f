"""See fsops.pyi."""
import errno
import os
import stat as stat_module
from typing import NamedTuple

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


def lstat(int rootfd, path):
    # with all of the path, so that a ".." at its end stays inside too
    full = resolve(rootfd, path, follow_last=False) or "."
    try:
        st = os.stat(full, dir_fd=rootfd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    kind = _KINDS[stat_module.S_IFMT(st.st_mode)]
    link = os.fsdecode(os.readlink(os.fsencode(full), dir_fd=rootfd)) if kind == "symlink" else ""
    return DiskStat(kind, st.st_mode & 0o7777, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino, st.st_dev,
                    st.st_nlink, (os.major(st.st_rdev), os.minor(st.st_rdev)), link)


def listdir(int rootfd, path):
    where = resolve(rootfd, path)
    fd = os.open(where or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=rootfd)
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
    where = resolve(rootfd, path)
    fd = os.open(where, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=rootfd)
    with os.fdopen(fd, "rb") as f:
        data = f.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return data


def remove_tree(int parent_fd, name):
    try:
        st = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat_module.S_ISDIR(st.st_mode):
        os.unlink(name, dir_fd=parent_fd)
        return
    stack = [_open_to_empty(parent_fd, name)]
    names = [name]
    try:
        while stack:
            fd = stack[len(stack) - 1]
            below = None
            with os.scandir(fd) as entries:
                for e in entries:
                    if e.is_dir(follow_symlinks=False):
                        try:
                            os.rmdir(e.name, dir_fd=fd)
                        except OSError as error:
                            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES):
                                raise
                            below = e.name
                            break
                    else:
                        os.unlink(e.name, dir_fd=fd)
            if below is not None:
                stack.append(_open_to_empty(fd, below))
                names.append(below)
                continue
            os.close(stack.pop())
            os.rmdir(names.pop(), dir_fd=stack[len(stack) - 1] if stack else parent_fd)
    finally:
        for fd in stack:
            os.close(fd)


def _open_to_empty(int parent_fd, name):
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=parent_fd)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent_fd)
        fd = os.open(name, flags, dir_fd=parent_fd)
    if not os.fstat(fd).st_mode & 0o200 or not os.fstat(fd).st_mode & 0o100:
        os.fchmod(fd, 0o700)
    return fd
