"""When to try again, and after how long."""

from __future__ import annotations

import random
import time
from email.utils import parsedate_to_datetime

#: statuses that another try may better; 499 and 522 come from proxies
RETRY_STATUS = frozenset({408, 429, 499, 500, 502, 503, 504, 522})
LONGEST_PAUSE = 30.0
LONGEST_WISH = 60.0


def pause(attempt: int, first: float, retry_after: str = "") -> float:
    """Seconds before the next try after the failure number ``attempt`` (from 0): what the server asks for (at most a minute), else
    ``first`` doubled with each failure (at most half a minute), between half and all of it so that clients do not come in step."""
    wish = wished(retry_after)
    if wish is not None:
        return min(LONGEST_WISH, wish)
    return float(min(LONGEST_PAUSE, first * 2.0**attempt) * (0.5 + random.random() / 2))


def wished(retry_after: str) -> float | None:
    """A ``Retry-After`` header in seconds from now: a number or a date; ``None`` when it is neither."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
