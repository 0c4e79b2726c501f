/* What this place permits. Included by spawn_impl.c alone. */
#ifndef PYBUILD_SPAWN_PROBE_H
#define PYBUILD_SPAWN_PROBE_H

int sp_probe(const struct sp_config *c, int *error) {
    struct probe {
        int can, error;
    } *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ready[2] = {-1, -1}, go[2] = {-1, -1}, can = 0, status;
    sigset_t all, before;
    *error = 0;
    if (shared == MAP_FAILED) return -1;
    if (pipe2(ready, O_CLOEXEC) || pipe2(go, O_CLOEXEC)) {
        close_pair(ready);
        munmap(shared, sizeof *shared);
        return -1;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = raw_clone(clone_flags(c));
    if (pid == 0) {
        char byte, link[64];
        close(go[1]);
        close(ready[0]);
        if (c->flags & SP_USER_NS) prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
        if (write(ready[1], "r", 1) != 1 || read(go[0], &byte, 1) != 1) _exit(1);
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
            shared->error = errno;
            _exit(1);
        }
        shared->can |= SP_CAN_NAMESPACES;
        if (mount("tmpfs", c->stage_dir, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700")) {
            shared->error = errno;
            _exit(1);
        }
        shared->can |= SP_CAN_TMPFS;
        int top = open(c->stage_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (top < 0 || mkdirat(top, "proc", 0755) || mkdirat(top, "upper", 0755) || mkdirat(top, "work", 0755) || mkdirat(top, "m", 0755))
            _exit(1);
        int fd = openat(top, "proc", O_PATH | O_CLOEXEC);
        if (!mount("proc", fd_path(link, fd), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)) shared->can |= SP_CAN_PROC;
        int target = openat(top, "m", O_PATH | O_CLOEXEC);
        if (!mount_overlay(fd, target, top, top, 0)) shared->can |= SP_CAN_OVERLAY;
        _exit(0);
    }
    int clone_error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(go[0]);
    close(ready[1]);
    go[0] = ready[1] = -1;
    if (pid < 0) {
        *error = clone_error;
    } else {
        char byte;
        if (read(ready[0], &byte, 1) == 1) {
            if (c->flags & SP_USER_NS && ((c->deny_setgroups && write_file(pid, "setgroups", "deny")) ||
                                          write_file(pid, "uid_map", c->uid_map) || write_file(pid, "gid_map", c->gid_map)))
                *error = errno;
            else if (write(go[1], "g", 1) != 1)
                *error = errno;
        }
        close(go[1]);
        go[1] = -1;
        wait_child(pid, &status);
        can = shared->can;
        if (!*error) *error = shared->error;
    }
    close_pair(ready);
    close_pair(go);
    munmap(shared, sizeof *shared);
    return can;
}

#endif
