/* Paths and mounts of a child before it enters its root. Included by spawn_impl.c alone. */
#ifndef PYBUILD_SPAWN_MOUNTS_H
#define PYBUILD_SPAWN_MOUNTS_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "spawn_impl.h"

#define PATHS 4096
#define MAX_LINKS 40

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

enum { MAKE_NONE = 0, MAKE_DIR = 1, MAKE_FILE = 2 };

/* "/proc/self/fd/N" without stdio */
static const char *fd_path(char *buffer, int fd) {
    char digits[12];
    int n = 0;
    static const char prefix[] = "/proc/self/fd/";
    memcpy(buffer, prefix, sizeof prefix - 1);
    do {
        digits[n++] = (char)('0' + fd % 10);
        fd /= 10;
    } while (fd);
    char *p = buffer + sizeof prefix - 1;
    while (n) *p++ = digits[--n];
    *p = 0;
    return buffer;
}

/* dst + a + b with a bound; 0 or ENAMETOOLONG */
static int join(char *dst, size_t size, const char *a, const char *b) {
    size_t na = strlen(a), nb = strlen(b);
    if (na + nb + 1 > size) return ENAMETOOLONG;
    memmove(dst, a, na);
    memcpy(dst + na, b, nb + 1);
    return 0;
}

static void set_mtime(int fd, const struct timespec *mtime) {
    char link[64];
    struct timespec times[2];
    times[0].tv_sec = 0;
    times[0].tv_nsec = UTIME_OMIT;
    times[1] = *mtime;
    utimensat(AT_FDCWD, fd_path(link, fd), times, 0);
}

static void record_made(struct sp_shared *shared, const char *path, const struct stat *st) {
    if (!shared) return;
    size_t n = strlen(path) + 1;
    uint32_t size = (uint32_t)((sizeof(struct sp_made) + n + 7) & ~(size_t)7);
    if (shared->used + size > SP_RECORDS) return;
    struct sp_made *made = (struct sp_made *)(shared->records + shared->used);
    made->dev = st->st_dev;
    made->ino = st->st_ino;
    made->size = size;
    made->directory = S_ISDIR(st->st_mode);
    memcpy(made + 1, path, n);
    shared->used += size;
}

/* Open (O_PATH) a path below rootfd, symbolic links followed as if rootfd were "/", ".." clamped. With `make`, missing
 * directories are made (0755) and the last component too, as a directory or an empty file; what was made is recorded in `shared`.
 * Links are read as text, so the magic links of /proc lead nowhere outside. -1 with errno. `resolved`: PATHS bytes or NULL. */
