#include "spawn_mounts.h"

#include <linux/capability.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif

/* the child's descriptors, in fixed places so that all others can be closed at once */
enum { FD_NULL = 3, FD_OUT, FD_ERR, FD_STATUS, FD_GO, FD_FREE };

/* what a child gets from the builder: ends to write the command's output and the status to, one to read the go-ahead from */
struct pipes {
    int null, out, err, status, go;
};

static void fail(struct sp_shared *shared, int stage, int error, int index, const char *path) {
    shared->error = error;
    shared->index = index;
    if (path) {
        size_t n = strnlen(path, sizeof shared->path - 1);
        memcpy(shared->path, path, n);
        shared->path[n] = 0;
    }
    __atomic_store_n(&shared->stage, stage, __ATOMIC_RELEASE);
}

#define FAIL(stage, index, path)                     \
    do {                                             \
        fail(shared, (stage), errno, (index), (path)); \
        return -1;                                   \
    } while (0)

/* fork without the C library's handlers: only system calls may follow */
static pid_t raw_clone(unsigned long flags) {
#if defined(__s390x__)
    return (pid_t)syscall(SYS_clone, NULL, flags, NULL, NULL, NULL);
#else
    return (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);
#endif
}

static void close_from(int first) {
    if (!syscall(SYS_close_range, first, ~0U, 0)) return;
    struct rlimit limit;
    int end = 65536;
    if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < (rlim_t)end) end = (int)limit.rlim_cur;
    for (int fd = first; fd < end; fd++) close(fd);
}

/* Bring the pipes' ends to their fixed places and close everything else of the builder. */
static int arrange(const struct pipes *pipes) {
    int from[] = {pipes->null, pipes->out, pipes->err, pipes->status, pipes->go};
    int high[5];
    for (int i = 0; i < 5; i++)
        if ((high[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 64)) < 0) return -1;
    for (int i = 0; i < 5; i++)
        if (dup3(high[i], FD_NULL + i, O_CLOEXEC) < 0) return -1;
    for (int i = 0; i < 3; i++)
        if (dup2(FD_NULL, i) < 0) return -1;
    close_from(FD_FREE);
    return 0;
}

/* exec resets handlers, but not what is ignored (Python ignores SIGPIPE, others what they like). By the kernel's own call: the C
 * library keeps signals 32 and 33 to itself. A kernel sigaction of zeros is SIG_DFL without flags, whatever its layout. */
static void default_signals(void) {
    unsigned char by_default[64] = {0};
    for (int i = 1; i < 65; i++) syscall(SYS_rt_sigaction, i, by_default, NULL, (size_t)8);
}

static int loopback_up(void) {
    struct ifreq request;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    memset(&request, 0, sizeof request);
    strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    int got = ioctl(fd, SIOCSIFFLAGS, &request);
    int error = errno;
    close(fd);
    errno = error;
    return got;
}

