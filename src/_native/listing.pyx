"""See listing.pyi."""

import errno
import os

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcmp, memcpy, memset

from pybuild._native.entries cimport Entry, EntryList
from pybuild._native.index cimport Index
from pybuild._native.tree cimport MISSING, PATH_LIMIT, ROOT, Attributes, Inode, Node

from pybuild._native.index import TYPES

_NAMES = {48: "file", 49: "hardlink", **TYPES}


cdef struct Child:
    const char *name
    uint32_t node
    uint32_t length


cdef int compare_children(const void *pa, const void *pb) noexcept nogil:
    cdef const Child *a = <const Child *>pa
    cdef const Child *b = <const Child *>pb
    cdef uint32_t n = a.length if a.length < b.length else b.length
    cdef int c = memcmp(a.name, b.name, n)
    if c:
        return c
    return (a.length > b.length) - (a.length < b.length)


cdef int push_node(Index index, EntryList out, int64_t node, const char *path, size_t n, size_t skip, int root,
                   dict names, object owner) except -1:
    # `path` is where the entry goes, from `skip` on it is the path in the index and on disk
    cdef Attributes a
    cdef Entry *e
    cdef int64_t at, off
    cdef uint32_t inode = index.nodes[node].inode
    index.get(node, &a)
    e = out.push_path(path, n)
    if e == NULL:
        raise MemoryError
    at = <int64_t>out.count - 1
    e.type, e.mode, e.uid, e.gid = a.type, a.mode, a.uid, a.gid
    if owner is not None:
        e.uid, e.gid = owner
    e.mtime_ns, e.size = a.mtime_ns, a.size
    e.rdev_major, e.rdev_minor = a.rdev_major, a.rdev_minor
    if a.type == c'0' and names is not None and index.inodes[inode].names & 0x3FFF > 1:
        first = names.setdefault(inode, at)
        if first != at:
            e.type, e.size = c'1', 0
            e.link_off, e.link_len = out.entries[<size_t>first].path_off, out.entries[<size_t>first].path_len
            return 0
    if a.type == c'0' and root >= 0:
        e.root = <uint8_t>root
        e.source_off, e.source_len = e.path_off + skip, <uint32_t>(n - skip)
    if a.link_len:
        off = out.store(a.link, a.link_len)
        if off < 0:
            raise MemoryError
        e = &out.entries[at]
        e.link_off, e.link_len = <uint64_t>off, <uint32_t>a.link_len
    if a.xattr_len:
        off = out.store(a.xattrs, a.xattr_len)
        if off < 0:
            raise MemoryError
        e = &out.entries[at]
        e.xattr_off, e.xattr_len = <uint64_t>off, <uint32_t>a.xattr_len
    return 0


cdef int push_below(Index index, EntryList out, int64_t top, char *path, size_t n, size_t skip, int root, dict names, object owner) except -1:
    # everything below a directory, parents first, in tar order; an explicit stack, for trees of any depth
    cdef Child *children = NULL
    cdef size_t count, i, used
    cdef uint32_t node
    cdef list stack = [(top, n, True)]
    while stack:
        at, length, listing = stack.pop()
        if not listing:
            # (node, length of the parent's path, False): an entry to push
            used = <size_t>length
            i = index.nodes[<int64_t>at].name_len
            if used + i + 2 > 2 * PATH_LIMIT:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            if used:
                path[used] = c'/'
                used += 1
            memcpy(path + used, index.name_of(at), i)
            used += i
            path[used] = 0
            push_node(index, out, at, path, used, skip, root, names, owner)
            if not index.nodes[<int64_t>at].first_child:
                continue
            length = used
        count = 0
        node = index.nodes[<int64_t>at].first_child
        while node:
            count += 1
            node = index.nodes[node].next_sibling
        if not count:
            continue
        children = <Child *>malloc(count * sizeof(Child))
        if children == NULL:
            raise MemoryError
        i = 0
        node = index.nodes[<int64_t>at].first_child
        while node:
            children[i].name, children[i].length, children[i].node = index.name_of(node), index.nodes[node].name_len, node
            i += 1
            node = index.nodes[node].next_sibling
        qsort(children, count, sizeof(Child), compare_children)
        while count:
            count -= 1
            stack.append((children[count].node, length, False))
        free(children)
        # the path of the directory that is being listed: restored by its own children, which all begin at `length`
    return 0


def list_entries(Index index not None, int rootfd, prefix, dest, owner):
    cdef bytes p = os.fsencode(prefix)
    cdef bytes d = os.fsencode(dest)
    cdef int64_t node = index.find_path(p, len(p))
    cdef EntryList out = EntryList()
    cdef char *path
    cdef size_t n
    if node < 0:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), prefix)
    if len(p) + len(d) + 2 > PATH_LIMIT:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), prefix)
    root = out.add_root(rootfd)
    whole = d + (b"/" if d and p else b"") + p
    path = <char *>malloc(2 * PATH_LIMIT + 512)
    if path == NULL:
        raise MemoryError
    try:
        n = len(whole)
        memcpy(path, <const char *>whole, n + 1)
        names = {}
        skip = len(d) + 1 if d else 0
        if node != ROOT:
            push_node(index, out, node, path, n, skip, root, names, owner)
        push_below(index, out, node, path, n, skip, root, names, owner)
    finally:
        free(path)
    return out


cdef size_t parent_length(const char *path, size_t n) noexcept nogil:
    while n and path[n - 1] != c'/':
        n -= 1
    return n - 1 if n else 0


def add_parents(Index index not None, EntryList entries not None):
    cdef size_t i, n, count = entries.count
    cdef size_t last_off = 0, last_len = 0
    cdef int64_t node
    cdef Entry *e
    cdef set present = set()
    cdef bytes path, parent
    for i in range(count):
        e = &entries.entries[i]
        if e.type == c'5':
            present.add(entries.arena[e.path_off:e.path_off + e.path_len])
    for i in range(count):
        e = &entries.entries[i]
        # an opaque mark needs the directory itself
        n = e.path_len if e.type == c'O' else parent_length(entries.arena + e.path_off, e.path_len)
        if n == last_len and memcmp(entries.arena + e.path_off, entries.arena + last_off, n) == 0:
            continue
        last_off, last_len = e.path_off, n
        path = entries.arena[e.path_off:e.path_off + n]
        while n:
            parent = path[:n]
            if parent in present:
                break
            present.add(parent)
            node = index.find_path(parent, n)
            if node >= 0 and index.type_of(node) == c'5':
                push_node(index, entries, node, parent, n, 0, -1, None, None)
            n = parent_length(parent, n)
    entries.sort()


def conflicts(Index index not None, EntryList entries not None):
    cdef size_t i
    cdef int64_t node
    cdef Entry *e
    found = []
    for i in range(entries.count):
        e = &entries.entries[i]
        if e.type == c'W' or e.type == c'O' or e.path_len == 0:
            continue
        node = index.find_path(entries.arena + e.path_off, e.path_len)
        if node >= 0 and (index.type_of(node) == c'5') != (e.type == c'5'):
            found.append((os.fsdecode(entries.arena[e.path_off:e.path_off + e.path_len]), TYPES[index.type_of(node)], _NAMES[e.type]))
    return found
