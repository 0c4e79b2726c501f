/* What the change detector asks of the system: directory listings, metadata, attributes and contents, all relative to a descriptor. */
#ifndef PYBUILD_SCAN_DIR_H
#define PYBUILD_SCAN_DIR_H

#include <pthread.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "disk_ops.h"

struct scan_dirent {
    uint64_t d_ino;
    int64_t d_off;
    unsigned short d_reclen;
    unsigned char d_type;
    char d_name[];
};

static inline long scan_getdents(int fd, void *buffer, size_t n) { return syscall(SYS_getdents64, fd, buffer, n); }

static inline unsigned scan_major(dev_t d) { return major(d); }
static inline unsigned scan_minor(dev_t d) { return minor(d); }

/* The tar type of a mode; 0 for sockets and whatever else belongs into no layer. */
static inline unsigned char scan_type(unsigned mode) {
    switch (mode & S_IFMT) {
    case S_IFREG: return '0';
    case S_IFLNK: return '2';
    case S_IFCHR: return '3';
    case S_IFBLK: return '4';
    case S_IFDIR: return '5';
    case S_IFIFO: return '6';
    }
    return 0;
}

/* Directories of ours whose mode denies them to us, without privileges: searchable while they are scanned, then as before. */
struct scan_locked {
    char *path;
    size_t n;
    unsigned mode;
};

struct scan_unlocked {
    struct scan_locked *list;
    size_t count, cap;
};

static int scan_unlock(int rootfd, const char *path, size_t n, struct scan_unlocked *u) {
    char link[40];
    struct stat st;
    for (size_t end = 0; end <= n; end++) {
        if (end < n && path[end] != '/') continue;
        int handle = disk_open(rootfd, path, end, O_PATH | O_DIRECTORY);
        if (handle < 0) return -1;
        int failed = fstat(handle, &st);
        if (!failed && (st.st_mode & 0500) != 0500) {
            if (u->count == u->cap) {
                size_t cap = u->cap * 2 + 16;
                struct scan_locked *grown = realloc(u->list, cap * sizeof *grown);
                if (grown) u->list = grown, u->cap = cap;
            }
            char *copy = u->count < u->cap ? malloc(end + 1) : NULL;
            snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
            failed = !copy || chmod(link, (st.st_mode & 07777) | 0500);
            if (failed) {
                free(copy);
            } else {
                memcpy(copy, path, end);
                u->list[u->count++] = (struct scan_locked){copy, end, st.st_mode & 07777};
            }
        }
        close(handle);
        if (failed) {
            errno = EACCES;
            return -1;
        }
    }
    return 0;
}

static void scan_lock_again(int rootfd, struct scan_unlocked *u) {
    char link[40];
    while (u->count) {
        struct scan_locked *l = &u->list[--u->count];
        int handle = disk_open(rootfd, l->path, l->n, O_PATH | O_DIRECTORY);
        if (handle >= 0) {
            snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
            if (chmod(link, l->mode)) errno = 0;
            close(handle);
        }
        free(l->path);
    }
    free(u->list);
    u->list = NULL;
    u->cap = 0;
}

/* Open for reading without leaving a trace in atime where that is allowed. */
static int scan_open(int dirfd, const char *path, size_t n, int flags) {
    int fd = disk_open(dirfd, path, n, O_RDONLY | O_NONBLOCK | O_NOATIME | flags);
    if (fd < 0 && errno == EPERM) fd = disk_open(dirfd, path, n, O_RDONLY | O_NONBLOCK | flags);
    if (fd < 0 && errno == EACCES && !(flags & O_DIRECTORY)) {
        /* ours, but its mode denies it to us: for a moment it does not */
        struct stat st;
        char link[40];
        int handle = disk_open(dirfd, path, n, O_PATH);
        if (handle >= 0) {
            snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
            if (!fstat(handle, &st) && !chmod(link, (st.st_mode & 07777) | 0500)) {
                fd = open(link, O_RDONLY | O_NONBLOCK | O_CLOEXEC | flags);
                chmod(link, st.st_mode & 07777);
            }
            close(handle);
        }
        if (fd < 0) errno = EACCES;
    }
    return fd;
}

static int scan_compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The extended attributes of an entry that `wanted` lets through, packed and sorted, malloc'ed. Their length, or -1 with errno. */
static int64_t scan_xattrs(int dirfd, const char *name, int (*wanted)(const char *, size_t), char **out) {
    char path[320], names[4096], *list = names, *sorted[256];
    size_t count = 0, used = 0, cap = 0;
    char *packed = NULL;
    *out = NULL;
    if (dirfd >= 0) snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dirfd, name);
    ssize_t got = llistxattr(path, names, sizeof names);
    if (got < 0 && errno == ERANGE) {
        list = malloc(65536);
        if (!list) return -1;
        got = llistxattr(path, list, 65536);
    }
    if (got <= 0) {
        int error = errno;
        if (list != names) free(list);
        errno = error;
        /* no such thing on this file system, or gone meanwhile */
        return got == 0 || errno == ENOTSUP || errno == ENOENT || errno == EPERM || errno == EACCES ? 0 : -1;
    }
    for (ssize_t i = 0; i < got && count < 256; i += (ssize_t)strlen(list + i) + 1)
        if (wanted(list + i, strlen(list + i))) sorted[count++] = list + i;
    qsort(sorted, count, sizeof *sorted, scan_compare_names);
    for (size_t i = 0; i < count; i++) {
        uint16_t l = (uint16_t)strlen(sorted[i]);
        ssize_t n = lgetxattr(path, sorted[i], NULL, 0);
        for (int tries = 0; n >= 0 && tries < 3; tries++) {
            if (used + 6u + l + (size_t)n > cap) {
                cap = used + 6u + l + (size_t)n + 256;
                char *grown = realloc(packed, cap);
                if (!grown) {
                    free(packed);
                    if (list != names) free(list);
                    errno = ENOMEM;
                    return -1;
                }
                packed = grown;
            }
            n = lgetxattr(path, sorted[i], packed + used + 6 + l, cap - used - 6 - l);
            if (n >= 0 || errno != ERANGE) break;
            n = lgetxattr(path, sorted[i], NULL, 0);
        }
        if (n < 0) continue;
        uint32_t v = (uint32_t)n;
        memcpy(packed + used, &l, 2);
        memcpy(packed + used + 2, sorted[i], l);
        memcpy(packed + used + 2 + l, &v, 4);
        used += 6u + l + v;
    }
    if (list != names) free(list);
    *out = packed;
    return (int64_t)used;
}

/* File systems of which it is known that every change moves ctime: not network file systems, FUSE or what gVisor shows. */
static int scan_trusts_ctime(int fd) {
    static const uint32_t known[] = {0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x794C7630, 0xF2F52010, 0x2FC12FC1, 0xCA451A4E};
    struct statfs fs;
    if (fstatfs(fd, &fs)) return 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if ((uint32_t)fs.f_type == known[i]) return 1;
    return 0;
}

#endif
