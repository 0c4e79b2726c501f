"""What counts as white space in a Dockerfile: Unicode's White_Space property, as BuildKit has it (Python's ``isspace`` has
four control characters more)."""

from __future__ import annotations

import re

SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
SPACE = frozenset(SPACES)
#: what separates the words of an instruction (only these, not all of the above)
BLANKS = re.compile(r"[\t\v\f\r ]+")
