"""See tarstream.pxd. Limits: an extended header 1 MiB, a path 32 KiB, 256 extended attributes an entry."""

import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from pybuild._native.index cimport xattr_wanted
from pybuild._native.tree cimport PATH_LIMIT, Attributes

cdef extern from "tar_header.h" nogil:
    enum: PAX_PATH, PAX_LINK, PAX_SIZE, PAX_UID, PAX_GID, PAX_MTIME, TAR_META_LIMIT
    const int64_t TAR_TIME_LIMIT
    void pax_clear(PaxFields *)
    const char *pax_parse(PaxFields *, const char *, size_t, int)
    const char *pax_string(char **, size_t *, const char *, size_t)
    const char *pax_xattr(PaxFields *, const char *, size_t, const char *, size_t, int)
    int tar_number(const unsigned char *, size_t, int64_t *)
    bint tar_is_zero(const unsigned char *)
    bint tar_checksum_ok(const unsigned char *)
    size_t tar_text(const unsigned char *, size_t)
    size_t tar_clean(const char *, size_t, char *, int *)

cdef extern from *:
    """
    static void memmove_down(char *at, size_t by, size_t n) { memmove(at, at + by, n); }
    """
    void memmove_down(char *, size_t, size_t) nogil

cdef int64_t MAX32 = 4294967295
cdef int64_t MAX_SIZE = 9223372036854774784  # less than 2^63, with room for the padding

cdef enum:
    BLOCK = 512


