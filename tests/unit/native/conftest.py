"""Lets the tests here import ``tarblocks``, also with pytest's importlib mode."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
