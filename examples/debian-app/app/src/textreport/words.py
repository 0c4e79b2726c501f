"""What a word is."""

import collections
import re

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def count_words(text: str) -> "collections.Counter[str]":
    """How often each word occurs, in lower case."""
    return collections.Counter(word.lower() for word in WORD.findall(text))
