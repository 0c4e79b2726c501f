/* Work on a tree below a directory descriptor that cannot leave it: no symlink is followed, no mount crossed. */
#ifndef PYBUILD_DISK_OPS_H
#define PYBUILD_DISK_OPS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#define DISK_NO_XDEV 0x01
#define DISK_NO_MAGICLINKS 0x02
#define DISK_NO_SYMLINKS 0x04
#define DISK_BENEATH 0x08
#define DISK_FLAT 100 /* depth from which remove_tree brings directories up instead of going down */

struct disk_how {
    uint64_t flags, mode, resolve;
};

static inline int64_t disk_ns(struct timespec t) { return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec; }

static inline int64_t disk_mtime(const struct stat *s) { return disk_ns(s->st_mtim); }
static inline int64_t disk_ctime(const struct stat *s) { return disk_ns(s->st_ctim); }
static inline void disk_errno(int error) { errno = error; }

/* The process's umask, without changing it for a moment as umask() would. */
static inline unsigned disk_umask(void) {
    unsigned mask = 077;
    char line[256];
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Umask: %o", &mask) == 1) break;
    if (f) fclose(f);
    return mask;
}

static inline struct timespec disk_timespec(int64_t ns) {
    struct timespec t;
    t.tv_sec = ns / 1000000000;
    t.tv_nsec = ns % 1000000000;
    if (t.tv_nsec < 0) {
        t.tv_nsec += 1000000000;
        t.tv_sec--;
    }
    return t;
}

static int disk_has_openat2 = 1;

/* Open a path of n bytes below dirfd of which no component may be a symlink or "..". "" is dirfd itself. With openat2 where the kernel has it
 * (Linux 5.6, and no seccomp filter against it), component by component otherwise and for paths longer than PATH_MAX. */
static int disk_open(int dirfd, const char *path, size_t n, int flags) {
    flags |= O_NOFOLLOW | O_CLOEXEC;
    if (!n) return openat(dirfd, ".", flags);
    if (disk_has_openat2 && n < PATH_MAX) {
        struct disk_how how = {(uint64_t)flags, 0, DISK_BENEATH | DISK_NO_SYMLINKS | DISK_NO_MAGICLINKS};
        char whole[PATH_MAX];
        memcpy(whole, path, n);
        whole[n] = 0;
        int fd = (int)syscall(SYS_openat2, dirfd, whole, &how, sizeof how);
        if (fd >= 0 || (errno != ENOSYS && errno != EPERM && errno != EAGAIN)) return fd;
        if (errno == ENOSYS || errno == EPERM) disk_has_openat2 = 0;
    }
    char name[256];
    int at = dirfd;
    size_t i = 0;
    while (i <= n) {
        size_t end = i;
        while (end < n && path[end] != '/') end++;
        size_t len = end - i;
        int fd;
        if (len == 0 || len > 255 || (len == 1 && path[i] == '.') || (len == 2 && path[i] == '.' && path[i + 1] == '.')) {
            errno = len > 255 ? ENAMETOOLONG : EINVAL;
            fd = -1;
        } else {
            memcpy(name, path + i, len);
            name[len] = 0;
            fd = openat(at, name, end == n ? flags : O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        }
        if (at != dirfd) {
            int error = errno;
            close(at);
            errno = error;
        }
        if (fd < 0) return -1;
        at = fd;
        i = end + 1;
    }
    return at;
}

/* Open a directory entry for reading, unless something is mounted there (EXDEV). */
static int disk_enter(int parent, const char *name, const struct stat *above) {
    if (disk_has_openat2) {
        struct disk_how how = {O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0, DISK_BENEATH | DISK_NO_SYMLINKS | DISK_NO_XDEV};
        int fd = (int)syscall(SYS_openat2, parent, name, &how, sizeof how);
        if (fd >= 0 || (errno != ENOSYS && errno != EPERM && errno != EAGAIN)) return fd;
    }
    struct stat st;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && !fstat(fd, &st) && st.st_dev != above->st_dev) {
        close(fd);
        errno = EXDEV;
        return -1;
    }
    return fd;
}

static int disk_empty(int fd, int topfd, int depth, unsigned long *number);

