#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the lengths of sources: scripts/lengths.py [ROOT]

Production sources are all C++ and CUDA files outside tests/. Each finding is told with file and line (exit code 1):
  p90       nine of ten files have at most 300 lines
  file      no file has more than 800, unless it is a table (TABLES)
  function  no function has more than 120, from its first line to its closing brace, unless the file is a table
The lengths are those of the sources as clang-format leaves them: what stands at column 0, or inside a class at two
spaces, begins and ends there.
"""
import re
import sys
from pathlib import Path

P90, LONGEST, FUNCTION = 300, 800, 120
# Rows, one after the other: long by design.
TABLES = ("nas/network/operations.cpp", "search_spaces/reference_networks/reference_networks.cpp")
SOURCES = {".h", ".cuh", ".cpp", ".cu"}
NOT_PRODUCTION = ("tests", "build", "docs", "scripts", "cmake")
CLASS = re.compile(r"(template\s*<.*>\s*)?(struct|class|union)\b[^()=]*$")


def blocks(lines, first, last, indent):
    """(header, first line, last line) of what opens with a brace at this indentation; lines count from 0."""
    pad = " " * indent
    header, start = "", first
    at = first
    while at < last:
        line = lines[at]
        code = re.sub(r"\s*//.*", "", line)
        own = line.startswith(pad) and (len(line) == indent or not line[indent:indent + 1].isspace())
        if not code.strip() or line.lstrip().startswith(("#", "//")):
            header, at = "", at + 1
            continue
        if re.match(r'(inline\s+)?namespace\b|extern "C" \{', code):  # what it holds stands at the same column
            header, at = "", at + 1
            continue
        if own and not header:
            start = at
        header = (header + " " + code.strip()).strip()
        if code.rstrip().endswith("{"):
            end = at + 1
            while end < last and not re.match(pad + r"\}", lines[end]):
                end += 1
            yield header, start, min(end, last - 1)
            header, at = "", end + 1
            continue
        if code.rstrip().endswith((";", "}", ":")):
            header = ""
        at += 1


def functions(lines, first=0, last=None, indent=0):
    """(name, first line from 0, lines) of each function, those in namespaces and classes too."""
    for header, start, end in blocks(lines, first, len(lines) if last is None else last, indent):
        if CLASS.match(header.rstrip(" {")):
            yield from functions(lines, start + 1, end, indent + 2)
        elif "(" in header and not re.search(r"=\s*\{+$", header):
            name = re.search(r"([~\w:]+|operator\S+)\s*\(", header)
            yield name.group(1) if name else header[:40], start, end - start + 1


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent).resolve()
    files = sorted(p for top in root.iterdir() if top.is_dir() and not top.name.startswith(".") and top.name not in NOT_PRODUCTION
                   for p in top.rglob("*") if p.suffix in SOURCES)
    found, lengths, longest = [], [], (0, "")
    for file in files:
        name = str(file.relative_to(root))
        lines = file.read_text().splitlines()
        lengths.append(len(lines))
        if len(lines) > LONGEST and name not in TABLES:
            found.append(f"{name}:1: file: {len(lines)} lines; at most {LONGEST}")
        for function, line, count in functions(lines):
            longest = max(longest, (count, f"{name}:{line + 1} {function}"))
            if count > FUNCTION and name not in TABLES:
                found.append(f"{name}:{line + 1}: function: {function} has {count} lines; at most {FUNCTION}")
    lengths.sort()
    # The length that nine of ten files do not exceed.
    p90 = lengths[-(-len(lengths) * 9 // 10) - 1] if lengths else 0
    if p90 > P90:
        found.append(f"p90: one file in ten has {p90} lines or more; at most {P90}: split some of "
                     f"{', '.join(str(f.relative_to(root)) for f in files if P90 < len(f.read_text().splitlines()) <= p90)}")
    for line in found:
        print(f"lengths: {line}", file=sys.stderr)
    median = lengths[len(lengths) // 2] if lengths else 0
    print(f"lengths: {len(files)} files, median {median}, p90 {p90}, longest {lengths[-1] if lengths else 0}; "
          f"longest function {longest[0]} ({longest[1]}); {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
