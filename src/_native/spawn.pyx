# cython: language_level=3
"""Commands in a root filesystem of their own. The work is done in spawn_impl.c."""

import os
import threading

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport ECONNRESET, EPIPE, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free


cdef extern from "sys/prctl.h" nogil:
    int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
    int PR_SET_DUMPABLE

cdef extern from "sys/mount.h" nogil:
    int umount2(const char *target, int flags)
    int MNT_DETACH

cdef extern from "sys/mman.h" nogil:
    int munmap(void *addr, size_t length)

cdef extern from "spawn_impl.h" nogil:
    enum: SP_BIND, SP_BIND_COPY_UP, SP_TMPFS, SP_FILE
    enum: SP_USER_NS, SP_NET_NS, SP_CHROOT
    enum: SP_CAN_NAMESPACES, SP_CAN_TMPFS, SP_CAN_PROC, SP_CAN_OVERLAY
    struct sp_mount:
        int kind
        const char *source
        const char *target
        const char *data
        const void *bytes
        size_t n_bytes
        int readonly
        unsigned int mode, uid, gid
    struct sp_config:
        int flags
        const char *root
        const char *stage_dir
        const char *hostname
        const char *uid_map
        const char *gid_map
        int deny_setgroups
        char **argv
        char **envp
        const char *search_path
        const char *cwd
        unsigned int uid, gid
        const unsigned int *groups
        int n_groups
        uint64_t capabilities
        const sp_mount *mounts
        int n_mounts
    struct sp_made:
        uint64_t dev, ino
        uint32_t size
        uint32_t directory
    struct sp_shared:
        int stage, error, index
        int ended, status
        int pid
        char *path
        uint32_t used
        char *records
    struct sp_child:
        int out, err, status, gone
        sp_shared *shared
        size_t size
    int sp_serve(int *server_pid)
    void sp_served(int server_pid)
    int sp_spawn(int server, const sp_config *config, sp_child *child)
    void sp_kill(int server, sp_child *child)
    int sp_reap(sp_child *child)
    void sp_remove_made(int rootfd, sp_shared *shared)
    int sp_probe(const sp_config *config, int *error)


STAGES = (
    "", "clone", "id-map", "isolate", "root", "standard", "source", "target", "mount", "overlay", "network", "identity", "cwd",
    "exec", "lost",
)

# chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod audit_write setfcap
DOCKER_CAPABILITIES = sum(1 << n for n in (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31))

cdef dict KINDS = {"bind": SP_BIND, "copy-up": SP_BIND_COPY_UP, "tmpfs": SP_TMPFS, "file": SP_FILE}


cdef bytes encoded(text, str what):
    cdef bytes data = os.fsencode(text)
    if b"\0" in data:
        raise ValueError(f"{what} has a NUL character")
    return data


cdef char **string_array(list strings) except NULL:
    cdef Py_ssize_t i, n = len(strings)
    cdef char **array = <char **>calloc(n + 1, sizeof(char *))
    if array == NULL:
        raise MemoryError()
    for i in range(n):
        array[i] = PyBytes_AS_STRING(<bytes>strings[i])
    return array


cdef object lock = threading.Lock()
cdef int server = -1
cdef int server_pid = 0


cdef int started(bint again) except -1:
    """The socket to the process that starts commands, which is forked when it is first asked for; ``again``: it has died."""
    global server, server_pid
    with lock:
        if again and server >= 0:
            os.close(server)
            server = -1
            with nogil:
                sp_served(server_pid)
        if server < 0:
            with nogil:
                server = sp_serve(&server_pid)
            if server < 0:
                raise OSError(errno, os.strerror(errno))
        return server


def prepare():
    started(False)


cdef class Child:
    cdef sp_child child
    cdef object root
    cdef bint reaped

    @property
    def pid(self):
        return self.child.shared.pid

    @property
    def out(self):
        return self.child.out

    @property
    def err(self):
        return self.child.err

    @property
    def status(self):
        return self.child.status

    def kill(self):
        if not self.reaped:
            sp_kill(server, &self.child)

    def reap(self):
        cdef int got
        cdef uint32_t at = 0
        cdef sp_shared *shared = self.child.shared
        cdef int rootfd
        if self.reaped:
            raise RuntimeError("already reaped")
        with nogil:
            got = sp_reap(&self.child)
        if got:
            raise OSError(errno, os.strerror(errno))
        self.reaped = True
        made = []
        while at < shared.used:
            record = <sp_made *>(shared.records + at)
            made.append(os.fsdecode(<bytes>(<char *>(record + 1))))
            at += record.size
        if made:
            rootfd = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with nogil:
                    sp_remove_made(rootfd, shared)
            finally:
                os.close(rootfd)
        result = (
            STAGES[shared.stage],
            shared.error,
            shared.index,
            os.fsdecode(<bytes>shared.path),
            shared.status if shared.ended else None,
            tuple(made),
        )
        return result

    def __dealloc__(self):
        if self.child.shared != NULL:
            if not self.reaped:
                sp_kill(server, &self.child)
                sp_reap(&self.child)
            munmap(self.child.shared, self.child.size)
            self.child.shared = NULL