static int open_in_root(int rootfd, const char *path, int make, struct sp_shared *shared, char *resolved) {
    char rest[2 * PATHS], at[PATHS], link[PATHS];
    size_t at_len = 0;
    int links = 0;
    if (strlen(path) >= PATHS) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(rest, path);
    at[0] = 0;
    int fd = openat(rootfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    char *next = rest;
    while (fd >= 0) {
        while (*next == '/') next++;
        if (!*next) break;
        char *end = next;
        while (*end && *end != '/') end++;
        char *after = end;
        while (*after == '/') after++;
        int last = !*after;
        char saved = *end;
        *end = 0;
        if (!strcmp(next, ".")) {
            *end = saved;
            next = end;
            continue;
        }
        if (!strcmp(next, "..")) {
            while (at_len && at[at_len - 1] != '/') at_len--;
            if (at_len) at_len--;
            at[at_len] = 0;
            close(fd);
            fd = openat(rootfd, at_len ? at : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
            *end = saved;
            next = end;
            continue;
        }
        size_t n = strlen(next);
        if (at_len + n + 2 > PATHS) {
            errno = ENAMETOOLONG;
            goto fail;
        }
        int child = openat(fd, next, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (child < 0 && errno == ENOENT && make) {
            struct stat before, st;
            if (fstat(fd, &before)) goto fail;
            if (last && make == MAKE_FILE) {
                int made = openat(fd, next, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0644);
                if (made < 0) goto fail;
                close(made);
            } else if (mkdirat(fd, next, 0755)) {
                goto fail;
            }
            child = openat(fd, next, O_PATH | O_NOFOLLOW | O_CLOEXEC);
            if (shared) set_mtime(fd, &before.st_mtim); /* it goes away again: its parent shall not show it */
            if (child >= 0 && !fstat(child, &st)) {
                char whole[PATHS];
                memcpy(whole, at, at_len);
                size_t k = at_len;
                if (k) whole[k++] = '/';
                memcpy(whole + k, next, n + 1);
                record_made(shared, whole, &st);
            }
        }
        if (child < 0) goto fail;
        struct stat st;
        if (fstat(child, &st)) {
            close(child);
            goto fail;
        }
        if (S_ISLNK(st.st_mode)) {
            ssize_t got = readlinkat(child, "", link, sizeof link - 1);
            close(child);
            if (got < 0) goto fail;
            if (++links > MAX_LINKS) {
                errno = ELOOP;
                goto fail;
            }
            *end = saved;
            size_t remaining = strlen(end);
            if ((size_t)got + remaining + 2 > sizeof rest) {
                errno = ENAMETOOLONG;
                goto fail;
            }
            memmove(rest + got, end, remaining + 1);
            memcpy(rest, link, (size_t)got);
            next = rest;
            if (got && link[0] == '/') {
                close(fd);
                at_len = 0;
                at[0] = 0;
                fd = openat(rootfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
            }
            continue;
        }
        close(fd);
        fd = child;
        if (at_len) at[at_len++] = '/';
        memcpy(at + at_len, next, n + 1);
        at_len += n;
        if (!last && !S_ISDIR(st.st_mode)) {
            errno = ENOTDIR;
            goto fail;
        }
        *end = saved;
        next = end;
    }
    if (fd >= 0 && resolved) strcpy(resolved, at);
    return fd;
fail:;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

struct mount_attributes {
    uint64_t attr_set, attr_clr, propagation, userns_fd;
};

/* Make the mount that begins at `path` read-only, below it too where the kernel can; flags that the outer namespace locked are kept. */
static int make_readonly(const char *path, int recursive) {
    if (recursive) {
        struct mount_attributes attributes = {1 /* MOUNT_ATTR_RDONLY */, 0, 0, 0};
        if (!syscall(SYS_mount_setattr, AT_FDCWD, path, 0x8000 /* AT_RECURSIVE */, &attributes, sizeof attributes)) return 0;
    }
    struct statfs fs;
    unsigned long keep = 0;
    if (!statfs(path, &fs)) {
        /* ST_* and MS_* agree for nosuid, nodev, noexec, noatime, nodiratime; relatime does not */
        keep = (unsigned long)fs.f_flags & (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME);
        if (fs.f_flags & 4096) keep |= MS_RELATIME;
    }
    return mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | keep, NULL);
}

/* Bind what a descriptor names onto what another names. */
static int bind_fd(int source, int target, unsigned long flags) {
    char a[64], b[64];
    return mount(fd_path(a, source), fd_path(b, target), NULL, MS_BIND | flags, NULL);
}

/* Read-only for the mount on top of `target` below rootfd: the descriptor from before the mount still names what is underneath. */
static int readonly_at(int rootfd, const char *target, int recursive) {
    char link[64];
    int fd = open_in_root(rootfd, target, MAKE_NONE, NULL, NULL);
    if (fd < 0) return -1;
    int got = make_readonly(fd_path(link, fd), recursive);
    int error = errno;
    close(fd);
    errno = error;
    return got;
}

/* A directory at the top of the root for /proc, /sys or /dev: made if missing, refused (ENOTDIR) when it is a link or a file. */
static int standard_target(int rootfd, const char *name, struct sp_shared *shared) {
    struct stat st;
    if (!fstatat(rootfd, name, &st, AT_SYMLINK_NOFOLLOW) && !S_ISDIR(st.st_mode)) {
        errno = ENOTDIR;
        return -1;
    }
    return open_in_root(rootfd, name, MAKE_DIR, shared, NULL);
}

static const char *const READ_ONLY[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger", NULL};
static const char *const MASKED[] = {"proc/asound",      "proc/acpi",       "proc/kcore",       "proc/keys", "proc/latency_stats",
                                     "proc/timer_list",  "proc/timer_stats", "proc/sched_debug", "proc/scsi", "proc/interrupts",
                                     "sys/firmware",     "sys/devices/virtual/powercap", NULL};

/* What Docker and BuildKit hide or write-protect below /proc and /sys. Done as well as the place permits. */
static void protect(int rootfd) {
    char link[64];
    int empty = -1;
    int null = open("/dev/null", O_PATH | O_CLOEXEC);
    for (const char *const *name = READ_ONLY; *name; name++) {
        int fd = openat(rootfd, *name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) continue;
        if (!bind_fd(fd, fd, MS_REC)) readonly_at(rootfd, *name, 0);
        close(fd);
    }
    for (const char *const *name = MASKED; *name; name++) {
        struct stat st;
        int fd = openat(rootfd, *name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) continue;
        if (!fstat(fd, &st)) {
            if (!S_ISDIR(st.st_mode)) {
                if (null >= 0) bind_fd(null, fd, 0);
            } else if (empty >= 0) {
                bind_fd(empty, fd, 0);
            } else if (!mount("tmpfs", fd_path(link, fd), "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=0,mode=755")) {
                empty = openat(rootfd, *name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
            }
        }
        close(fd);
    }
    if (empty >= 0) close(empty);
    if (null >= 0) close(null);
}

static int mount_proc(int rootfd, struct sp_shared *shared) {
    char link[64];
    int fd = standard_target(rootfd, "proc", shared);
    if (fd < 0) return -1;
    int got = mount("proc", fd_path(link, fd), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    if (got) /* a pod hides parts of its own /proc, and then a new one is refused: show that one */
        got = mount("/proc", link, NULL, MS_BIND | MS_REC, NULL);
    int error = errno;
    close(fd);
    errno = error;
    return got;
}

static int mount_sys(int rootfd, struct sp_shared *shared) {
    char link[64];
    int fd = standard_target(rootfd, "sys", shared);
    if (fd < 0) return -1;
    int got = mount("sysfs", fd_path(link, fd), "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    if (got) {
        got = mount("/sys", link, NULL, MS_BIND | MS_REC, NULL);
        if (!got) readonly_at(rootfd, "sys", 1);
    } else {
        /* the limits that language runtimes ask for; shown only if they can be shown read-only */
        int groups = openat(rootfd, "sys/fs/cgroup", O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
        if (groups >= 0) {
            if (!mount("/sys/fs/cgroup", fd_path(link, groups), NULL, MS_BIND | MS_REC, NULL)) {
                struct mount_attributes attributes = {1 | 2 | 4 | 8 /* read-only, nosuid, nodev, noexec */, 0, 0, 0};
                int top = openat(rootfd, "sys/fs/cgroup", O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
                if (top >= 0) {
                    fd_path(link, top);
                    if (syscall(SYS_mount_setattr, AT_FDCWD, link, 0x8000, &attributes, sizeof attributes)) umount2(link, MNT_DETACH);
                    close(top);
                }
            }
            close(groups);
        }
    }
    int error = errno;
    close(fd);
    errno = error;
    return got;
}

static const struct {
    const char *name;
    unsigned int major, minor;
} DEVICES[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};

static int mount_dev(int rootfd, struct sp_shared *shared, int user_namespace) {
    char link[64], host[32];
    int fd = standard_target(rootfd, "dev", shared);
    if (fd < 0) return -1;
    if (mount("tmpfs", fd_path(link, fd), "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k")) {
        int got = mount("/dev", link, NULL, MS_BIND | MS_REC, NULL);
        int error = errno;
        close(fd);
        errno = error;
        return got;
    }
    close(fd);
    int dev = openat(rootfd, "dev", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dev < 0) return -1;
    for (size_t i = 0; i < sizeof DEVICES / sizeof *DEVICES; i++) {
        /* in a user namespace mknod is refused, or the node cannot be opened: take the outer one */
        if (!user_namespace && !mknodat(dev, DEVICES[i].name, S_IFCHR | 0666, makedev(DEVICES[i].major, DEVICES[i].minor))) continue;
        int node = openat(dev, DEVICES[i].name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
        if (node < 0) goto fail;
        join(host, sizeof host, "/dev/", DEVICES[i].name);
        int got = mount(host, fd_path(link, node), NULL, MS_BIND, NULL);
        close(node);
        if (got && i < 5) goto fail;
    }
    mkdirat(dev, "pts", 0755);
    mkdirat(dev, "shm", 01777);
    mkdirat(dev, "mqueue", 01777);
    int sub = openat(dev, "pts", O_PATH | O_CLOEXEC);
    fd_path(link, sub);
    if (mount("devpts", link, "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5") &&
        mount("devpts", link, "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")) {
        /* no pseudo-terminals then; nothing else misses them */
    }
    close(sub);
    sub = openat(dev, "shm", O_PATH | O_CLOEXEC);
    mount("shm", fd_path(link, sub), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k");
    close(sub);
    sub = openat(dev, "mqueue", O_PATH | O_CLOEXEC);
    mount("mqueue", fd_path(link, sub), "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    close(sub);
    if (symlinkat("/proc/self/fd", dev, "fd") || symlinkat("/proc/self/fd/0", dev, "stdin") ||
        symlinkat("/proc/self/fd/1", dev, "stdout") || symlinkat("/proc/self/fd/2", dev, "stderr") || symlinkat("pts/ptmx", dev, "ptmx"))
        goto fail;
    symlinkat("/proc/kcore", dev, "core");
    close(dev);
    return 0;
fail:;
    int error = errno;
    close(dev);
    errno = error;
    return -1;
}

/* A writable bind whose writes are thrown away: an overlay over the source. First with `scratch` (a descriptor of a directory that holds
 * "upper" and "work"), then with the staging tmpfs. -1 when no overlay is permitted. */
static int mount_overlay(int source, int target, int scratch, int stagefd, int number) {
    char options[256], a[64], b[64], link[64];
    struct stat st;
    if (fstat(source, &st)) return -1;
    for (int attempt = 0; attempt < 2; attempt++) {
        int base;
        if (attempt == 0) {
            base = fcntl(scratch, F_DUPFD_CLOEXEC, 0);
        } else {
            char name[16] = "o00000";
            for (int i = 5, n = number; i > 0; i--, n /= 10) name[i] = (char)('0' + n % 10);
            mkdirat(stagefd, name, 0700);
            base = openat(stagefd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
            if (base >= 0) {
                mkdirat(base, "upper", 0755);
                mkdirat(base, "work", 0700);
            }
        }
        if (base < 0) continue;
        /* the top directory of an overlay has the attributes of its upper layer */
        if (fchownat(base, "upper", st.st_uid, st.st_gid, 0)) errno = 0;
        fchmodat(base, "upper", st.st_mode & 07777, 0);
        fd_path(a, source);
        fd_path(b, base);
        for (int user = 0; user < 2; user++) {
            options[0] = 0;
            join(options, sizeof options, "lowerdir=", a);
            join(options, sizeof options, options, ",upperdir=");
            join(options, sizeof options, options, b);
            join(options, sizeof options, options, "/upper,workdir=");
            join(options, sizeof options, options, b);
            join(options, sizeof options, options, user ? "/work,userxattr" : "/work");
            if (!mount("overlay", fd_path(link, target), "overlay", 0, options)) {
                close(base);
                return 0;
            }
        }
        int error = errno;
        close(base);
        errno = error;
    }
    return -1;
}

#endif
