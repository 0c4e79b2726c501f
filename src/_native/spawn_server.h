/* The process that starts commands, and the builder's side of it. Included by spawn_impl.c alone. */
#ifndef PYBUILD_SPAWN_SERVER_H
#define PYBUILD_SPAWN_SERVER_H

#include <linux/memfd.h>

#include "spawn_memory.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum { REQUEST_SPAWN = 1, REQUEST_KILL = 2, REQUEST_FDS = 6, CHILDREN = 1024 };

struct request {
    int what;
    int pid;
    void *address; /* REQUEST_SPAWN: where the builder has the memory mapped; it is mapped there in the server too */
    size_t size;
};

/* what is mapped: the part that is reported, then the configuration, then everything that it points to */
struct arena {
    struct sp_shared shared;
    struct sp_config config;
};

static struct served {
    pid_t pid;
    int gone;
    int graceful; /* no process namespace: init has to end its descendants itself */
    struct arena *arena;
    size_t size;
} served[CHILDREN];

static void on_child(int signum) { (void)signum; }

static void serve_spawn(const struct request *r, const int *fds) {
    struct pipes pipes = {-1, fds[1], fds[2], fds[3], fds[4]};
    struct arena *arena = mmap(r->address, r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fds[0], 0);
    int slot = 0;
    if (arena == MAP_FAILED) return;
    if ((void *)arena != r->address) { /* a kernel without MAP_FIXED_NOREPLACE */
        munmap(arena, r->size);
        return;
    }
    while (slot < CHILDREN && served[slot].pid) slot++;
    pipes.null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pid_t pid = -1, self = getpid();
    if (slot == CHILDREN) errno = EAGAIN;
    else if (pipes.null >= 0) pid = raw_clone(clone_flags(&arena->config) | SIGCHLD);
    if (pid == 0) {
        inner(&arena->config, &pipes, &arena->shared, self);
        _exit(0);
    }
    int error = errno;
    /* the next child must not have this one's secrets in memory */
    madvise(arena, r->size, MADV_DONTFORK);
    if (pipes.null >= 0) close(pipes.null);
    if (pid < 0) {
        fail(&arena->shared, SP_CLONE, error, 0, "process");
        arena->shared.reaped = 1;
        munmap(arena, r->size);
        return;
    }
    served[slot].pid = pid;
    served[slot].gone = fcntl(fds[5], F_DUPFD_CLOEXEC, 3);
    served[slot].graceful = arena->config.flags & SP_CHROOT;
    served[slot].arena = arena;
    served[slot].size = r->size;
    __atomic_store_n(&arena->shared.pid, (int)pid, __ATOMIC_RELEASE);
}

static void serve_kill(pid_t pid) {
    for (int i = 0; i < CHILDREN; i++)
        if (served[i].pid == pid && pid > 0) kill(pid, served[i].graceful ? SIGTERM : SIGKILL);
}

static void serve_ended(void) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0) {
        for (int i = 0; i < CHILDREN; i++) {
            if (served[i].pid != pid) continue;
            served[i].arena->shared.init_status = status;
            __atomic_store_n(&served[i].arena->shared.reaped, 1, __ATOMIC_RELEASE);
            munmap(served[i].arena, served[i].size);
            close(served[i].gone);
            served[i].pid = 0;
        }
    }
}

static void serve(int socket_fd) {
    sigset_t wait_mask;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_child;
    sigaction(SIGCHLD, &action, NULL);
    sigfillset(&wait_mask);
    sigdelset(&wait_mask, SIGCHLD);
    for (;;) {
        struct pollfd poll_fd = {socket_fd, POLLIN, 0};
        int ready = ppoll(&poll_fd, 1, NULL, &wait_mask);
        serve_ended();
        if (ready <= 0) continue;
        struct request request;
        union {
            char bytes[CMSG_SPACE(REQUEST_FDS * sizeof(int))];
            struct cmsghdr align;
        } control;
        struct iovec io = {&request, sizeof request};
        struct msghdr message;
        memset(&message, 0, sizeof message);
        message.msg_iov = &io;
        message.msg_iovlen = 1;
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        ssize_t got = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
        if (got == 0) _exit(0); /* the builder is gone; the children's end follows from ours */
        if (got != (ssize_t)sizeof request) continue;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        int n = 0, fds[REQUEST_FDS];
        if (header && header->cmsg_type == SCM_RIGHTS) {
            n = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(fds, CMSG_DATA(header), (size_t)n * sizeof(int));
        }
        if (request.what == REQUEST_SPAWN && n == REQUEST_FDS) serve_spawn(&request, fds);
        if (request.what == REQUEST_KILL) serve_kill(request.pid);
        for (int i = 0; i < n; i++) close(fds[i]);
    }
}

struct server_start {
    int socket_fd, keep_memory;
};

