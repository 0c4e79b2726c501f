"""The command line: ``textreport [--top N] [--json] FILE …``."""

import argparse
import json
import pathlib
import sys

from textreport import __version__
from textreport.words import count_words


def main() -> int:
    parser = argparse.ArgumentParser(prog="textreport")
    parser.add_argument("--version", action="version", version=f"textreport {__version__}")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="how many words to show")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    for path in options.files:
        try:
            counts = count_words(path.read_text(encoding="utf-8"))
        except OSError as error:
            print(f"textreport: {path}: {error.strerror}", file=sys.stderr)
            return 1
        most = counts.most_common(options.top)
        if options.json:
            print(json.dumps({"file": path.name, "words": sum(counts.values()), "most": dict(most)}, ensure_ascii=False))
        else:
            print(f"{path.name}: {sum(counts.values())} words, {len(counts)} different")
            for word, number in most:
                print(f"{number:6}  {word}")
    return 0
