"""See tar.pyi."""
import errno as errno_module
import os

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset, strlen

from pybuild._native.cancel cimport Cancel
from pybuild._native.entries cimport NO_ROOT, Entry, EntryList

cdef extern from "sys/stat.h" nogil:
    struct stat_t "stat":
        int64_t st_size
        unsigned int st_mode
    int fstat(int fd, stat_t *st)

cdef extern from "fcntl.h" nogil:
    int fcntl(int fd, int cmd, ...)
    int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)
    int O_RDONLY, O_NONBLOCK, O_NOATIME, F_SETFL
    int POSIX_FADV_SEQUENTIAL

cdef extern from "disk_ops.h" nogil:
    int disk_open(int dirfd, const char *path, size_t n, int flags)

cdef extern from "unistd.h" nogil:
    int close(int fd)
    ssize_t read(int fd, void *buf, size_t n)

cdef extern from "errno.h" nogil:
    int c_errno "errno"
    int EINTR, ENOMEM, ECANCELED, EIO

cdef enum:
    BLOCK = 512
    SHRANK = -1
    NO_FILE = -2


cdef bint octal(char *out, int width, uint64_t value) noexcept nogil:
    # width - 1 digits and a NUL; false when it does not fit
    cdef int i
    if width < 22 and value >> (3 * (width - 1)):
        return False
    for i in range(width - 2, -1, -1):
        out[i] = <char>(48 + (value & 7))
        value >>= 3
    out[width - 1] = 0
    return True


