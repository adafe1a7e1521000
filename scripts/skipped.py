#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tells which tests a run skipped and why: scripts/skipped.py FOLDER (written by tests/support/main.cpp)."""
import sys
from pathlib import Path


def main():
    reasons = {}
    for file in Path(sys.argv[1]).glob("*.txt"):
        for line in file.read_text().splitlines():
            test, _, reason = line.partition("\t")
            reasons.setdefault(reason.strip(), set()).add(test)
    tests = set().union(*reasons.values())
    print(f"{len(tests)} tests skipped" + (":" if tests else ""))
    for reason, names in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])):
        shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
        print(f"  {len(names):3}  {reason or 'no reason given'} ({shown})")


if __name__ == "__main__":
    main()
