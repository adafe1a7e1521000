#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""run.py VOXNAS WORK VERB: the tests of one verb's command line. Exit code 77: the Python packages are missing."""
import importlib
import os
import pathlib
import sys
import unittest

if __name__ == "__main__":
    program, work, verb = sys.argv[1:4]
    os.environ["VOXNAS"] = str(pathlib.Path(program).resolve())
    os.environ["VOXNAS_CLI_WORK"] = work
    pathlib.Path(work).mkdir(parents=True, exist_ok=True)
    try:
        import jsonschema  # noqa: F401
    except ImportError:
        required = os.environ.get("VOXNAS_ORACLES") == "required"
        print(f"SKIPPED: {sys.executable} has no package jsonschema; `make setup` installs it")
        sys.exit(1 if required else 77)
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    suite = unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(f"{verb}_test"))
    if suite.countTestCases() == 0:
        sys.exit(f"{verb}_test.py: expected tests, found none")
    sys.exit(0 if unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful() else 1)
