"""See scanner.pxd. Workers read the index and write only the marks of the nodes in their own directory."""

from libc.errno cimport EACCES, ENAMETOOLONG, ENOENT, ENOMEM, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset, strlen
from posix.stat cimport struct_stat
from posix.unistd cimport close, read

from pybuild._native.index cimport Index, xattr_wanted
from pybuild._native.tree cimport (
    MISSING, NOT_ON_DISK, OWNER_ELSEWHERE, PATH_LIMIT, XATTRS_ELSEWHERE,
    DigestState, Inode, Node, digest_final, digest_init, digest_update,
)

cdef extern from "scan_dir.h" nogil:
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_mutex_destroy(pthread_mutex_t *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)
    int pthread_cond_init(pthread_cond_t *, void *)
    int pthread_cond_destroy(pthread_cond_t *)
    int pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *)
    int pthread_cond_broadcast(pthread_cond_t *)
    struct scan_dirent:
        unsigned short d_reclen
        char d_name[1]
    int O_DIRECTORY, AT_SYMLINK_NOFOLLOW, ECANCELED
    int fstatat(int, const char *, struct_stat *, int)
    ssize_t readlinkat(int, const char *, char *, size_t)
    long scan_getdents(int, void *, size_t)
    int64_t disk_mtime(const struct_stat *)
    int64_t disk_ctime(const struct_stat *)
    unsigned int scan_major(uint64_t)
    unsigned int scan_minor(uint64_t)
    uint8_t scan_type(unsigned int)
    int scan_open(int, const char *, size_t, int)
    int64_t scan_xattrs(int, const char *, int (*)(const char *, size_t) noexcept nogil, char **)
    int scan_unlock(int, const char *, size_t, scan_unlocked *)
    void scan_lock_again(int, scan_unlocked *)

cdef enum:
    LISTING = 65536          # bytes of one getdents call
    READING = 262144         # bytes of one read


cdef int wanted(const char *name, size_t n) noexcept nogil:
    return xattr_wanted(name, n)