/* Remove a directory entry with all below it. 0, or -1 with errno (EBUSY: something is mounted there). */
static int disk_remove_at(int parent, const char *name, int topfd, int depth, unsigned long *number) {
    struct stat st;
    if (!unlinkat(parent, name, 0)) return 0;
    if (errno != EISDIR && errno != EPERM) return -1;
    if (!unlinkat(parent, name, AT_REMOVEDIR)) return 0;
    if (errno != ENOTEMPTY && errno != EEXIST) return -1;
    if (depth >= DISK_FLAT) {
        /* too deep for one descriptor a level: bring it up, where it is found later */
        char flat[48];
        for (int tries = 0; tries < 1000; tries++) {
            snprintf(flat, sizeof flat, ".removed-%lu", ++*number);
            if (!renameat(parent, name, topfd, flat)) return 0;
            if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR) break;
        }
        return -1;
    }
    if (fstat(parent, &st)) return -1;
    int fd = disk_enter(parent, name, &st);
    if (fd < 0 && errno == EACCES && !fchmodat(parent, name, 0700, 0)) fd = disk_enter(parent, name, &st);
    if (fd < 0) {
        if (errno == EXDEV) errno = EBUSY;
        return -1;
    }
    if (disk_empty(fd, topfd < 0 ? fd : topfd, depth, number)) return -1;
    return unlinkat(parent, name, AT_REMOVEDIR);
}

/* Remove what is in a directory; takes the descriptor. */
static int disk_empty(int fd, int topfd, int depth, unsigned long *number) {
    int again = 1, failed = 0;
    struct stat st;
    if (!fstat(fd, &st) && (st.st_mode & 0700) != 0700) fchmod(fd, (st.st_mode & 07777) | 0700);
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return -1;
    }
    while (again && !failed) {
        struct dirent *e;
        unsigned long before = *number;
        while (!failed && (errno = 0, e = readdir(dir))) {
            if (e->d_name[0] == '.' && (!e->d_name[1] || (e->d_name[1] == '.' && !e->d_name[2]))) continue;
            failed = disk_remove_at(fd, e->d_name, topfd, depth + 1, number);
        }
        if (!failed && errno) failed = -1;
        again = fd == topfd && *number != before; /* directories came up meanwhile */
        if (again) rewinddir(dir);
    }
    int error = errno;
    closedir(dir);
    errno = error;
    return failed;
}

static inline int disk_remove(int parent, const char *name) {
    unsigned long number = 0;
    return disk_remove_at(parent, name, -1, 0, &number);
}

/* Whether failing to set an attribute may be passed over: without privileges all, else those that no program's rights depend on. */
static inline int disk_may_miss(const char *name, int privileged) {
    if (errno != EPERM && errno != ENOTSUP && errno != EACCES && errno != EOPNOTSUPP) return 0;
    return !privileged || !strncmp(name, "user.", 5) || !strncmp(name, "trusted.", 8);
}

/* Set packed attributes on a descriptor, or on a path when fd is negative (not followed). With `prune`, those that are not among them and for
 * which `wanted` is true are removed. 0, 1 when some could not be set, -1 with errno. */
static int disk_set_xattrs(int fd, const char *path, const char *packed, size_t n, int privileged, int prune) {
    int missed = 0;
    size_t at = 0;
    char name[256];
    if (prune && fd >= 0) {
        char names[65536];
        ssize_t got = flistxattr(fd, names, sizeof names);
        for (ssize_t i = 0; i < got; i += (ssize_t)strlen(names + i) + 1) {
            int keep = !strncmp(names + i, "security.", 9) && strcmp(names + i, "security.capability");
            keep |= !strncmp(names + i, "trusted.overlay.", 16) || !strncmp(names + i, "user.overlay.", 13);
            for (at = 0; at < n && !keep;) {
                uint16_t l;
                uint32_t v;
                memcpy(&l, packed + at, 2);
                memcpy(&v, packed + at + 2 + l, 4);
                keep = strlen(names + i) == l && !memcmp(names + i, packed + at + 2, l);
                at += 6u + l + v;
            }
            if (!keep) fremovexattr(fd, names + i);
        }
        at = 0;
    }
    while (at < n) {
        uint16_t l;
        uint32_t v;
        memcpy(&l, packed + at, 2);
        memcpy(&v, packed + at + 2 + l, 4);
        if (l < sizeof name) {
            memcpy(name, packed + at + 2, l);
            name[l] = 0;
            const char *value = packed + at + 6 + l;
            if (fd >= 0 ? fsetxattr(fd, name, value, v, 0) : lsetxattr(path, name, value, v, 0)) {
                if (!disk_may_miss(name, privileged)) return -1;
                missed = 1;
            }
        }
        at += 6u + l + v;
    }
    return missed;
}

#endif