cdef class TarStream:
    def __cinit__(self, *args, **kwargs):
        self.path = <char *>malloc(PATH_LIMIT)
        self.raw = <char *>malloc(PATH_LIMIT)
        self.name = <char *>malloc(PATH_LIMIT)
        if not (self.path and self.raw and self.name):
            raise MemoryError
        self.path[0] = self.name[0] = 0

    def __dealloc__(self):
        free(self.path)
        free(self.raw)
        free(self.name)
        free(self.meta)
        free(self.long_name)
        free(self.link)
        pax_clear(&self.local)
        pax_clear(&self.world)

    cdef int on_entry(self) noexcept nogil:
        return FINE

    cdef int on_data(self, const unsigned char *p, size_t n) noexcept nogil:
        return FINE

    cdef int end_file(self) noexcept nogil:
        return FINE

    cdef void abandon(self) noexcept nogil:
        pass

    # --- errors

    cdef int malformed(self, const char *message) noexcept nogil:
        self.message = message
        return MALFORMED

    cdef int system(self, int code) noexcept nogil:
        self.code = code
        return SYSTEM

    cdef int raise_error(self, int got) except -1:
        self.state = FAILED
        self.abandon()
        if got == NO_MEMORY:
            raise MemoryError
        if got == SYSTEM:
            raise OSError(self.code, os.strerror(self.code), os.fsdecode(self.path if self.path[0] else self.name))
        at = os.fsdecode(self.name)
        raise ValueError(f"{self.message.decode()}" + (f" (entry {at!r})" if at else ""))

    cdef int check_end(self) noexcept nogil:
        # whether the stream may end here
        if self.state == DATA or self.state == META or self.state == SKIP or self.have:
            return self.malformed(b"tar: the archive ends too early")
        if self.long_name != NULL or self.link != NULL or self.local.have or self.local.xattr_len:
            return self.malformed(b"tar: the archive ends after an extended header")
        return FINE

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
        cdef int64_t size
        cdef uint8_t type = h[156]
        cdef bint ustar = memcmp(h + 257, b"ustar\0", 6) == 0
        cdef size_t n
        cdef int climbs, got
        self.path[0] = 0
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
        if tar_number(h + 124, 12, &size) or size < 0 or size > MAX_SIZE:
            return self.malformed(b"tar: a size that is negative or no number")
        if type == c'x' or type == c'g' or type == c'L' or type == c'K':
            return self.begin_meta(type, size)
        got = self.read_name(h, ustar, &n)
        if got:
            return got
        if type == c'0' and self.raw[n - 1] == c'/':
            type = c'5'
        self.name_len = tar_clean(self.raw, n, self.name, &climbs)
        if climbs and self.strict:
            memcpy(self.name, self.raw, n)
            self.name[n] = 0
            return self.malformed(b"tar: a path that leads out of the archive")
        if type < c'0' or type > c'6':
            return self.malformed(b"tar: a sparse file, which is not supported" if type == c'S' else b"tar: an entry of unknown type")
        memset(&self.attributes, 0, sizeof(Attributes))
        self.attributes.type = type
        if self.local.have & PAX_SIZE:
            size = self.local.size
        if type != c'0':
            # as in other readers: only regular files have data, whatever their size field says
            size = 0
        self.attributes.size = size
        got = self.read_owner_and_time(h)
        if got == FINE:
            got = self.merge_xattrs()
        if got == FINE and (type == c'1' or type == c'2'):
            got = self.read_link(h)
        if got == FINE:
            got = self.on_entry()
        if got:
            return got
        self.forget()
        if type == c'0':
            if size == 0:
                return self.end_file()
            self.padding = <uint32_t>(-size & 511)
            self.left = <uint64_t>size
            self.state = DATA
        return FINE

    cdef int read_name(self, const unsigned char *h, bint ustar, size_t *out_len) noexcept nogil:
        # into self.raw: GNU's long name, that of PAX, or the header's own with the prefix of ustar
        cdef size_t n = 0, k
        cdef const char *name = NULL
        self.name[0] = 0
        if self.long_name != NULL:
            if self.local.have & PAX_PATH:
                return self.malformed(b"tar: two names for one entry")
            name, n = self.long_name, self.long_name_len
        elif self.local.have & PAX_PATH:
            name, n = self.local.path, self.local.path_len
        if name != NULL:
            if n >= PATH_LIMIT:
                return self.malformed(b"tar: a path that is too long")
            memcpy(self.raw, name, n)
        else:
            if ustar and h[345]:
                n = tar_text(h + 345, 131 if memcmp(h + 508, b"tar\0", 4) == 0 else 155)  # the shorter one: star's format
                memcpy(self.raw, h + 345, n)
                self.raw[n] = c'/'
                n += 1
            k = tar_text(h, 100)
            memcpy(self.raw + n, h, k)
            n += k
        out_len[0] = n
        return FINE if n else self.malformed(b"tar: an entry without a name")

    cdef int read_owner_and_time(self, const unsigned char *h) noexcept nogil:
        cdef int64_t mode, uid, gid, mtime, major = 0, minor = 0
        cdef Attributes *a = &self.attributes
        if tar_number(h + 100, 8, &mode) or tar_number(h + 108, 8, &uid) or tar_number(h + 116, 8, &gid) or tar_number(h + 136, 12, &mtime):
            return self.malformed(b"tar: a header field that is no number")
        if (a.type == c'3' or a.type == c'4') and memcmp(h + 257, b"ustar", 5) == 0 \
                and (tar_number(h + 329, 8, &major) or tar_number(h + 337, 8, &minor)):
            return self.malformed(b"tar: a device number that is no number")
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
        if major < 0 or minor < 0 or major > MAX32 or minor > MAX32:
            return self.malformed(b"tar: a device number that is out of range")
        a.mode = <uint32_t>(mode & 0o7777)
        a.uid, a.gid = <uint32_t>uid, <uint32_t>gid
        a.rdev_major, a.rdev_minor = <uint32_t>major, <uint32_t>minor
        if self.local.have & PAX_MTIME:
            a.mtime_ns = self.local.mtime_ns
        elif self.world.have & PAX_MTIME:
            a.mtime_ns = self.world.mtime_ns
        elif -TAR_TIME_LIMIT < mtime < TAR_TIME_LIMIT:
            a.mtime_ns = mtime * 1000000000
        return FINE

    cdef int read_link(self, const unsigned char *h) noexcept nogil:
        if self.link == NULL and not self.local.have & PAX_LINK:
            if pax_string(&self.link, &self.link_len, <const char *>h + 157, tar_text(h + 157, 100)) != NULL:
                return NO_MEMORY
        elif self.link != NULL and self.local.have & PAX_LINK:
            return self.malformed(b"tar: two targets for one link")
        elif self.link == NULL:
            self.link, self.link_len = self.local.link, self.local.link_len
            self.local.link = NULL
        if self.link_len == 0 or self.link_len >= PATH_LIMIT:
            return self.malformed(b"tar: a link without a target, or with one that is too long")
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
        free(self.link)
        self.long_name = self.link = NULL
        self.attributes.xattrs = NULL

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
                error = pax_string(&self.link, &self.link_len, self.meta, n)
        return FINE if error == NULL else self.malformed(error)
