"""See cancel.pyi."""


cdef class Cancel:
    def __init__(self):
        self.flag = 0

    cdef int *pointer(self) noexcept:
        return <int *>&self.flag

    def set(self):
        self.flag = 1

    @property
    def is_set(self):
        return self.flag != 0
