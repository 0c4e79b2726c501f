# A flag that loops without the interpreter lock look at.
cdef class Cancel:
    cdef volatile int flag
    cdef int *pointer(self) noexcept
