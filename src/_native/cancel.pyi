"""A flag by which one thread ends the work of others."""

class Cancel:
    """Handed to native loops, which look at it every few entries or blocks and end with ``OSError`` ECANCELED. It never goes back."""

    def __init__(self) -> None: ...
    def set(self) -> None:
        """Ask everything that was handed this flag to end. Callable from any thread and from a signal handler."""
    @property
    def is_set(self) -> bool: ...