cdef class TarWriter:
    cdef EntryList entries
    cdef int *cancel
    cdef object keep
    cdef size_t at             # the entry being written
    cdef char *head            # headers that are ready to go out
    cdef size_t head_len
    cdef size_t head_cap
    cdef size_t head_at
    cdef int fd
    cdef const char *inline_data
    cdef int64_t left          # bytes of the current file
    cdef int pad
    cdef int state             # 0 next entry, 1 header, 2 data, 3 padding, 4 trailer, 5 end
    cdef int error
    cdef bint keep_atime
    cdef int64_t clamp
    cdef readonly uint64_t files
    cdef readonly uint64_t bytes_read

    def __cinit__(self, EntryList entries not None, *, long long clamp_mtime_ns=-1, Cancel cancel=None):
        self.entries = entries
        self.keep = cancel
        self.cancel = cancel.pointer() if cancel is not None else NULL
        self.clamp = clamp_mtime_ns
        self.fd = -1
        self.keep_atime = True
        self.head_cap = 8192
        self.head = <char *>malloc(self.head_cap)
        if self.head == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)
        free(self.head)

    cdef char *room(self, size_t n) noexcept nogil:
        cdef char *grown
        if self.head_len + n > self.head_cap:
            grown = <char *>realloc(self.head, (self.head_len + n) * 2)
            if grown == NULL:
                return NULL
            self.head = grown
            self.head_cap = (self.head_len + n) * 2
        self.head_len += n
        return self.head + self.head_len - n

    cdef int put_block(self, const char *name, size_t name_len, const char *prefix, size_t prefix_len, char type, Entry *e,
                       uint64_t size, int64_t mtime, const char *link, size_t link_len) noexcept nogil:
        cdef char *b = self.room(BLOCK)
        cdef uint32_t total = 0
        cdef int i
        if b == NULL:
            return -1
        memset(b, 0, BLOCK)
        memcpy(b, name, name_len)
        octal(b + 100, 8, e.mode if e != NULL else 0o644)
        octal(b + 108, 8, e.uid if e != NULL and e.uid < 0o10000000 else 0)
        octal(b + 116, 8, e.gid if e != NULL and e.gid < 0o10000000 else 0)
        octal(b + 124, 12, size if size < 8589934592LL else 0)
        octal(b + 136, 12, <uint64_t>mtime if 0 <= mtime < 8589934592LL else 0)
        memset(b + 148, c' ', 8)
        b[156] = type
        memcpy(b + 157, link, link_len)
        memcpy(b + 257, <const char *>b"ustar\x0000", 8)
        if e != NULL and (type == c'3' or type == c'4'):
            octal(b + 329, 8, e.rdev_major)
            octal(b + 337, 8, e.rdev_minor)
        memcpy(b + 345, prefix, prefix_len)
        for i in range(BLOCK):
            total += <uint8_t>b[i]
        octal(b + 148, 7, total)
        b[155] = c' '
        return 0

    cdef int record(self, const char *key, size_t key_len, const char *value, size_t n) noexcept nogil:
        # one PAX record: its own length in decimal, a blank, key=value, a newline
        cdef size_t body = key_len + n + 3
        cdef size_t digits = 1, total
        cdef char number[24]
        cdef char *out
        while True:
            total = body + digits
            snprintf(number, 24, "%zu", total)
            if strlen(number) == digits:
                break
            digits = strlen(number)
        out = self.room(total)
        if out == NULL:
            return -1
        memcpy(out, number, digits)
        out[digits] = c' '
        memcpy(out + digits + 1, key, key_len)
        out[digits + 1 + key_len] = c'='
        memcpy(out + digits + 2 + key_len, value, n)
        out[total - 1] = c'\n'
        return 0

    cdef int number_record(self, const char *key, uint64_t value) noexcept nogil:
        cdef char text[32]
        snprintf(text, 32, "%llu", <unsigned long long>value)
        return self.record(key, strlen(key), text, strlen(text))

    cdef int time_record(self, int64_t ns) noexcept nogil:
        cdef char text[48]
        cdef int64_t seconds = ns // 1000000000
        cdef int64_t rest = ns - seconds * 1000000000
        cdef size_t n
        cdef bint negative = False
        if rest < 0:
            seconds -= 1
            rest += 1000000000
        if seconds < 0 and rest:
            negative = True
            seconds += 1
            rest = 1000000000 - rest
        if rest:
            snprintf(text, 48, "%s%lld.%09lld", b"-" if negative and seconds == 0 else b"", <long long>seconds, <long long>rest)
            n = strlen(text)
            while text[n - 1] == c'0':
                n -= 1
        else:
            snprintf(text, 48, "%lld", <long long>seconds)
            n = strlen(text)
        return self.record(b"mtime", 5, text, n)

    cdef int header(self, Entry *e, int64_t size) noexcept nogil:
        cdef const char *path = self.entries.arena + e.path_off
        cdef const char *link = self.entries.arena + e.link_off
        cdef const char *packed
        cdef char name[40000]
        cdef size_t n = 0, i, cut = 0, link_len = 0, start, value_len, name_len
        cdef char type = <char>e.type
        cdef int64_t mtime = e.mtime_ns
        cdef bint long_path = False, long_link = False
        cdef char key[300]
        if e.path_len + 32 > 40000:
            return -2
        if self.clamp >= 0 and mtime > self.clamp:
            mtime = self.clamp
        if e.type == c'W':
            start = e.path_len
            while start and path[start - 1] != c'/':
                start -= 1
            memcpy(name, path, start)
            memcpy(name + start, <const char *>b".wh.", 4)
            memcpy(name + start + 4, path + start, e.path_len - start)
            n = e.path_len + 4
            type = c'0'
        elif e.type == c'O':
            memcpy(name, path, e.path_len)
            n = e.path_len
            if n:
                name[n] = c'/'
                n += 1
            memcpy(name + n, <const char *>b".wh..wh..opq", 12)
            n += 12
            type = c'0'
        else:
            memcpy(name, path, e.path_len)
            n = e.path_len
            if e.type == c'5':
                if n == 0:
                    name[0] = c'.'
                    n = 1
                name[n] = c'/'
                n += 1
        if e.type == c'1' or e.type == c'2':
            link_len = e.link_len
        # where a name of up to 256 bytes can be cut
        if n > 100:
            cut = 0
            for i in range(n - 1):
                if name[i] == c'/' and i <= 155 and n - i - 1 <= 100 and i:
                    cut = i
                    break
            long_path = cut == 0
        long_link = link_len > 100
        start = self.head_len
        cdef bint pax = (long_path or long_link or e.uid >= 0o10000000 or e.gid >= 0o10000000 or size >= 8589934592LL or e.xattr_len
                         or mtime % 1000000000 or mtime < 0 or mtime // 1000000000 >= 8589934592LL)
        cdef size_t block_at
        cdef uint64_t length
        cdef char *b
        cdef Entry blank
        if pax:
            block_at = self.head_len
            if self.room(BLOCK) == NULL:
                return -1
            if e.gid >= 0o10000000 and self.number_record(b"gid", e.gid) < 0:
                return -1
            if long_link and self.record(b"linkpath", 8, link, link_len) < 0:
                return -1
            if (mtime % 1000000000 or mtime < 0 or mtime // 1000000000 >= 8589934592LL) and self.time_record(mtime) < 0:
                return -1
            if long_path and self.record(b"path", 4, name, n) < 0:
                return -1
            if size >= 8589934592LL and self.number_record(b"size", size) < 0:
                return -1
            if e.uid >= 0o10000000 and self.number_record(b"uid", e.uid) < 0:
                return -1
            packed = self.entries.arena + e.xattr_off
            i = 0
            while i < e.xattr_len:
                name_len = <uint8_t>packed[i] | (<size_t><uint8_t>packed[i + 1] << 8)
                if name_len > 255:
                    return -2
                memcpy(key, <const char *>b"SCHILY.xattr.", 13)
                memcpy(key + 13, packed + i + 2, name_len)
                i += 2 + name_len
                value_len = (<size_t><uint8_t>packed[i] | (<size_t><uint8_t>packed[i + 1] << 8) | (<size_t><uint8_t>packed[i + 2] << 16)
                             | (<size_t><uint8_t>packed[i + 3] << 24))
                if self.record(key, 13 + name_len, packed + i + 4, value_len) < 0:
                    return -1
                i += 4 + value_len
            length = self.head_len - block_at - BLOCK
            i = (BLOCK - length % BLOCK) % BLOCK
            b = self.room(i)
            if b == NULL:
                return -1
            memset(b, 0, i)
            # the record's own header goes in front
            cut = cut
            i = self.head_len
            self.head_len = block_at
            if self.put_block(b"PaxHeaders/entry", 16, b"", 0, c'x', NULL, length, 0, b"", 0) < 0:
                return -1
            self.head_len = i
        if long_path:
            return self.put_block(name, 100, b"", 0, type, e, size, mtime // 1000000000, link, 100 if long_link else link_len)
        if cut:
            return self.put_block(name + cut + 1, n - cut - 1, name, cut, type, e, size, mtime // 1000000000, link, 100 if long_link else link_len)
        return self.put_block(name, n, b"", 0, type, e, size, mtime // 1000000000, link, 100 if long_link else link_len)

    cdef int begin(self, Entry *e) noexcept nogil:
        # headers of one entry, and its file opened; 0, or errno (of memory: ENOMEM)
        cdef stat_t st
        cdef int code
        self.left = 0
        self.inline_data = NULL
        if e.type == c'0':
            if e.root == NO_ROOT:
                self.inline_data = self.entries.arena + e.source_off
                self.left = e.size
            else:
                # no link anywhere on the way: what was collected is read, or nothing
                self.fd = disk_open(self.entries.roots[e.root], self.entries.arena + e.source_off, e.source_len, O_RDONLY | O_NONBLOCK)
                if self.fd < 0 or fstat(self.fd, &st) != 0:
                    return c_errno
                if st.st_mode & 0o170000 != 0o100000:
                    return NO_FILE
                if self.keep_atime and fcntl(self.fd, F_SETFL, O_NOATIME) != 0:
                    # only a file's owner may
                    self.keep_atime = False
                self.left = st.st_size
                if self.left > (8 << 20):
                    posix_fadvise(self.fd, 0, 0, POSIX_FADV_SEQUENTIAL)
            self.files += 1
        self.pad = <int>((BLOCK - self.left % BLOCK) % BLOCK)
        self.head_len = self.head_at = 0
        code = self.header(e, self.left)
        return 0 if code == 0 else ENOMEM if code == -1 else EIO

    cdef int64_t fill(self, char *out, size_t size) noexcept nogil:
        # the next bytes of the stream; -1 with self.error set
        cdef size_t done = 0, n
        cdef ssize_t got
        while done < size:
            if self.cancel != NULL and self.cancel[0]:
                self.error = ECANCELED
                return -1
            if self.state == 0:
                if self.at == self.entries.count:
                    self.state = 4
                    self.pad = 2 * BLOCK
                    continue
                self.error = self.begin(&self.entries.entries[self.at])
                if self.error:
                    return -1
                self.state = 1
            if self.state == 1:
                n = self.head_len - self.head_at
                if n > size - done:
                    n = size - done
                memcpy(out + done, self.head + self.head_at, n)
                done += n
                self.head_at += n
                if self.head_at == self.head_len:
                    self.state = 2
                continue
            if self.state == 2:
                n = size - done
                if <int64_t>n > self.left:
                    n = <size_t>self.left
                if n == 0:
                    if self.fd >= 0:
                        close(self.fd)
                        self.fd = -1
                    self.state = 3
                    continue
                if self.fd < 0:
                    memcpy(out + done, self.inline_data, n)
                    self.inline_data += n
                    got = n
                else:
                    got = read(self.fd, out + done, n)
                    if got < 0 and c_errno == EINTR:
                        continue
                    if got <= 0:
                        self.error = c_errno if got < 0 else SHRANK
                        return -1
                done += got
                self.left -= got
                self.bytes_read += got
                continue
            if self.state == 3 or self.state == 4:
                n = self.pad
                if n > size - done:
                    n = size - done
                memset(out + done, 0, n)
                done += n
                self.pad -= <int>n
                if self.pad == 0:
                    if self.state == 4:
                        self.state = 5
                    else:
                        self.at += 1
                        self.state = 0
                continue
            break
        return <int64_t>done

    def read_into(self, buffer):
        cdef char[::1] view = memoryview(buffer).cast("c")
        cdef int64_t n
        cdef size_t size = view.shape[0]
        if size == 0:
            raise ValueError("an empty buffer")
        with nogil:
            n = self.fill(&view[0], size)
        if n >= 0:
            return n
        path = os.fsdecode(self.entries.arena[self.entries.entries[self.at].path_off:
                                              self.entries.entries[self.at].path_off + self.entries.entries[self.at].path_len]) \
            if self.at < self.entries.count else ""
        if self.error == ENOMEM:
            raise MemoryError
        if self.error == SHRANK:
            raise OSError(errno_module.EIO, "the file became shorter while it was read", path)
        if self.error == NO_FILE:
            raise OSError(errno_module.EIO, "it is no regular file any more", path)
        raise OSError(self.error, os.strerror(self.error), path)
