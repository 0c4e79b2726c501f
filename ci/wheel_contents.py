"""Checks that a wheel has what it must have: every module of the package, every extension, every stub. wheel_contents.py WHEEL"""

import pathlib
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main(wheel: str) -> int:
    names = zipfile.ZipFile(wheel).namelist()
    source = ROOT / "src" / "pybuild"
    wanted = {str(path.relative_to(ROOT / "src")) for path in source.rglob("*.py") if "_native" not in path.parts}
    native = ROOT / "src" / "_native"
    wanted |= {f"pybuild/_native/{path.name}" for path in native.glob("*.py*") if path.suffix in (".py", ".pyi")}
    wanted.add("pybuild/py.typed")
    missing = sorted(wanted - {*names})
    missing += [
        f"pybuild/_native/{path.stem}.*.so"
        for path in sorted(native.glob("*.pyx"))
        if not any(name.startswith(f"pybuild/_native/{path.stem}.") and name.endswith(".so") for name in names)
    ]
    for name in missing:
        print(f"{wheel} lacks {name}", file=sys.stderr)
    print(f"{pathlib.Path(wheel).name}: {len(names)} files")
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
