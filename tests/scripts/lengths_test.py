#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/lengths.py on small trees: each rule must tell what is planted, and nothing else."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def function(name, lines, indent=""):
    """A function of so many lines with a nested block in it."""
    body = [f"{indent}  if (x) {{", f"{indent}    call();", f"{indent}  }}"]
    body += [f"{indent}  call();"] * (lines - 2 - len(body))
    return [f"{indent}int {name}(int x) {{", *body, f"{indent}}}"]


class Planted(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def plant(self, file, lines):
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")

    def told(self):
        done = subprocess.run([sys.executable, ROOT / "scripts/lengths.py", self.root], capture_output=True, text=True)
        found = done.stderr.splitlines()
        self.assertEqual(done.returncode, 1 if found else 0, done.stderr)
        return found

    def test_the_limits_themselves_are_kept(self):
        self.plant("nas/a.cpp", ["namespace nas {", "namespace {", *function("one", 120), "", *function("two", 120), "}", "}"])
        self.plant("nas/b.cpp", ["// line"] * 800)
        for i in range(9):
            self.plant(f"nas/c{i}.h", ["// line"] * 300)
        self.plant("nas/d.h", ["struct A {", *function("inside", 120, "  "), "};"])
        self.assertEqual(self.told(), [])

    def test_a_long_file(self):
        self.plant("nas/long.cpp", ["// line"] * 801)
        for i in range(9):
            self.plant(f"nas/c{i}.h", ["// line"])
        self.assertEqual(self.told(), ["lengths: nas/long.cpp:1: file: 801 lines; at most 800"])

    def test_tables_and_tests_may_be_long(self):
        self.plant("nas/network/operations.cpp", ["// line"] * 900)
        self.plant("tests/nas/a_test.cpp", ["// line"] * 2000)
        for i in range(9):
            self.plant(f"nas/c{i}.h", ["// line"])
        self.assertEqual(self.told(), [])

    def test_too_many_files_of_some_length(self):
        for i in range(8):
            self.plant(f"nas/c{i}.h", ["// line"])
        self.plant("training/x.cpp", ["// line"] * 301)
        self.plant("training/y.cpp", ["// line"] * 302)
        self.assertEqual(self.told(), ["lengths: p90: one file in ten has 301 lines or more; at most 300: split some of training/x.cpp"])

    def test_long_functions_wherever_they_stand(self):
        spread = ["template <class T>", "std::vector<T> spread(const T& one,", "                       const T& two) {",
                  *["  call();"] * 117, "}"]
        method = ["class A : public B {", " public:", "  int field = 0;", "  void fine() {}", *function("method", 121, "  "), "};"]
        self.plant("nas/a.cpp", ["namespace nas {", "namespace {", "", *function("hidden", 121), "", "}  // namespace", "",
                                 *spread, "", *method, "}  // namespace nas"])
        told = self.told()
        for name, line, count in (("hidden", 4, 121), ("spread", 128, 121), ("method", 254, 121)):
            self.assertIn(f"lengths: nas/a.cpp:{line}: function: {name} has {count} lines; at most 120", told)
        self.assertEqual(len([t for t in told if ": function: " in t]), 3, told)

    def test_a_table_is_no_function(self):
        self.plant("nas/a.cpp", ["const std::vector<Row> kRows = {", *['    {"a", make("b")},'] * 200, "};",
                                 "Row make(const char* name) { return {name}; }"])
        self.assertEqual(self.told(), [])


if __name__ == "__main__":
    unittest.main()