cdef class Scanner:
    def __cinit__(self, Index index, int rootfd, int worker_count):
        self.index = index
        self.rootfd = rootfd
        self.worker_count = worker_count
        self.workers = <Worker *>malloc(worker_count * sizeof(Worker))
        if self.workers == NULL:
            raise MemoryError
        memset(self.workers, 0, worker_count * sizeof(Worker))
        pthread_mutex_init(&self.lock, NULL)
        pthread_cond_init(&self.wake, NULL)

    def __dealloc__(self):
        cdef int i
        cdef size_t k
        cdef Worker *w
        for k in range(self.depth):
            free(self.stack[k].path)
        free(self.stack)
        free(self.failed_path)
        if self.workers != NULL:
            for i in range(self.worker_count):
                w = &self.workers[i]
                for k in range(w.count):
                    free(w.findings[k].path)
                    free(w.findings[k].link)
                    free(w.findings[k].xattrs)
                for k in range(w.task_count):
                    free(w.tasks[k].path)
                free(w.findings)
                free(w.tasks)
                free(w.listing)
                free(w.reading)
                free(w.path)
                free(w.link)
            free(self.workers)
        self.lock_again()
        pthread_mutex_destroy(&self.lock)
        pthread_cond_destroy(&self.wake)

    # --- the walk

    cdef void fail(self, int code, const char *path) noexcept nogil:
        pthread_mutex_lock(&self.lock)
        if not self.failed:
            self.failed = code
            if path != NULL:
                self.failed_path = <char *>malloc(strlen(path) + 1)
                if self.failed_path != NULL:
                    memcpy(self.failed_path, path, strlen(path) + 1)
        pthread_cond_broadcast(&self.wake)
        pthread_mutex_unlock(&self.lock)

    cdef int push(self, Task *tasks, size_t n) noexcept nogil:
        cdef Task *grown
        cdef size_t capacity
        if self.depth + n > self.capacity:
            capacity = self.capacity * 2 + n + 64
            grown = <Task *>realloc(self.stack, capacity * sizeof(Task))
            if grown == NULL:
                return -1
            self.stack = grown
            self.capacity = capacity
        memcpy(self.stack + self.depth, tasks, n * sizeof(Task))
        self.depth += n
        return 0

    cdef void work(self, int number) noexcept nogil:
        cdef Worker *w = &self.workers[number]
        cdef Task task
        cdef int got = 0
        w.listing = <char *>malloc(LISTING)
        w.reading = <char *>malloc(READING)
        w.path = <char *>malloc(PATH_LIMIT + 512)
        w.link = <char *>malloc(4097)
        if w.listing == NULL or w.reading == NULL or w.path == NULL or w.link == NULL:
            self.fail(ENOMEM, NULL)
            return
        pthread_mutex_lock(&self.lock)
        while True:
            while self.depth == 0 and self.active and not self.failed:
                pthread_cond_wait(&self.wake, &self.lock)
            if self.depth == 0 or self.failed:
                break
            self.depth -= 1
            task = self.stack[self.depth]
            self.active += 1
            pthread_mutex_unlock(&self.lock)
            if self.cancel != NULL and self.cancel[0]:
                self.fail(ECANCELED, NULL)
            else:
                got = self.scan_dir(w, &task)
                if got:
                    self.fail(errno if got == -1 else got, w.path)
            free(task.path)
            pthread_mutex_lock(&self.lock)
            self.active -= 1
            if w.task_count:
                if self.push(w.tasks, w.task_count) == 0:
                    w.task_count = 0
                else:
                    self.failed = ENOMEM
            if self.depth > 1 or self.active == 0 or self.failed:
                pthread_cond_broadcast(&self.wake)
        pthread_cond_broadcast(&self.wake)
        pthread_mutex_unlock(&self.lock)

    cdef bint ignores(self, const char *path, size_t n, bint below) noexcept nogil:
        # whether `path` is at or below an ignored one; with `below`, whether an ignored one lies below it
        cdef const char *text = self.ignore
        cdef size_t k
        while text[0]:
            k = strlen(text)
            if below:
                if k > n and memcmp(text, path, n) == 0 and (n == 0 or text[n] == c'/'):
                    return True
            elif n >= k and memcmp(text, path, k) == 0 and (n == k or path[k] == c'/'):
                return True
            text += k + 1
        return False

    cdef Finding *note(self, Worker *w, const char *path, size_t n, int verdict) noexcept nogil:
        cdef Finding *f
        cdef size_t capacity
        if w.count == w.capacity:
            capacity = w.capacity + w.capacity // 2 + 64
            f = <Finding *>realloc(w.findings, capacity * sizeof(Finding))
            if f == NULL:
                return NULL
            w.findings = f
            w.capacity = capacity
        f = &w.findings[w.count]
        memset(f, 0, sizeof(Finding))
        f.verdict = <uint8_t>verdict
        if path != NULL:
            f.path = <char *>malloc(n + 1)
            if f.path == NULL:
                return NULL
            memcpy(f.path, path, n)
            f.path[n] = 0
            f.length = n
        w.count += 1
        return f

    cdef int scan_dir(self, Worker *w, Task *task) noexcept nogil:
        # 0, or an errno; w.path then tells where
        cdef int fd = scan_open(self.rootfd, task.path, task.length, O_DIRECTORY)
        cdef size_t base = task.length
        cdef size_t n
        cdef long got, at
        cdef scan_dirent *e
        cdef int64_t node
        cdef struct_stat st
        cdef int error = 0
        cdef bint ignoring
        memcpy(w.path, task.path, task.length + 1)
        if fd < 0 and errno == EACCES:
            if self.unlock(task):
                return EACCES
            fd = scan_open(self.rootfd, task.path, task.length, O_DIRECTORY)
        if fd < 0:
            return errno
        ignoring = self.ignore != NULL and self.ignores(task.path, task.length, True)
        if base:
            w.path[base] = c'/'
            base += 1
        while not error:
            got = scan_getdents(fd, w.listing, LISTING)
            if got < 0:
                w.path[task.length] = 0
                error = errno
            if got <= 0:
                break
            at = 0
            while at < got and not error:
                e = <scan_dirent *>(w.listing + at)
                at += e.d_reclen
                if e.d_name[0] == c'.' and (e.d_name[1] == 0 or (e.d_name[1] == c'.' and e.d_name[2] == 0)):
                    continue
                n = strlen(e.d_name)
                if base + n + 1 > PATH_LIMIT:
                    error = ENAMETOOLONG
                    break
                memcpy(w.path + base, e.d_name, n + 1)
                if ignoring and self.ignores(w.path, base + n, False):
                    continue
                if fstatat(fd, e.d_name, &st, AT_SYMLINK_NOFOLLOW):
                    if errno == EACCES:
                        # readable, but not to be searched
                        error = EACCES if self.unlock(task) or fstatat(fd, e.d_name, &st, AT_SYMLINK_NOFOLLOW) else 0
                    else:
                        error = errno if errno != ENOENT else 0
                        continue
                    if error:
                        continue
                node = self.index.find(task.node, e.d_name, n) if task.node >= 0 else MISSING
                error = self.entry(w, fd, base, base + n, node, &st)
        close(fd)
        return error if error or task.node < 0 else self.find_removed(w, task, base, ignoring)

    cdef int unlock(self, Task *task) noexcept nogil:
        pthread_mutex_lock(&self.lock)
        cdef int failed = scan_unlock(self.rootfd, task.path, task.length, &self.unlocked)
        pthread_mutex_unlock(&self.lock)
        return failed

    cdef void lock_again(self) noexcept nogil:
        scan_lock_again(self.rootfd, &self.unlocked)

    cdef int find_removed(self, Worker *w, Task *task, size_t base, bint ignoring) noexcept nogil:
        # what the index has in a directory and the listing had not
        cdef uint32_t child = self.index.nodes[task.node].first_child
        cdef Finding *f
        cdef size_t n
        while child:
            if self.index.nodes[child].mark != self.index.generation and not self.index.nodes[child].flags & NOT_ON_DISK:
                n = self.index.nodes[child].name_len
                memcpy(w.path + base, self.index.name_of(child), n)
                w.path[base + n] = 0
                if not (ignoring and self.ignores(w.path, base + n, False)):
                    f = self.note(w, w.path, base + n, DELETED)
                    if f == NULL:
                        return ENOMEM
                    f.node = child
            child = self.index.nodes[child].next_sibling
        return 0

    cdef int entry(self, Worker *w, int fd, size_t base, size_t end, int64_t node, struct_stat *st) noexcept nogil:
        # one entry; 0 or an errno
        cdef uint8_t type = scan_type(st.st_mode)
        cdef Task *grown
        cdef Task *task
        cdef size_t capacity
        cdef bint known
        cdef Node *marked
        if not type:
            return 0  # a socket; should the index have something else here, it counts as removed
        if node >= 0:
            marked = &self.index.nodes[node]
            marked.mark = self.index.generation
        known = node >= 0 and self.index.type_of(node) == type
        if type == c'5':
            if w.task_count == w.task_cap:
                capacity = w.task_cap * 2 + 32
                grown = <Task *>realloc(w.tasks, capacity * sizeof(Task))
                if grown == NULL:
                    return ENOMEM
                w.tasks = grown
                w.task_cap = capacity
            task = &w.tasks[w.task_count]
            task.path = <char *>malloc(end + 1)
            if task.path == NULL:
                return ENOMEM
            memcpy(task.path, w.path, end + 1)
            task.length = end
            task.node = node if known else MISSING
            w.task_count += 1
        if known:
            return self.compare(w, fd, base, end, node, st, type)
        return self.emit(w, fd, base, end, node, st, type, NULL)

    cdef int hash_file(self, Worker *w, int fd, const char *name, uint64_t *out) noexcept nogil:
        cdef DigestState state
        cdef ssize_t got
        cdef int file = scan_open(fd, name, strlen(name), 0)
        if file < 0:
            return errno
        digest_init(&state)
        while True:
            got = read(file, w.reading, READING)
            if got <= 0:
                break
            digest_update(&state, w.reading, <size_t>got)
            if self.cancel != NULL and self.cancel[0]:
                close(file)
                return ECANCELED
        close(file)
        if got < 0:
            return errno
        digest_final(&state, out)
        return 0

    cdef int compare(self, Worker *w, int fd, size_t base, size_t end, int64_t node, struct_stat *st, uint8_t type) noexcept nogil:
        cdef Inode *inode = self.index.inode_of(node)
        cdef const char *name = w.path + base
        cdef bint changed, moved, same_inode, hashed = False
        cdef uint64_t digest[2]
        cdef int flags = inode.names >> 14
        cdef int error, verdict
        cdef char *xattrs = NULL
        cdef int64_t length
        cdef ssize_t got
        cdef uint32_t n = 0
        cdef Finding *f
        digest[0] = digest[1] = 0
        if self.mode == TIME:
            if disk_mtime(st) != inode.mtime_ns:
                return self.emit(w, fd, base, end, node, st, type, NULL)
            return 0
        same_inode = st.st_ino == inode.ino
        moved = not same_inode or disk_ctime(st) != inode.ctime_ns
        changed = st.st_mode & 0o7777 != inode.type_mode & 0o7777 or disk_mtime(st) != inode.mtime_ns
        if self.owners and not (flags & OWNER_ELSEWHERE and same_inode):
            changed |= st.st_uid != inode.uid or st.st_gid != inode.gid
        if type == c'0':
            changed |= st.st_size != inode.size
        elif type == c'3' or type == c'4':
            changed |= (<uint64_t>scan_major(st.st_rdev) << 32 | scan_minor(st.st_rdev)) != <uint64_t>inode.size
        if changed:
            return self.emit(w, fd, base, end, node, st, type, NULL)
        if not moved:
            if self.mode != FULL or type != c'0' or inode.digest[1] == 0 or (self.trusted and inode.ctime_ns < self.racy):
                return 0
        elif not (flags & XATTRS_ELSEWHERE and same_inode):
            length = scan_xattrs(fd, name, wanted, &xattrs)
            if length < 0:
                return errno
            if inode.xattr_off:
                memcpy(&n, self.index.arena + inode.xattr_off, 4)
            changed = length != n or (n and memcmp(xattrs, self.index.arena + inode.xattr_off + 4, n))
            free(xattrs)
        if not changed and moved and type == c'2':
            got = readlinkat(fd, name, w.link, 4097)
            if got < 0:
                return errno
            changed = got != inode.size or memcmp(w.link, self.index.arena + inode.digest[0], <size_t>got) != 0
        if not changed and type == c'0' and (inode.ino or self.mode == FULL):
            if inode.digest[1] == 0:
                changed = True  # nothing to compare the contents with
            else:
                error = self.hash_file(w, fd, name, digest)
                if error:
                    return error
                hashed = True
                changed = digest[0] != inode.digest[0] or digest[1] != inode.digest[1]
        if changed:
            return self.emit(w, fd, base, end, node, st, type, digest if hashed else NULL)
        if not moved:
            return 0
        verdict = UPDATE
        if type == c'0' and not same_inode and inode.ino and inode.names & 0x3FFF > 1:
            verdict = SPLIT  # one of several names now has a file of its own, unless all moved together
            return self.emit(w, fd, base, end, node, st, type, digest, SPLIT)
        f = self.note(w, NULL, 0, verdict)
        if f == NULL:
            return ENOMEM
        f.node = node
        f.ino, f.ctime_ns, f.mtime_ns = st.st_ino, disk_ctime(st), disk_mtime(st)
        return 0

    cdef int emit(self, Worker *w, int fd, size_t base, size_t end, int64_t node, struct_stat *st, uint8_t type, uint64_t *digest,
                  int verdict=EMIT) noexcept nogil:
        cdef const char *name = w.path + base
        cdef Finding *f = self.note(w, w.path, end, verdict)
        cdef Inode *inode = NULL
        cdef int64_t got
        cdef uint32_t n
        if f == NULL:
            return ENOMEM
        f.node = node
        f.type, f.mode, f.uid, f.gid = type, st.st_mode & 0o7777, st.st_uid, st.st_gid
        f.mtime_ns, f.ctime_ns, f.ino, f.dev, f.rdev = disk_mtime(st), disk_ctime(st), st.st_ino, st.st_dev, st.st_rdev
        f.nlink = <uint32_t>st.st_nlink
        if type == c'0':
            f.size = st.st_size
        if node >= 0 and self.index.type_of(node) == type:
            inode = self.index.inode_of(node)
        if not self.owners:
            f.uid, f.gid = (inode.uid, inode.gid) if inode != NULL else (<uint32_t>0, <uint32_t>0)
            f.flags |= OWNER_ELSEWHERE
        elif inode != NULL and inode.ino == st.st_ino and (inode.names >> 14) & OWNER_ELSEWHERE:
            f.uid, f.gid = inode.uid, inode.gid
            f.flags |= OWNER_ELSEWHERE
        if inode != NULL and inode.ino == st.st_ino and (inode.names >> 14) & XATTRS_ELSEWHERE:
            f.flags |= XATTRS_ELSEWHERE
            if inode.xattr_off:
                memcpy(&n, self.index.arena + inode.xattr_off, 4)
                f.xattrs = <char *>malloc(n)
                if f.xattrs == NULL:
                    return ENOMEM
                memcpy(f.xattrs, self.index.arena + inode.xattr_off + 4, n)
                f.xattr_len = n
        else:
            got = scan_xattrs(fd, name, wanted, &f.xattrs)
            if got < 0:
                return errno
            f.xattr_len = <size_t>got
        if type == c'2':
            got = readlinkat(fd, name, w.link, 4097)
            if got < 0:
                return errno
            f.link = <char *>malloc(<size_t>got + 1)
            if f.link == NULL:
                return ENOMEM
            memcpy(f.link, w.link, <size_t>got)
            f.link_len = <size_t>got
        elif type == c'0':
            if digest != NULL:
                f.digest[0], f.digest[1] = digest[0], digest[1]
            elif self.mode == FULL:
                return self.hash_file(w, fd, name, f.digest)
        return 0

    def run(self, int number):
        with nogil:
            self.work(number)
