/* The command's process: who it is, where it is, what it runs. Included by spawn_impl.c alone. */
#ifndef PYBUILD_SPAWN_COMMAND_H
#define PYBUILD_SPAWN_COMMAND_H

static int set_capabilities(uint64_t allowed, int superuser) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    memset(data, 0, sizeof data);
    if (superuser) {
        struct __user_cap_data_struct have[2];
        if (syscall(SYS_capget, &header, have)) return -1;
        for (int i = 0; i < 2; i++) {
            uint32_t mask = have[i].permitted & (uint32_t)(allowed >> (32 * i));
            data[i].permitted = data[i].effective = mask;
        }
    }
    return (int)syscall(SYS_capset, &header, data);
}

static void drop_bounding(uint64_t allowed) {
    for (int i = 0; i < 64; i++) {
        if (allowed >> i & 1) continue;
        if (prctl(PR_CAPBSET_DROP, i, 0, 0, 0) && errno == EINVAL) break; /* past the last one of this kernel */
    }
}

/* The working directory, made as BuildKit makes it when the image lacks it (0755, root). */
static int enter_cwd(const char *path) {
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) return -1;
    int fd = open_in_root(root, path, MAKE_DIR, NULL, NULL);
    if (fd < 0) return -1;
    return fchdir(fd);
}

/* Replace this process by the command; the directories of `search_path` are tried as execvp does. Returns only on failure. */
static void execute(const struct sp_config *c) {
    const char *name = c->argv[0];
    if (strchr(name, '/')) {
        execve(name, c->argv, c->envp);
        return;
    }
    int denied = 0;
    size_t n = strlen(name);
    const char *p = c->search_path;
    while (n && p) {
        const char *end = strchr(p, ':');
        size_t k = end ? (size_t)(end - p) : strlen(p);
        char path[PATHS];
        if (k + n + 2 <= sizeof path) {
            memcpy(path, p, k);
            if (k) path[k++] = '/';
            memcpy(path + k, name, n + 1);
            execve(path, c->argv, c->envp);
            if (errno == EACCES) {
                denied = 1;
            } else if (errno != ENOENT && errno != ENOTDIR) {
                return;
            } else {
                struct stat st;
                /* there, but its interpreter is not */
                if (errno == ENOENT && !stat(path, &st)) return;
            }
        }
        p = end ? end + 1 : NULL;
    }
    errno = denied ? EACCES : ENOENT;
}

static void command(const struct sp_config *c, struct sp_shared *shared, uint64_t allowed) {
    sigset_t none;
    setsid();
    dup2(FD_NULL, 0);
    dup2(FD_OUT, 1);
    dup2(FD_ERR, 2);
    /* so that a USER can open /dev/stdout again */
    if (c->uid) {
        if (fchown(1, c->uid, (gid_t)-1)) errno = 0;
        if (fchown(2, c->uid, (gid_t)-1)) errno = 0;
    }
    umask(022);
    if (enter_cwd(c->cwd)) {
        fail(shared, SP_CWD, errno, 0, c->cwd);
        return;
    }
    syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, NULL);
    drop_bounding(allowed);
    if (!c->deny_setgroups && syscall(SYS_setgroups, (size_t)c->n_groups, c->groups)) {
        if (geteuid() == 0) {
            fail(shared, SP_IDENTITY, errno, 0, "supplementary groups");
            return;
        }
    }
    if (syscall(SYS_setresgid, c->gid, c->gid, c->gid)) {
        fail(shared, SP_IDENTITY, errno, (int)c->gid, "group");
        return;
    }
    if (syscall(SYS_setresuid, c->uid, c->uid, c->uid)) {
        fail(shared, SP_IDENTITY, errno, (int)c->uid, "user");
        return;
    }
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (set_capabilities(allowed, c->uid == 0)) {
        fail(shared, SP_IDENTITY, errno, 0, "capabilities");
        return;
    }
    close_from(FD_FREE);
    default_signals();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execute(c);
    fail(shared, SP_EXEC, errno, 0, c->argv[0]);
}

#endif
