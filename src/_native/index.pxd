# The state of a root file system: the tree, and what layers do to it. See tree.pxd for the functions that need no Python.
from pybuild._native.entries cimport EntryList
from pybuild._native.tree cimport Tree

cdef class Index(Tree):
    # one entry of a layer that begin() has begun; `path` is work space of PATH_LIMIT bytes. 0 or a negative number
    cdef int apply_entry(self, EntryList entries, size_t i, char *path) noexcept nogil

# Whether an extended attribute belongs into layers: user.*, trusted.*, security.capability and POSIX ACLs; not the host's
# labels (security.selinux, .ima, .evm, .apparmor) and not overlayfs's own marks.
cdef bint xattr_wanted(const char *name, size_t n) noexcept nogil
