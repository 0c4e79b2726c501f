/* A command in a root filesystem of its own: namespaces, mounts, identity, exec. See spawn.pyx for the Python side.
 *
 * Everything that happens in the server and its children uses system calls and plain string functions only: the builder has threads,
 * so no locks; its memory is gone, so no allocation, no locale, no symbol that is still to be bound (Python binds all at once).
 * What a child reports goes through shared memory, so that it survives the child. */
#ifndef PYBUILD_SPAWN_IMPL_H
#define PYBUILD_SPAWN_IMPL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* where setting up failed; the numbers are STAGES in spawn.pyx */
enum sp_stage {
    SP_OK = 0,
    SP_CLONE,      /* creating the process or its namespaces */
    SP_ID_MAP,     /* writing the user namespace's maps */
    SP_ISOLATE,    /* making mounts private, the staging tmpfs */
    SP_ROOT,       /* binding or entering the root */
    SP_STANDARD,   /* /proc, /sys, /dev; path says which */
    SP_SOURCE,     /* opening the source of mount `index` */
    SP_TARGET,     /* finding or making the target of mount `index` */
    SP_MOUNT,      /* mounting mount `index` */
    SP_OVERLAY,    /* the overlay of a writable bind `index`: the caller may copy instead */
    SP_NETWORK,    /* bringing up loopback */
    SP_IDENTITY,   /* groups, gid, uid, capabilities */
    SP_CWD,        /* making or entering the working directory */
    SP_EXEC,       /* the command itself */
    SP_LOST        /* the init process ended without a report */
};

enum sp_kind { SP_BIND = 0, SP_BIND_COPY_UP = 1, SP_TMPFS = 2, SP_FILE = 3 };

struct sp_mount {
    int kind;
    const char *source;  /* SP_BIND, SP_BIND_COPY_UP: path outside */
    const char *target;  /* path inside the root */
    const char *data;    /* SP_TMPFS: options; SP_BIND_COPY_UP: directory outside that holds "upper" and "work" */
    const void *bytes;   /* SP_FILE: contents */
    size_t n_bytes;
    int readonly;
    unsigned int mode, uid, gid; /* SP_FILE */
};

enum { SP_USER_NS = 1, SP_NET_NS = 2, SP_CHROOT = 4 };

struct sp_config {
    int flags;
    const char *root;      /* directory outside */
    const char *stage_dir; /* an existing directory outside, not below root: covered by a private tmpfs, for this process only */
    const char *hostname;
    const char *uid_map, *gid_map; /* SP_USER_NS: texts for /proc/PID/{uid,gid}_map */
    int deny_setgroups;
    char *const *argv;
    char *const *envp;
    const char *search_path; /* PATH of the command's environment, for an argv[0] without a slash */
    const char *cwd;
    unsigned int uid, gid;
    const unsigned int *groups;
    int n_groups;
    uint64_t capabilities; /* the most that the command may have */
    const struct sp_mount *mounts;
    int n_mounts;
};

#define SP_RECORDS (128 * 1024)

/* shared between the builder, the server and the child */
struct sp_shared {
    int stage, error, index; /* SP_OK: set up, command started */
    int ended, status;       /* wait status of the command once `ended` */
    int pid;                 /* of init, in the builder's numbers; 0 before it is there */
    int reaped, init_status; /* set by the server when init and all that it started are gone */
    char path[4096];         /* what the failure is about */
    uint32_t used;           /* bytes of records */
    uint32_t pad;
    char records[SP_RECORDS]; /* mount points that were made: struct sp_made, path, NUL, padded to 8 */
};

struct sp_made {
    uint64_t dev, ino;
    uint32_t size; /* of the whole record */
    uint32_t directory;
};

struct sp_child {
    int out, err, status; /* descriptors to read: the command's stdout and stderr; status has end of file when init ended */
    int gone;             /* end of file when the server has reaped init */
    struct sp_shared *shared;
    size_t size; /* of the shared mapping */
};

/* The server: a process that starts the others. It is forked once and drops the builder's memory, so that starting a command costs
 * the same however large the builder is, and nothing of the builder's is in the memory of a command's init.
 * Returns the builder's end of a socket, or -1 with errno. The server ends when the last copy of that end is closed. */
int sp_serve(int *server_pid);
/* waits for a server whose socket was closed or that was killed */
void sp_served(int server_pid);
/* 0, or -1 with errno when nothing was started (EPIPE: the server is gone). Failures in the child are found in shared after sp_reap. */
int sp_spawn(int server, const struct sp_config *config, struct sp_child *child);
/* asks for the end of the command and of everything it started */
void sp_kill(int server, struct sp_child *child);
/* waits for the child's end: all of its descendants are gone then. 0 or -1 with errno. */
int sp_reap(struct sp_child *child);
/* removes the mount points that were made, if they are still the same, unused and empty; parents keep their mtime */
void sp_remove_made(int rootfd, struct sp_shared *shared);
/* what a child can do here: bits below, errno of the first failure in *error */
enum { SP_CAN_NAMESPACES = 1, SP_CAN_TMPFS = 2, SP_CAN_PROC = 4, SP_CAN_OVERLAY = 8 };
int sp_probe(const struct sp_config *config, int *error);

#endif