static int start_server(void *argument) {
    struct server_start *start = argument;
    int socket_fd = start->socket_fd;
    setsid();
    default_signals(); /* all of them stay blocked */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    prctl(PR_SET_NAME, "pybuild-run", 0, 0, 0);
    int high = fcntl(socket_fd, F_DUPFD_CLOEXEC, 64), null = open("/dev/null", O_RDWR);
    if (high < 0 || null < 0) _exit(1);
    for (int i = 0; i < 3; i++)
        if (i != null) dup2(null, i);
    if (dup3(high, 3, O_CLOEXEC) < 0) _exit(1);
    close_from(4);
    if (!start->keep_memory) drop_memory();
    if (write(3, "r", 1) != 1) _exit(1);
    serve(3);
    _exit(0);
}

static int sp_serve_once(int keep_memory, int *server_pid) {
    static char stack[512 * 1024] __attribute__((aligned(64)));
    int pair[2], error;
    sigset_t all, before;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) return -1;
    note_kept();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    /* without a signal at its end: nobody else's wait may take it */
    static struct server_start start;
    start.socket_fd = pair[1];
    start.keep_memory = keep_memory;
    pid_t pid = clone(start_server, stack + sizeof stack, 0, &start);
    error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        errno = error;
        return -1;
    }
    char byte;
    ssize_t n;
    while ((n = read(pair[0], &byte, 1)) < 0 && errno == EINTR) {}
    if (n != 1) {
        close(pair[0]);
        sp_served((int)pid);
        errno = EPIPE;
        return -1;
    }
    *server_pid = (int)pid;
    return pair[0];
}

int sp_serve(int *server_pid) {
    int got = sp_serve_once(0, server_pid);
    /* a C library that keeps its threads in another way: go without unmapping */
    if (got < 0 && errno == EPIPE) got = sp_serve_once(1, server_pid);
    return got;
}

void sp_served(int server_pid) {
    int status;
    while (waitpid(server_pid, &status, __WALL) < 0 && errno == EINTR) {}
}

/* --- the builder's side ------------------------------------------------------------------------------------------------- */

static size_t room(size_t n) { return (n + 15) & ~(size_t)15; }

static size_t text_room(const char *s) { return s ? room(strlen(s) + 1) : 0; }

static size_t list_room(char *const *list) {
    size_t n = 1, total = 0;
    for (; *list; list++, n++) total += text_room(*list);
    return total + room(n * sizeof *list);
}

static void *put(char **at, const void *data, size_t n) {
    void *place = *at;
    if (n) memcpy(place, data, n);
    *at += room(n);
    return place;
}

static char *put_text(char **at, const char *s) { return s ? put(at, s, strlen(s) + 1) : NULL; }

static char **put_list(char **at, char *const *list) {
    size_t n = 0;
    while (list[n]) n++;
    char **copy = put(at, list, (n + 1) * sizeof *list);
    for (size_t i = 0; i < n; i++) copy[i] = put_text(at, list[i]);
    return copy;
}

/* A copy of the configuration in memory that the server can map. NULL with errno; the descriptor of the memory in *fd. */
static struct arena *make_arena(const struct sp_config *c, size_t *size, int *fd) {
    size_t n = room(sizeof(struct arena)) + text_room(c->root) + text_room(c->stage_dir) + text_room(c->hostname) + text_room(c->uid_map) +
               text_room(c->gid_map) + text_room(c->search_path) + text_room(c->cwd) + list_room(c->argv) + list_room(c->envp) +
               room((size_t)c->n_groups * sizeof *c->groups) + room((size_t)c->n_mounts * sizeof *c->mounts);
    for (int i = 0; i < c->n_mounts; i++) {
        const struct sp_mount *m = &c->mounts[i];
        n += text_room(m->source) + text_room(m->target) + text_room(m->data) + room(m->n_bytes);
    }
    n = (n + 65535) & ~(size_t)65535;
    *fd = (int)syscall(SYS_memfd_create, "pybuild-run", MFD_CLOEXEC);
    if (*fd < 0) return NULL;
    if (ftruncate(*fd, (off_t)n)) {
        close(*fd);
        return NULL;
    }
    struct arena *arena = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (arena == MAP_FAILED) {
        close(*fd);
        return NULL;
    }
    char *at = (char *)arena + room(sizeof(struct arena));
    struct sp_config *k = &arena->config;
    *k = *c;
    k->root = put_text(&at, c->root);
    k->stage_dir = put_text(&at, c->stage_dir);
    k->hostname = put_text(&at, c->hostname);
    k->uid_map = put_text(&at, c->uid_map);
    k->gid_map = put_text(&at, c->gid_map);
    k->search_path = put_text(&at, c->search_path);
    k->cwd = put_text(&at, c->cwd);
    k->argv = put_list(&at, c->argv);
    k->envp = put_list(&at, c->envp);
    k->groups = put(&at, c->groups, (size_t)c->n_groups * sizeof *c->groups);
    struct sp_mount *mounts = put(&at, c->mounts, (size_t)c->n_mounts * sizeof *c->mounts);
    for (int i = 0; i < c->n_mounts; i++) {
        mounts[i].source = put_text(&at, c->mounts[i].source);
        mounts[i].target = put_text(&at, c->mounts[i].target);
        mounts[i].data = put_text(&at, c->mounts[i].data);
        mounts[i].bytes = put(&at, c->mounts[i].bytes, c->mounts[i].n_bytes);
    }
    k->mounts = mounts;
    *size = n;
    return arena;
}