/* a file of the staging tmpfs with the mount's contents, opened O_PATH */
static int staged_file(int stagefd, const struct sp_mount *m, int number) {
    char name[16] = "f00000";
    for (int i = 5, n = number; i > 0; i--, n /= 10) name[i] = (char)('0' + n % 10);
    int fd = openat(stagefd, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    const char *p = m->bytes;
    size_t left = m->n_bytes;
    while (left) {
        ssize_t n = write(fd, p, left);
        if (n < 0) {
            if (errno == EINTR) continue;
            goto failed;
        }
        p += n;
        left -= (size_t)n;
    }
    if ((m->uid || m->gid) && fchown(fd, m->uid, m->gid)) goto failed;
    if (fchmod(fd, (mode_t)m->mode)) goto failed;
    close(fd);
    return openat(stagefd, name, O_PATH | O_CLOEXEC);
failed:;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* Mount number `i`; `source` and `scratch` are descriptors of its source and of its overlay's directory, or -1. */
static int do_mount(const struct sp_mount *m, struct sp_shared *shared, int i, int source, int scratch, int rootfd, int stagefd) {
    char link[64];
    struct stat st;
    int directory = 1;
    if (m->kind == SP_FILE) {
        directory = 0;
        source = staged_file(stagefd, m, i);
        if (source < 0) FAIL(SP_SOURCE, i, m->target);
    } else if (source >= 0) {
        if (fstat(source, &st)) FAIL(SP_SOURCE, i, m->source);
        directory = S_ISDIR(st.st_mode);
    }
    int target = open_in_root(rootfd, m->target, directory ? MAKE_DIR : MAKE_FILE, shared, NULL);
    if (target < 0) FAIL(SP_TARGET, i, m->target);
    if (fstat(target, &st)) FAIL(SP_TARGET, i, m->target);
    if (directory != !!S_ISDIR(st.st_mode)) {
        errno = directory ? ENOTDIR : EISDIR;
        FAIL(SP_TARGET, i, m->target);
    }
    switch (m->kind) {
    case SP_TMPFS:
        if (mount("tmpfs", fd_path(link, target), "tmpfs", MS_NOSUID | MS_NODEV, m->data)) FAIL(SP_MOUNT, i, m->target);
        break;
    case SP_BIND_COPY_UP:
        if (directory) {
            if (mount_overlay(source, target, scratch, stagefd, i)) FAIL(SP_OVERLAY, i, m->target);
            break;
        }
        errno = EINVAL; /* a file has no overlay: the caller copies it */
        FAIL(SP_OVERLAY, i, m->target);
    default:
        if (bind_fd(source, target, directory ? MS_REC : 0)) FAIL(SP_MOUNT, i, m->target);
    }
    if (m->readonly && readonly_at(rootfd, m->target, directory)) FAIL(SP_MOUNT, i, m->target);
    close(target);
    if (source >= 0) close(source);
    return 0;
}

/* Enter the directory behind rootfd as the root, leaving nothing of the old one reachable. 1: without pivot_root */
static int enter_root(int rootfd) {
    if (fchdir(rootfd)) return -1;
    if (!syscall(SYS_pivot_root, ".", ".")) {
        if (umount2(".", MNT_DETACH)) return -1;
        return chdir("/");
    }
    /* the builder's own root is an initramfs or no mount point */
    if (mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/")) return -1;
    return 1;
}

/* All mounts, then into the root. 0, 1 (entered by chroot), or -1 with the failure told. */
static int prepare_root(const struct sp_config *c, struct sp_shared *shared) {
    int sources[c->n_mounts + 1], scratch[c->n_mounts + 1];
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) FAIL(SP_ISOLATE, 0, "/");
    /* sources are opened first: the staging tmpfs may cover where they lie */
    int outer = open(c->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (outer < 0) FAIL(SP_ROOT, 0, c->root);
    for (int i = 0; i < c->n_mounts; i++) {
        sources[i] = -1;
        if (!c->mounts[i].source) continue;
        sources[i] = open(c->mounts[i].source, O_PATH | O_CLOEXEC);
        if (sources[i] < 0) FAIL(SP_SOURCE, i, c->mounts[i].source);
    }
    for (int i = 0; i < c->n_mounts; i++) {
        scratch[i] = -1;
        if (c->mounts[i].kind == SP_BIND_COPY_UP) scratch[i] = open(c->mounts[i].data, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    if (mount("tmpfs", c->stage_dir, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700")) FAIL(SP_ISOLATE, 0, c->stage_dir);
    int stagefd = open(c->stage_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (stagefd < 0 || mkdirat(stagefd, "root", 0755)) FAIL(SP_ISOLATE, 0, c->stage_dir);
    int point = openat(stagefd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (point < 0 || bind_fd(outer, point, MS_REC)) FAIL(SP_ROOT, 0, c->root);
    close(point);
    close(outer);
    int rootfd = openat(stagefd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (rootfd < 0) FAIL(SP_ROOT, 0, c->root);
    if (mount_proc(rootfd, shared)) FAIL(SP_STANDARD, 0, "/proc");
    if (mount_sys(rootfd, shared)) FAIL(SP_STANDARD, 0, "/sys");
    if (mount_dev(rootfd, shared, c->flags & SP_USER_NS)) FAIL(SP_STANDARD, 0, "/dev");
    protect(rootfd);
    for (int i = 0; i < c->n_mounts; i++) {
        if (do_mount(&c->mounts[i], shared, i, sources[i], scratch[i], rootfd, stagefd)) return -1;
        if (scratch[i] >= 0) close(scratch[i]);
    }
    close(stagefd);
    int how = enter_root(rootfd);
    if (how < 0) FAIL(SP_ROOT, 0, c->root);
    close(rootfd);
    return how;
}

#include "spawn_command.h"

/* a number at the start of a text, -1 when there is none (atol looks at the locale, which is not there any more) */
static long number(const char *s) {
    long value = 0;
    if (*s < '0' || *s > '9') return -1;
    for (; *s >= '0' && *s <= '9'; s++) value = value * 10 + (*s - '0');
    return value;
}

struct directory_entry {
    uint64_t ino;
    int64_t off;
    unsigned short size;
    unsigned char type;
    char name[];
};

/* SIGKILL for every child of this process; its own descendants become its children as they die (subreaper). */
static void kill_children(pid_t self) {
    char buffer[8192], stat_path[64], text[512];
    int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (proc < 0) return;
    long n;
    while ((n = syscall(SYS_getdents64, proc, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < n;) {
            struct directory_entry *entry = (struct directory_entry *)(buffer + at);
            at += entry->size;
            long pid = number(entry->name);
            if (pid <= 0) continue;
            join(stat_path, sizeof stat_path, entry->name, "/stat");
            int fd = openat(proc, stat_path, O_RDONLY | O_CLOEXEC);
            if (fd < 0) continue;
            ssize_t got = read(fd, text, sizeof text - 1);
            close(fd);
            if (got <= 0) continue;
            text[got] = 0;
            /* "pid (name) state ppid": the name may hold anything */
            char *p = strrchr(text, ')');
            if (!p || strlen(p) < 5) continue;
            if (number(p + 4) == self) kill((pid_t)pid, SIGKILL);
        }
    }
    close(proc);
}

/* Ends when the command has ended. As pid 1 of a namespace its own end ends everything else in there; without one every
 * descendant is looked for and killed. SIGTERM (also sent by the kernel when the builder dies) ends it early. */
static void wait_for(struct sp_shared *shared, pid_t command_pid, int has_namespace, pid_t self) {
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    sigaddset(&wanted, SIGTERM);
    for (int done = 0; !done;) {
        int status;
        pid_t pid;
        while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0) {
            if (pid != command_pid) continue;
            shared->status = status;
            __atomic_store_n(&shared->ended, 1, __ATOMIC_RELEASE);
            done = 1;
        }
        if (done || (pid < 0 && errno == ECHILD)) break;
        if (sigwaitinfo(&wanted, NULL) == SIGTERM) break;
    }
    if (has_namespace) return;
    for (;;) {
        int status;
        pid_t pid;
        kill_children(self);
        while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0)
            if (pid == command_pid && !shared->ended) {
                shared->status = status;
                __atomic_store_n(&shared->ended, 1, __ATOMIC_RELEASE);
            }
        if (pid < 0 && errno == ECHILD) return;
        struct timespec moment = {0, 1000000};
        nanosleep(&moment, NULL);
    }
}

struct start {
    const struct sp_config *config;
    struct sp_shared *shared;
    uint64_t allowed;
};

/* The command's process. It shares memory with init until it executes the command or ends. */
static int start_command(void *argument) {
    struct start *start = argument;
    const struct sp_config *c = start->config;
    if (c->flags & SP_CHROOT && (chroot(".") || chdir("/"))) {
        fail(start->shared, SP_ROOT, errno, 0, c->root);
    } else {
        command(c, start->shared, start->allowed);
    }
    _exit(127);
}

static int setup_chroot(const struct sp_config *c, struct sp_shared *shared) {
    if (chdir(c->root)) FAIL(SP_ROOT, 0, c->root);
    /* the command changes its root; this process keeps the outer one to see the processes that it must end */
    return 0;
}

static int inner(const struct sp_config *c, const struct pipes *pipes, struct sp_shared *shared, pid_t server) {
    char byte = 0;
    int namespaces = !(c->flags & SP_CHROOT);
    setsid();
    default_signals(); /* all of them are still blocked */
    prctl(PR_SET_PDEATHSIG, namespaces ? SIGKILL : SIGTERM, 0, 0, 0);
    if (c->flags & SP_USER_NS) prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* else the maps belong to root and cannot be written */
    if (arrange(pipes)) FAIL(SP_ISOLATE, 0, "descriptors");
    /* a builder that is gone has no reader of this any more */
    if (write(FD_STATUS, "r", 1) != 1) _exit(1);
    if (read(FD_GO, &byte, 1) != 1) _exit(1);
    close(FD_GO);
    /* a server that died before the request above */
    if (!namespaces && getppid() != server) _exit(1);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    prctl(PR_SET_NAME, "init", 0, 0, 0);
    umask(0);
    uint64_t allowed = c->capabilities;
    pid_t self = getpid();
    if (namespaces) {
        if (c->hostname && sethostname(c->hostname, strlen(c->hostname))) errno = 0;
        if (c->flags & SP_NET_NS && loopback_up()) FAIL(SP_NETWORK, 0, "lo");
        int how = prepare_root(c, shared);
        if (how < 0) return -1;
        if (how) allowed &= ~(1ULL << CAP_SYS_CHROOT); /* with it a root that is only chroot'ed could be left */
    } else {
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        if (setup_chroot(c, shared)) return -1;
    }
    /* the page tables need not be copied a second time */
    static char stack[256 * 1024] __attribute__((aligned(64)));
    struct start start = {c, shared, allowed};
    pid_t pid = clone(start_command, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &start);
    if (pid < 0) FAIL(SP_CLONE, 0, "command");
    close(FD_OUT);
    close(FD_ERR);
    wait_for(shared, pid, namespaces, self);
    return 0;
}

static int write_file(pid_t pid, const char *name, const char *text) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t n = write(fd, text, strlen(text));
    int error = errno;
    close(fd);
    errno = error;
    return n == (ssize_t)strlen(text) ? 0 : -1;
}

static void close_pair(int *pair) {
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0) close(pair[i]);
}

static unsigned long clone_flags(const struct sp_config *c) {
    unsigned long flags = 0;
    if (c->flags & SP_CHROOT) return flags;
    flags |= CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;
    if (c->flags & SP_NET_NS) flags |= CLONE_NEWNET;
    if (c->flags & SP_USER_NS) flags |= CLONE_NEWUSER;
    return flags;
}

void sp_remove_made(int rootfd, struct sp_shared *shared) {
    /* children were recorded after their parents */
    uint32_t at[4096];
    int n = 0;
    for (uint32_t k = 0; k < shared->used && n < 4096;) {
        at[n++] = k;
        k += ((struct sp_made *)(shared->records + k))->size;
    }
    while (n-- > 0) {
        struct sp_made *made = (struct sp_made *)(shared->records + at[n]);
        char path[PATHS];
        struct stat st, parent_st;
        strcpy(path, (const char *)(made + 1));
        char *slash = strrchr(path, '/');
        const char *name = slash ? slash + 1 : path;
        int parent;
        if (slash) {
            *slash = 0;
            char resolved[PATHS];
            parent = open_in_root(rootfd, path, MAKE_NONE, NULL, resolved);
            /* a parent that became a link is somebody else's by now */
            if (parent >= 0 && strcmp(resolved, path)) {
                close(parent);
                continue;
            }
        } else {
            parent = openat(rootfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        }
        if (parent < 0) continue;
        if (!fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) && st.st_dev == made->dev && st.st_ino == made->ino &&
            !fstat(parent, &parent_st)) {
            int gone = -1;
            if (made->directory && S_ISDIR(st.st_mode)) gone = unlinkat(parent, name, AT_REMOVEDIR);
            if (!made->directory && S_ISREG(st.st_mode) && st.st_size == 0) gone = unlinkat(parent, name, 0);
            if (!gone) set_mtime(parent, &parent_st.st_mtim);
        }
        close(parent);
    }
}

static int wait_child(pid_t pid, int *status) {
    int got;
    while ((got = waitpid(pid, status, __WALL)) < 0 && errno == EINTR) {}
    return got < 0 ? -1 : 0;
}

#include "spawn_server.h"

#include "spawn_probe.h"