def spawn(
    root, argv, env, *, cwd, uid, gid, groups, mounts, stage_dir, hostname, capabilities=DOCKER_CAPABILITIES,
    bint user_namespace=False, bytes uid_map=b"", bytes gid_map=b"", bint deny_setgroups=False, bint new_network=False,
    bint chroot=False,
):
    cdef sp_config config
    cdef sp_mount *table = NULL
    cdef char **argument_array = NULL
    cdef char **environment_array = NULL
    cdef unsigned int *group_array = NULL
    cdef int i, got, socket, number = 0
    cdef Child child = Child.__new__(Child)
    cdef list kept = []
    cdef list arguments = [encoded(a, "an argument") for a in argv]
    cdef list environment = [encoded(k, "a variable") + b"=" + encoded(v, f"the variable {k}") for k, v in env.items()]
    cdef bytes root_b = encoded(root, "the root"), stage_b = encoded(stage_dir, "the staging directory")
    cdef bytes host_b = encoded(hostname, "the host name"), cwd_b = encoded(cwd, "the working directory")
    cdef bytes path_b = encoded(env.get("PATH", ""), "PATH")
    if not arguments:
        raise ValueError("no command")
    try:
        argument_array = string_array(arguments)
        environment_array = string_array(environment)
        table = <sp_mount *>calloc(len(mounts) + 1, sizeof(sp_mount))
        group_array = <unsigned int *>calloc(len(groups) + 1, sizeof(unsigned int))
        if table == NULL or group_array == NULL:
            raise MemoryError()
        for i, group in enumerate(groups):
            group_array[i] = group
        for i, (kind, source, target, data, contents, readonly, mode, owner, owner_group) in enumerate(mounts):
            source_b, target_b, data_b = encoded(source, "a source"), encoded(target, "a target"), encoded(data, "options")
            kept.append((source_b, target_b, data_b, contents))
            table[i].kind = KINDS[kind]
            table[i].source = PyBytes_AS_STRING(source_b) if source_b else NULL
            table[i].target = PyBytes_AS_STRING(target_b)
            table[i].data = PyBytes_AS_STRING(data_b)
            table[i].bytes = <const void *>PyBytes_AS_STRING(contents)
            table[i].n_bytes = PyBytes_GET_SIZE(contents)
            table[i].readonly = readonly
            table[i].mode = mode
            table[i].uid = owner
            table[i].gid = owner_group
        config.flags = (SP_USER_NS if user_namespace else 0) | (SP_NET_NS if new_network else 0) | (SP_CHROOT if chroot else 0)
        config.root = root_b
        config.stage_dir = stage_b
        config.hostname = host_b
        config.uid_map = uid_map
        config.gid_map = gid_map
        config.deny_setgroups = deny_setgroups
        config.argv = argument_array
        config.envp = environment_array
        config.search_path = path_b
        config.cwd = cwd_b
        config.uid = uid
        config.gid = gid
        config.groups = group_array
        config.n_groups = len(groups)
        config.capabilities = capabilities
        config.mounts = table
        config.n_mounts = len(mounts)
        socket = started(False)
        with nogil:
            got = sp_spawn(socket, &config, &child.child)
            number = errno
        if got and number in (EPIPE, ECONNRESET):
            socket = started(True)
            with nogil:
                got = sp_spawn(socket, &config, &child.child)
                number = errno
        if got:
            raise OSError(number, os.strerror(number))
        child.root = root
        return child
    finally:
        free(argument_array)
        free(environment_array)
        free(group_array)
        free(table)


def probe(stage_dir, *, bint user_namespace=False, bytes uid_map=b"", bytes gid_map=b"", bint deny_setgroups=False):
    cdef sp_config config
    cdef int error = 0, can
    cdef bytes stage_b = encoded(stage_dir, "the staging directory")
    config.flags = SP_USER_NS if user_namespace else 0
    config.stage_dir = stage_b
    config.uid_map = uid_map
    config.gid_map = gid_map
    config.deny_setgroups = deny_setgroups
    with nogil:
        can = sp_probe(&config, &error)
    if can < 0:
        raise OSError(errno, os.strerror(errno))
    return bool(can & SP_CAN_TMPFS), bool(can & SP_CAN_PROC), bool(can & SP_CAN_OVERLAY), error


def set_dumpable(bint dumpable):
    if prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0):
        raise OSError(errno, os.strerror(errno))


def effective_capabilities():
    with open("/proc/self/status", "rb") as f:
        for line in f:
            if line.startswith(b"CapEff:"):
                return int(line.split()[1], 16)
    return 0


def unmount(path):
    cdef bytes path_b = encoded(path, "a path")
    cdef const char *p = path_b
    cdef int got
    with nogil:
        got = umount2(p, MNT_DETACH)
    if got:
        raise OSError(errno, os.strerror(errno), path)
