# The tree under an index: nodes (names) that refer to inodes (metadata), 96 bytes and a name an entry.
# Node ids are stable until the node is removed; pointers are not: any call that adds may move them.
# Functions that add return -1 when memory ran out. Everything without Python arguments can be called without the interpreter
# lock; an index is for one thread at a time, except that many may read while nobody writes.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "hash128.h" nogil:
    ctypedef struct DigestState:
        uint64_t total

cdef enum:
    ROOT = 0                 # the node of the root directory
    MISSING = -1             # no node
    OUT_OF_MEMORY = -1
    TOO_MANY_LINKS = -2      # walk(): symlinks in a loop
    TOO_LONG = -3            # walk(): the path does not fit
    PATH_LIMIT = 32768       # bytes of a path, with its NUL
    OWNER_ELSEWHERE = 1      # flag: the file on disk has another owner (it could not be set)
    XATTRS_ELSEWHERE = 2     # flag: some extended attributes could not be set on disk
    NOT_ON_DISK = 4          # node flag: the entry could not be made on disk (a device without privileges)

cdef struct Node:
    uint32_t parent
    uint32_t first_child     # 0: none (the root is nobody's child)
    uint32_t next_sibling
    uint32_t previous_sibling
    uint32_t chain           # the next node of the same hash bucket; of a free node, the next free one
    uint32_t name_off
    uint32_t inode           # shared by the names of a hard-linked file
    uint16_t mark            # the layer or scan that placed or saw this node last
    uint8_t name_len
    uint8_t flags

cdef struct Inode:
    int64_t mtime_ns
    int64_t ctime_ns         # 0 when there was no file on disk
    uint64_t ino             # likewise
    int64_t size             # bytes of a file, of a symlink's target; of a device, major << 32 | minor
    uint64_t digest[2]       # contents of a file, (0, 0) when unknown; of a symlink, [0] is the target's offset in the arena
    uint16_t type_mode       # type - '0' in the top four bits, mode in the others
    uint16_t names           # how many nodes refer to this inode (low 14 bits), flags (top two)
    uint32_t uid
    uint32_t gid
    uint32_t xattr_off       # u32 length and the packed attributes (see entries.pxd, sorted by name) in the arena; 0 when there are none

cdef struct Attributes:
    # one entry, as put() takes and get() gives it; get() leaves pointers into the arena that hold until the next addition
    const char *link
    const char *xattrs
    size_t link_len
    size_t xattr_len
    int64_t size
    int64_t mtime_ns
    int64_t ctime_ns
    uint64_t ino
    uint64_t digest[2]
    uint32_t mode
    uint32_t uid
    uint32_t gid
    uint32_t rdev_major
    uint32_t rdev_minor
    uint8_t type             # '0' '2' '3' '4' '5' '6', as in tar
    uint8_t flags            # OWNER_ELSEWHERE | XATTRS_ELSEWHERE | NOT_ON_DISK

cdef class Tree:
    cdef Node *nodes
    cdef Inode *inodes
    cdef char *arena
    cdef uint32_t *buckets
    cdef uint32_t node_count, node_cap, node_free
    cdef uint32_t inode_count, inode_cap, inode_free
    cdef uint32_t live       # nodes in use, without the root
    cdef uint32_t bucket_mask
    cdef size_t arena_len, arena_cap
    cdef uint16_t generation
    cdef int64_t newest_ctime
    cdef int64_t settled     # settle() was called when the newest ctime was this
    cdef char *scratch       # 3 * PATH_LIMIT bytes of work space for walk()

    # --- reading
    cdef int64_t find(self, int64_t parent, const char *name, size_t n) noexcept nogil
    # exact path, no symlink followed
    cdef int64_t find_path(self, const char *path, size_t n) noexcept nogil
    # Symlinks followed inside the root, ".." clamped; the canonical path goes to `out` (PATH_LIMIT bytes, NUL-terminated).
    # The node, MISSING, TOO_MANY_LINKS or TOO_LONG. Not safe for concurrent calls (uses `scratch`).
    cdef int64_t walk(self, const char *path, size_t n, bint follow_last, char *out, size_t *out_len) noexcept nogil
    # the path of a node, NUL-terminated; its length, or TOO_LONG
    cdef int64_t path_of(self, int64_t node, char *out, size_t cap) noexcept nogil
    cdef uint8_t type_of(self, int64_t node) noexcept nogil
    cdef Inode *inode_of(self, int64_t node) noexcept nogil
    cdef void get(self, int64_t node, Attributes *a) noexcept nogil
    cdef const char *name_of(self, int64_t node) noexcept nogil

    # --- writing
    # A new mark for the layer (or scan) that begins; nodes put from now on carry it.
    cdef uint16_t begin(self) noexcept nogil
    # Create or replace. A directory onto a directory keeps its children; anything else replaced goes with all below it.
    cdef int64_t put(self, int64_t parent, const char *name, size_t n, const Attributes *a) noexcept nogil
    # A directory 0755 of root, as implied by a path below it; an existing directory stays as it is.
    cdef int64_t put_implied(self, int64_t parent, const char *name, size_t n) noexcept nogil
    # The directory that the last component of a layer's path lies in: symlinks followed, missing parents implied, files in the way
    # replaced. Writes the canonical path of the entry itself to `out`. MISSING also for running out of memory (errno ENOMEM), TOO_MANY_LINKS, TOO_LONG.
    cdef int64_t place(self, const char *path, size_t n, char *out, size_t *out_len) noexcept nogil
    # another name for the inode of `target` (not a directory)
    cdef int64_t link(self, int64_t parent, const char *name, size_t n, int64_t target) noexcept nogil
    cdef void remove(self, int64_t node) noexcept nogil                  # with everything below it
    cdef void clear(self, int64_t node) noexcept nogil                   # everything below it
    # Whiteout (or, with keep, opaque mark): remove what lower layers have there; entries with the mark of begin() stay.
    # True when nothing is left of the node.
    cdef bint prune(self, int64_t node, bint keep) noexcept nogil
    cdef bint has_marked(self, int64_t node) noexcept nogil              # itself or something below carries the mark of begin()
    # what fstat said after the entry was made on disk
    cdef void set_disk(self, int64_t node, uint64_t ino, int64_t ctime_ns, int64_t mtime_ns) noexcept nogil
    cdef int set_attributes(self, int64_t node, const Attributes *a) noexcept nogil

    cdef int copy_to(self, Tree other) except -1                         # into one made by __new__
    cdef int64_t new_node(self) noexcept nogil
    cdef int64_t new_inode(self) noexcept nogil
    cdef int64_t store(self, const char *data, size_t n) noexcept nogil
    cdef int64_t store_attributes(self, const char *xattrs, uint32_t n) noexcept nogil
    cdef int64_t attach(self, int64_t parent, const char *name, size_t n, uint32_t inode) noexcept nogil
    cdef void detach(self, uint32_t node) noexcept nogil
    cdef void unhash(self, uint32_t node) noexcept nogil
    cdef void drop_inode(self, uint32_t inode) noexcept nogil
    cdef int rehash(self, uint32_t size) noexcept nogil

# Content digests: keyed for this process, 128 bits. Feed any chunking; about 10 GB a second.
cdef void digest_init(DigestState *state) noexcept nogil
cdef void digest_update(DigestState *state, const void *data, size_t n) noexcept nogil
cdef void digest_final(DigestState *state, uint64_t *out) noexcept nogil
