"""See tree.pxd."""

import os

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

cdef extern from "hash128.h" nogil:
    ctypedef struct DigestKey:
        uint64_t key[1]
    void digest_start(DigestState *)
    void digest_feed(DigestState *, const DigestKey *, const unsigned char *, size_t)
    void digest_end(DigestState *, const DigestKey *, uint64_t *)
    uint32_t hash_name(const DigestKey *, uint32_t, const char *, size_t)

cdef DigestKey KEY


def _draw_key():
    cdef bytes secret = os.urandom(sizeof(DigestKey))
    memcpy(<void *>&KEY, <const char *>secret, sizeof(DigestKey))


_draw_key()


cdef void digest_init(DigestState *state) noexcept nogil:
    digest_start(state)


cdef void digest_update(DigestState *state, const void *data, size_t n) noexcept nogil:
    digest_feed(state, &KEY, <const unsigned char *>data, n)


cdef void digest_final(DigestState *state, uint64_t *out) noexcept nogil:
    digest_end(state, &KEY, out)


cdef class Tree:
    def __cinit__(self):
        self.bucket_mask = 63
        self.buckets = <uint32_t *>malloc(64 * sizeof(uint32_t))
        self.scratch = <char *>malloc(3 * PATH_LIMIT)
        self.arena_len = 1  # offset 0 means "nothing"
        if self.buckets == NULL or self.scratch == NULL:
            raise MemoryError
        memset(self.buckets, 0, 64 * sizeof(uint32_t))

    def __init__(self):
        cdef Attributes a
        if self.node_count:
            return
        memset(&a, 0, sizeof(a))
        a.type, a.mode = c'5', 0o755
        cdef int64_t node = self.new_node()
        cdef int64_t inode = self.new_inode()
        if node < 0 or inode < 0 or self.store(b"", 0) < 0:
            raise MemoryError
        self.nodes[0].inode = <uint32_t>inode
        self.nodes[0].name_off = 1
        self.live = 0
        self.set_attributes(ROOT, &a)

    def __dealloc__(self):
        free(self.nodes)
        free(self.inodes)
        free(self.arena)
        free(self.buckets)
        free(self.scratch)

    cdef int copy_to(self, Tree other) except -1:
        with nogil:
            free(other.buckets)
            other.nodes = <Node *>malloc(self.node_count * sizeof(Node))
            other.inodes = <Inode *>malloc(self.inode_count * sizeof(Inode))
            other.arena = <char *>malloc(self.arena_len)
            other.buckets = <uint32_t *>malloc((self.bucket_mask + 1) * sizeof(uint32_t))
            if other.nodes != NULL and other.inodes != NULL and other.arena != NULL and other.buckets != NULL:
                memcpy(other.nodes, self.nodes, self.node_count * sizeof(Node))
                memcpy(other.inodes, self.inodes, self.inode_count * sizeof(Inode))
                memcpy(other.arena, self.arena, self.arena_len)
                memcpy(other.buckets, self.buckets, (self.bucket_mask + 1) * sizeof(uint32_t))
        if other.nodes == NULL or other.inodes == NULL or other.arena == NULL or other.buckets == NULL:
            raise MemoryError
        other.node_count = other.node_cap = self.node_count
        other.inode_count = other.inode_cap = self.inode_count
        other.arena_len = other.arena_cap = self.arena_len
        other.node_free, other.inode_free = self.node_free, self.inode_free
        other.live, other.bucket_mask = self.live, self.bucket_mask
        other.generation, other.newest_ctime, other.settled = self.generation, self.newest_ctime, self.settled
        return 0

    # --- storage

    cdef int64_t new_node(self) noexcept nogil:
        cdef uint32_t id
        cdef Node *grown
        cdef size_t capacity
        if self.node_free:
            id = self.node_free
            self.node_free = self.nodes[id].chain
        else:
            if self.node_count == self.node_cap:
                capacity = <size_t>self.node_cap + self.node_cap // 16 + 64
                if capacity > 0xFFFFFFF0u:
                    return OUT_OF_MEMORY
                grown = <Node *>realloc(self.nodes, capacity * sizeof(Node))
                if grown == NULL:
                    return OUT_OF_MEMORY
                self.nodes = grown
                self.node_cap = <uint32_t>capacity
            id = self.node_count
            self.node_count += 1
        memset(&self.nodes[id], 0, sizeof(Node))
        self.live += 1
        return id

    cdef int64_t new_inode(self) noexcept nogil:
        cdef uint32_t id
        cdef Inode *grown
        cdef size_t capacity
        if self.inode_free:
            id = self.inode_free
            self.inode_free = <uint32_t>self.inodes[id].ino
        else:
            if self.inode_count == self.inode_cap:
                capacity = <size_t>self.inode_cap + self.inode_cap // 16 + 64
                if capacity > 0xFFFFFFF0u:
                    return OUT_OF_MEMORY
                grown = <Inode *>realloc(self.inodes, capacity * sizeof(Inode))
                if grown == NULL:
                    return OUT_OF_MEMORY
                self.inodes = grown
                self.inode_cap = <uint32_t>capacity
            id = self.inode_count
            self.inode_count += 1
        memset(&self.inodes[id], 0, sizeof(Inode))
        self.inodes[id].names = 1
        return id

    cdef int64_t store(self, const char *data, size_t n) noexcept nogil:
        # n bytes and a NUL; the data may lie in the arena itself
        cdef char *grown
        cdef size_t capacity, inside = 0
        cdef size_t offset = self.arena_len
        if offset + n + 1 > self.arena_cap:
            capacity = self.arena_cap + self.arena_cap // 16 + n + 4096
            if offset + n + 1 > 0xFFFFFFF0u:
                return OUT_OF_MEMORY
            if self.arena != NULL and data >= self.arena and data < self.arena + self.arena_len:
                inside = <size_t>(data - self.arena)
            grown = <char *>realloc(self.arena, capacity)
            if grown == NULL:
                return OUT_OF_MEMORY
            if inside:
                data = grown + inside
            self.arena = grown
            self.arena_cap = capacity
        if n:
            memcpy(self.arena + offset, data, n)
        self.arena[offset + n] = 0
        self.arena_len = offset + n + 1
        return <int64_t>offset

    cdef int rehash(self, uint32_t size) noexcept nogil:
        cdef uint32_t i, bucket
        cdef uint32_t *table = <uint32_t *>malloc(size * sizeof(uint32_t))
        cdef uint32_t *old = self.buckets
        cdef uint32_t old_size = self.bucket_mask + 1
        cdef uint32_t node, after
        if table == NULL:
            return OUT_OF_MEMORY
        memset(table, 0, size * sizeof(uint32_t))
        for i in range(old_size):
            node = old[i]
            while node:
                after = self.nodes[node].chain
                bucket = hash_name(&KEY, self.nodes[node].parent, self.arena + self.nodes[node].name_off, self.nodes[node].name_len) & (size - 1)
                self.nodes[node].chain = table[bucket]
                table[bucket] = node
                node = after
        free(old)
        self.buckets = table
        self.bucket_mask = size - 1
        return 0

    cdef int64_t attach(self, int64_t parent, const char *name, size_t n, uint32_t inode) noexcept nogil:
        # `name` may not lie in the arena of this index unless it is stored there for good
        cdef int64_t id, offset
        cdef uint32_t bucket, first
        cdef Node *node
        if n == 0 or n > 255:
            return OUT_OF_MEMORY
        if self.live > self.bucket_mask + (self.bucket_mask >> 1) and self.rehash((self.bucket_mask + 1) * 2) < 0:
            return OUT_OF_MEMORY
        offset = self.store(name, n)
        if offset < 0:
            return OUT_OF_MEMORY
        id = self.new_node()
        if id < 0:
            return OUT_OF_MEMORY
        node = &self.nodes[id]
        node.parent = <uint32_t>parent
        node.name_off = <uint32_t>offset
        node.name_len = <uint8_t>n
        node.inode = inode
        node.mark = self.generation
        bucket = hash_name(&KEY, node.parent, self.arena + offset, n) & self.bucket_mask
        node.chain = self.buckets[bucket]
        self.buckets[bucket] = <uint32_t>id
        first = self.nodes[parent].first_child
        node.next_sibling = first
        if first:
            self.nodes[first].previous_sibling = <uint32_t>id
        self.nodes[parent].first_child = <uint32_t>id
        return id

    cdef void unhash(self, uint32_t id) noexcept nogil:
        cdef Node *node = &self.nodes[id]
        cdef uint32_t *at = &self.buckets[hash_name(&KEY, node.parent, self.arena + node.name_off, node.name_len) & self.bucket_mask]
        while at[0] != id:
            at = &self.nodes[at[0]].chain
        at[0] = node.chain

    cdef void drop_inode(self, uint32_t id) noexcept nogil:
        cdef Inode *inode = &self.inodes[id]
        cdef uint16_t names = inode.names & 0x3FFF
        if names == 0x3FFF:  # lost count: kept for good
            return
        if names > 1:
            inode.names -= 1
            return
        inode.ino = self.inode_free
        self.inode_free = id

    cdef void detach(self, uint32_t id) noexcept nogil:
        # take one childless node away
        cdef Node *node = &self.nodes[id]
        self.unhash(id)
        if node.previous_sibling:
            self.nodes[node.previous_sibling].next_sibling = node.next_sibling
        else:
            self.nodes[node.parent].first_child = node.next_sibling
        if node.next_sibling:
            self.nodes[node.next_sibling].previous_sibling = node.previous_sibling
        self.drop_inode(node.inode)
        node.chain = self.node_free
        node.first_child = 0
        node.flags = 0
        self.node_free = id
        self.live -= 1

    # --- reading

    cdef int64_t find(self, int64_t parent, const char *name, size_t n) noexcept nogil:
        cdef uint32_t id = self.buckets[hash_name(&KEY, <uint32_t>parent, name, n) & self.bucket_mask]
        cdef Node *node
        while id:
            node = &self.nodes[id]
            if node.parent == <uint32_t>parent and node.name_len == n and memcmp(self.arena + node.name_off, name, n) == 0:
                return id
            id = node.chain
        return MISSING

    cdef int64_t find_path(self, const char *path, size_t n) noexcept nogil:
        cdef int64_t node = ROOT
        cdef size_t start = 0, i
        if n == 0:
            return ROOT
        for i in range(n + 1):
            if i == n or path[i] == c'/':
                if i == start or i - start > 255:
                    return MISSING
                node = self.find(node, path + start, i - start)
                if node < 0:
                    return MISSING
                start = i + 1
        return node

    cdef uint8_t type_of(self, int64_t node) noexcept nogil:
        return <uint8_t>(48 + (self.inodes[self.nodes[node].inode].type_mode >> 12))

    cdef Inode *inode_of(self, int64_t node) noexcept nogil:
        return &self.inodes[self.nodes[node].inode]

    cdef const char *name_of(self, int64_t node) noexcept nogil:
        return self.arena + self.nodes[node].name_off

    cdef int64_t path_of(self, int64_t node, char *out, size_t cap) noexcept nogil:
        cdef size_t total = 0, at
        cdef int64_t n = node
        while n:
            total += self.nodes[n].name_len + 1
            n = self.nodes[n].parent
        if total > cap or cap == 0:
            return TOO_LONG
        if total:
            total -= 1
        out[total] = 0
        at = total
        n = node
        while n:
            at -= self.nodes[n].name_len
            memcpy(out + at, self.arena + self.nodes[n].name_off, self.nodes[n].name_len)
            if at:
                at -= 1
                out[at] = c'/'
            n = self.nodes[n].parent
        return <int64_t>total

    cdef int64_t walk(self, const char *path, size_t n, bint follow_last, char *out, size_t *out_len) noexcept nogil:
        cdef char *rest = self.scratch
        cdef char *spare = self.scratch + PATH_LIMIT
        cdef char *swap
        cdef size_t rest_len = n, at = 0, end, used = 0, link_len
        cdef int links = 0
        cdef int64_t node = ROOT, child
        cdef bint last
        cdef Inode *inode
        out[0] = 0
        if n >= PATH_LIMIT:
            return TOO_LONG
        memcpy(rest, path, n)
        while True:
            while at < rest_len and rest[at] == c'/':
                at += 1
            if at == rest_len:
                break
            end = at
            while end < rest_len and rest[end] != c'/':
                end += 1
            if end - at == 1 and rest[at] == c'.':
                at = end
                continue
            if end - at == 2 and rest[at] == c'.' and rest[at + 1] == c'.':
                at = end
                while used and out[used - 1] != c'/':
                    used -= 1
                if used:
                    used -= 1
                out[used] = 0
                node = self.nodes[node].parent if node >= 0 else self.find_path(out, used)
                continue
            last = True
            for i in range(end, rest_len):
                if rest[i] != c'/':
                    last = False
                    break
            child = MISSING
            if node >= 0 and end - at <= 255:
                child = self.find(node, rest + at, end - at)
            if child >= 0:
                inode = self.inode_of(child)
                if inode.type_mode >> 12 == 2 and (follow_last or not last) and inode.size:
                    links += 1
                    if links > 40:
                        return TOO_MANY_LINKS
                    link_len = <size_t>inode.size
                    if link_len + (rest_len - end) >= PATH_LIMIT:
                        return TOO_LONG
                    memcpy(spare, self.arena + inode.digest[0], link_len)
                    memcpy(spare + link_len, rest + end, rest_len - end)
                    rest_len = link_len + (rest_len - end)
                    swap = rest
                    rest = spare
                    spare = swap
                    at = 0
                    if rest[0] == c'/':
                        node = ROOT
                        used = 0
                        out[0] = 0
                    continue
            if used + (end - at) + 2 > PATH_LIMIT:
                return TOO_LONG
            if used:
                out[used] = c'/'
                used += 1
            memcpy(out + used, rest + at, end - at)
            used += end - at
            out[used] = 0
            node = child
            at = end
        out_len[0] = used
        return node

    cdef void get(self, int64_t node, Attributes *a) noexcept nogil:
        cdef Inode *inode = self.inode_of(node)
        cdef uint32_t n
        memset(a, 0, sizeof(Attributes))
        a.type = self.type_of(node)
        a.mode = inode.type_mode & 0o7777
        a.uid, a.gid = inode.uid, inode.gid
        a.mtime_ns, a.ctime_ns, a.ino = inode.mtime_ns, inode.ctime_ns, inode.ino
        a.flags = (inode.names >> 14) | (self.nodes[node].flags & NOT_ON_DISK)
        if a.type == c'2':
            a.link = self.arena + inode.digest[0]
            a.link_len = <size_t>inode.size
        elif a.type == c'3' or a.type == c'4':
            a.rdev_major = <uint32_t>(<uint64_t>inode.size >> 32)
            a.rdev_minor = <uint32_t>inode.size
        elif a.type == c'0':
            a.size = inode.size
            a.digest[0], a.digest[1] = inode.digest[0], inode.digest[1]
        if inode.xattr_off:
            memcpy(&n, self.arena + inode.xattr_off, 4)
            a.xattr_len = n
            a.xattrs = self.arena + inode.xattr_off + 4

    # --- writing

    cdef uint16_t begin(self) noexcept nogil:
        cdef uint32_t i
        self.generation += 1
        if self.generation == 0:
            for i in range(self.node_count):
                self.nodes[i].mark = 0
            self.generation = 1
        return self.generation

    cdef int set_attributes(self, int64_t node, const Attributes *a) noexcept nogil:
        cdef int64_t link = 0, xattrs = 0
        cdef uint32_t n, old
        cdef Inode *inode = self.inode_of(node)
        if a.type == c'2':
            link = self.store(a.link, a.link_len)
            if link < 0:
                return OUT_OF_MEMORY
        if a.xattr_len:
            inode = self.inode_of(node)
            old = 0
            if inode.xattr_off:
                memcpy(&old, self.arena + inode.xattr_off, 4)
            if old == a.xattr_len and memcmp(self.arena + inode.xattr_off + 4, a.xattrs, old) == 0:
                xattrs = inode.xattr_off
            else:
                n = <uint32_t>a.xattr_len
                # the number first: should the attributes lie in the arena, storing four bytes may move them, and store() knows only its own data
                xattrs = self.store_attributes(a.xattrs, n)
                if xattrs < 0:
                    return OUT_OF_MEMORY
        inode = self.inode_of(node)
        inode.type_mode = <uint16_t>((a.type - 48) << 12 | (a.mode & 0o7777))
        inode.names = <uint16_t>((inode.names & 0x3FFF) | (a.flags & 3) << 14)
        inode.uid, inode.gid = a.uid, a.gid
        inode.mtime_ns, inode.ctime_ns, inode.ino = a.mtime_ns, a.ctime_ns, a.ino
        inode.xattr_off = <uint32_t>xattrs
        inode.digest[0] = inode.digest[1] = 0
        inode.size = 0
        if a.type == c'0':
            inode.size = a.size
            inode.digest[0], inode.digest[1] = a.digest[0], a.digest[1]
        elif a.type == c'2':
            inode.size = <int64_t>a.link_len
            inode.digest[0] = <uint64_t>link
        elif a.type == c'3' or a.type == c'4':
            inode.size = <int64_t>(<uint64_t>a.rdev_major << 32 | a.rdev_minor)
        self.nodes[node].flags = a.flags & NOT_ON_DISK
        if a.ctime_ns > self.newest_ctime:
            self.newest_ctime = a.ctime_ns
        return 0

    cdef int64_t store_attributes(self, const char *xattrs, uint32_t n) noexcept nogil:
        cdef int64_t offset
        cdef size_t inside = 0
        if self.arena != NULL and xattrs >= self.arena and xattrs < self.arena + self.arena_len:
            inside = <size_t>(xattrs - self.arena)
        offset = self.store(<const char *>&n, 4)
        if offset < 0:
            return OUT_OF_MEMORY
        self.arena_len -= 1  # the attributes follow without a gap
        if inside:
            xattrs = self.arena + inside
        return offset if self.store(xattrs, n) >= 0 else OUT_OF_MEMORY

    cdef int64_t put(self, int64_t parent, const char *name, size_t n, const Attributes *a) noexcept nogil:
        cdef int64_t node = self.find(parent, name, n)
        cdef int64_t inode
        if node >= 0:
            if self.type_of(node) == c'5' and a.type == c'5':
                self.nodes[node].mark = self.generation
                return node if self.set_attributes(node, a) == 0 else OUT_OF_MEMORY
            self.clear(node)
            inode = self.new_inode()
            if inode < 0:
                return OUT_OF_MEMORY
            self.drop_inode(self.nodes[node].inode)
            self.nodes[node].inode = <uint32_t>inode
            self.nodes[node].mark = self.generation
        else:
            inode = self.new_inode()
            if inode < 0:
                return OUT_OF_MEMORY
            node = self.attach(parent, name, n, <uint32_t>inode)
            if node < 0:
                self.drop_inode(<uint32_t>inode)
                return OUT_OF_MEMORY
        return node if self.set_attributes(node, a) == 0 else OUT_OF_MEMORY

    cdef int64_t put_implied(self, int64_t parent, const char *name, size_t n) noexcept nogil:
        cdef int64_t node = self.find(parent, name, n)
        cdef Attributes a
        if node >= 0 and self.type_of(node) == c'5':
            return node
        memset(&a, 0, sizeof(a))
        a.type, a.mode = c'5', 0o755
        return self.put(parent, name, n, &a)

    cdef int64_t place(self, const char *path, size_t n, char *out, size_t *out_len) noexcept nogil:
        cdef size_t slash = n, used, start, i
        cdef int64_t node = ROOT
        while slash and path[slash - 1] != c'/':
            slash -= 1
        if n - slash == 0 or n - slash > 255:
            return TOO_LONG
        node = self.walk(path, slash, True, out, &used)
        if node < MISSING:
            return node
        if node == MISSING or self.type_of(node) != c'5':
            node = ROOT
            start = 0
            for i in range(used + 1):
                if i == used or out[i] == c'/':
                    if i - start > 255:
                        return TOO_LONG
                    node = self.put_implied(node, out + start, i - start)
                    if node < 0:
                        return OUT_OF_MEMORY
                    start = i + 1
        if used + (n - slash) + 2 > PATH_LIMIT:
            return TOO_LONG
        if used:
            out[used] = c'/'
            used += 1
        memcpy(out + used, path + slash, n - slash)
        used += n - slash
        out[used] = 0
        out_len[0] = used
        return node

    cdef int64_t link(self, int64_t parent, const char *name, size_t n, int64_t target) noexcept nogil:
        cdef int64_t node = self.find(parent, name, n)
        cdef uint32_t inode = self.nodes[target].inode
        if node >= 0:
            self.nodes[node].mark = self.generation
            if self.nodes[node].inode == inode:
                return node
            self.clear(node)
            self.drop_inode(self.nodes[node].inode)
            self.nodes[node].inode = inode
        else:
            node = self.attach(parent, name, n, inode)
            if node < 0:
                return OUT_OF_MEMORY
        self.nodes[node].flags = self.nodes[target].flags & NOT_ON_DISK
        if self.inodes[inode].names & 0x3FFF != 0x3FFF:
            self.inodes[inode].names += 1
        return node

    cdef void clear(self, int64_t top) noexcept nogil:
        cdef uint32_t node = self.nodes[top].first_child
        cdef uint32_t parent
        while node:
            while self.nodes[node].first_child:
                node = self.nodes[node].first_child
            parent = self.nodes[node].parent
            self.detach(node)
            node = self.nodes[parent].first_child
            if not node and parent != <uint32_t>top:
                node = parent

    cdef void remove(self, int64_t node) noexcept nogil:
        self.clear(node)
        if node != ROOT:
            self.detach(<uint32_t>node)

    cdef bint has_marked(self, int64_t top) noexcept nogil:
        cdef uint32_t node = <uint32_t>top
        while True:
            if self.nodes[node].mark == self.generation:
                return True
            if self.nodes[node].first_child:
                node = self.nodes[node].first_child
                continue
            while node != <uint32_t>top and not self.nodes[node].next_sibling:
                node = self.nodes[node].parent
            if node == <uint32_t>top:
                return False
            node = self.nodes[node].next_sibling

    cdef bint prune(self, int64_t top, bint keep) noexcept nogil:
        cdef uint32_t child, after
        if not keep and not self.has_marked(top):
            self.remove(top)
            return True
        child = self.nodes[top].first_child
        while child:
            after = self.nodes[child].next_sibling
            self.prune(child, False)
            child = after
        return False

    cdef void set_disk(self, int64_t node, uint64_t ino, int64_t ctime_ns, int64_t mtime_ns) noexcept nogil:
        cdef Inode *inode = self.inode_of(node)
        inode.ino, inode.ctime_ns, inode.mtime_ns = ino, ctime_ns, mtime_ns
        if ctime_ns > self.newest_ctime:
            self.newest_ctime = ctime_ns
