#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""skipped_test.py TESTS: a missing oracle is a skip that is counted, or a failure where oracles are required."""
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = sys.argv.pop()


class WithoutOracles(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()

    def tearDown(self):
        self.folder.cleanup()

    def run_tests(self, **more):
        env = {k: v for k, v in os.environ.items() if k != "VOXNAS_ORACLES"}
        env |= {"VOXNAS_SHARED": self.folder.name + "/none", "VOXNAS_SKIPPED": self.folder.name, **more}
        return subprocess.run([TESTS, "--gtest_filter=Resample.EqualsNnunet"], env=env, capture_output=True, text=True)

    def test_a_missing_oracle_is_counted_with_its_reason(self):
        self.assertEqual(self.run_tests().returncode, 0)
        told = subprocess.run([sys.executable, ROOT / "scripts/skipped.py", self.folder.name],
                              capture_output=True, text=True).stdout
        self.assertIn("1 tests skipped:", told)
        self.assertIn("1  needs oracles/resample.safetensors in the folder `shared`", told)
        self.assertIn("(Resample.EqualsNnunet)", told)

    def test_a_required_oracle_fails(self):
        done = self.run_tests(VOXNAS_ORACLES="required")
        self.assertEqual(done.returncode, 1)
        self.assertIn("needs oracles/resample.safetensors", done.stdout)
        self.assertIn("VOXNAS_ORACLES=required", done.stdout)


if __name__ == "__main__":
    unittest.main()