static int send_request(int server, struct request *request, const int *fds, int n) {
    union {
        char bytes[CMSG_SPACE(REQUEST_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec io = {request, sizeof *request};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    memset(&control, 0, sizeof control);
    message.msg_iov = &io;
    message.msg_iovlen = 1;
    if (n) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
        memcpy(CMSG_DATA(header), fds, (size_t)n * sizeof(int));
    }
    ssize_t sent;
    while ((sent = sendmsg(server, &message, MSG_NOSIGNAL)) < 0 && errno == EINTR) {}
    return sent < 0 ? -1 : 0;
}

int sp_spawn(int server, const struct sp_config *c, struct sp_child *child) {
    int out[2] = {-1, -1}, err[2] = {-1, -1}, status[2] = {-1, -1}, go[2] = {-1, -1}, gone[2] = {-1, -1}, memory = -1, error;
    size_t size = 0;
    char byte;
    struct arena *arena = make_arena(c, &size, &memory);
    if (!arena) return -1;
    if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC) || pipe2(status, O_CLOEXEC) || pipe2(go, O_CLOEXEC) || pipe2(gone, O_CLOEXEC))
        goto failed;
    struct request request = {REQUEST_SPAWN, 0, arena, size};
    int fds[REQUEST_FDS] = {memory, out[1], err[1], status[1], go[0], gone[1]};
    if (send_request(server, &request, fds, REQUEST_FDS)) goto failed;
    for (int i = 0; i < REQUEST_FDS; i++) close(fds[i]);
    ssize_t n;
    while ((n = read(status[0], &byte, 1)) < 0 && errno == EINTR) {}
    if (n == 1) {
        pid_t pid;
        /* the server notes it right after the clone: the child may be quicker */
        while (!(pid = __atomic_load_n(&arena->shared.pid, __ATOMIC_ACQUIRE))) {
            struct pollfd hung = {gone[0], 0, 0};
            if (poll(&hung, 1, 0) > 0) break;
            sched_yield();
        }
        if (pid && c->flags & SP_USER_NS &&
            ((c->deny_setgroups && write_file(pid, "setgroups", "deny")) || write_file(pid, "uid_map", c->uid_map) ||
             write_file(pid, "gid_map", c->gid_map))) {
            fail(&arena->shared, SP_ID_MAP, errno, 0, c->uid_map);
        } else if (pid) {
            while ((n = write(go[1], "g", 1)) < 0 && errno == EINTR) {}
        }
    }
    close(go[1]);
    child->out = out[0];
    child->err = err[0];
    child->status = status[0];
    child->gone = gone[0];
    child->shared = &arena->shared;
    child->size = size;
    return 0;
failed:
    error = errno;
    close_pair(out);
    close_pair(err);
    close_pair(status);
    close_pair(go);
    close_pair(gone);
    close(memory);
    munmap(arena, size);
    errno = error;
    return -1;
}

void sp_kill(int server, struct sp_child *child) {
    struct request request = {REQUEST_KILL, child->shared->pid, NULL, 0};
    if (request.pid && !child->shared->reaped) send_request(server, &request, NULL, 0);
}

int sp_reap(struct sp_child *child) {
    struct sp_shared *shared = child->shared;
    char byte;
    while (read(child->gone, &byte, 1) < 0 && errno == EINTR) {}
    close(child->gone);
    child->gone = -1;
    if (!shared->reaped && shared->pid) {
        /* the server was killed; its children are being killed by the kernel. Nobody here can wait for them, but they can be seen. */
        struct timespec moment = {0, 2000000};
        for (int i = 0; i < 2500 && !kill(shared->pid, shared->ended ? 0 : SIGKILL); i++) nanosleep(&moment, NULL);
        shared->init_status = SIGKILL;
    }
    if (shared->stage == SP_OK && !shared->ended) {
        shared->error = WIFSIGNALED(shared->init_status) ? WTERMSIG(shared->init_status) : 0;
        shared->stage = SP_LOST;
    }
    return 0;
}

#endif
