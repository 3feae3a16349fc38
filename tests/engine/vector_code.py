"""Functions of a built module that need more than x86-64 and are no kernels of an instruction set.

python tests/engine/vector_code.py FILE.so     lists them; exit code 1 if there are any
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
# AVX and later write their mnemonics with a v; AMX works on tiles.
VECTOR = re.compile(r"^\s*[0-9a-f]+:\s+(?:v[a-z0-9]+|tile\w+|tdp\w+|ldtilecfg|sttilecfg)\b")
# Mnemonics of the baseline that begin alike.
BASELINE = re.compile(r":\s+(?:verr|verw|vmcall|vmfunc)\b")
# In `moltide::avx2` and the like, or made for a function that is (NS_: moltide, said again).
KERNEL = re.compile(r"(?:7moltide|NS_)(?:4avx2|6avx512|11avx512_(?:vnni|bf16)|3amx)")


def vector_functions(binary: Path) -> tuple[set[str], int]:
    """Mangled names of functions outside the kernels that use AVX or AMX, and how many inside."""
    listing = subprocess.run(
        ["objdump", "--disassemble", "--no-show-raw-insn", str(binary)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    outside, inside, current = set(), set(), "?"
    for line in listing.splitlines():
        named = FUNCTION.match(line)
        if named:
            current = named[1]
        elif VECTOR.match(line) and not BASELINE.search(line):
            (inside if KERNEL.search(current) else outside).add(current)
    return outside, len(inside)


def main(path: str) -> int:
    outside, inside = vector_functions(Path(path))
    if not inside:
        print(f"error: no vector code found in {path}: stripped?", file=sys.stderr)
        return 1
    for name in sorted(outside):
        print(f"error: {name} needs more than x86-64", file=sys.stderr)
    print(f"{inside} functions of kernels use AVX or AMX, {len(outside)} others")
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
