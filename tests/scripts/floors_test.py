#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/floors.py on copies of the house with one thing planted in each: every rule must tell it."""
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("nas", "search_spaces", "evolution", "compound_scaling", "training", "supernet", "experiments")


def floors(root, *options):
    done = subprocess.run([sys.executable, ROOT / "scripts/floors.py", *options, root], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


class Planted(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.house = Path(self.folder.name)
        for name in FOLDERS:
            shutil.copytree(ROOT / name, self.house / name)
        shutil.copy(ROOT / "CMakeLists.txt", self.house)
        (self.house / "docs").mkdir()
        shutil.copy(ROOT / "docs/architecture.md", self.house / "docs")

    def tearDown(self):
        self.folder.cleanup()

    def plant(self, file, line):
        path = self.house / file
        path.write_text((path.read_text() if path.exists() else "") + line + "\n")

    def change(self, file, pattern, replacement):
        path = self.house / file
        text, count = re.subn(pattern, replacement, path.read_text(), count=1)
        self.assertEqual(count, 1, f"{file}: nothing like {pattern}")
        path.write_text(text)

    def expect(self, *words):
        code, _, told = floors(self.house)
        self.assertEqual(code, 1)
        lines = [line for line in told.splitlines() if all(word in line for word in words)]
        self.assertEqual(len(lines), 1, f"expected one line with {words}, found:\n{told}")

    def test_nothing_planted(self):
        self.assertEqual(floors(self.house)[0], 0, floors(self.house)[2])

    def test_an_include_that_climbs(self):
        self.plant("nas/core/files.cpp", '#include "nas/imaging/volume.h"')
        self.expect("nas/core/files.cpp:", "link: nas/imaging/volume.h belongs to nas_imaging", "nas_core does not link")
        self.expect("nas/core/files.cpp:", "up: nas/imaging/volume.h", "defined after nas_core")

    def test_a_link_does_not_let_a_lower_folder_look_up(self):
        self.change("nas/search/CMakeLists.txt", r"PUBLIC nas_network", "PUBLIC nas_network nas_kernels")
        self.plant("nas/search/statistics.cpp", '#include "training/kernels/kernels.h"')
        self.expect("nas/search/statistics.cpp:", "up: nas/ lies below training/")

    def test_report_jobs_and_cli_may_look_up(self):
        self.plant("nas/report/report.cpp", '#include "search_spaces/planned_unet/plan.h"')
        self.assertEqual(floors(self.house)[0], 0, floors(self.house)[2])

    def test_private_links_are_not_handed_on(self):
        self.plant("evolution/clustering.cpp", '#include "nas/network/graph.h"')
        self.assertEqual(floors(self.house)[0], 0)  # by way of nas_search
        self.change("nas/search/CMakeLists.txt", r"PUBLIC nas_network", "PRIVATE nas_network")
        self.expect("evolution/clustering.cpp:", "link: nas/network/graph.h", "nas_evolution does not link")

    def test_a_type_of_one_name_in_two_headers(self):
        self.plant("nas/search/draws.h", "namespace nas {\nstruct TreeMap {\n};\n}  // namespace nas")
        self.plant("nas/core/rng.h", "namespace nas::other {\nstruct TreeMap {\n};\n}  // namespace nas::other")
        self.assertEqual(floors(self.house)[0], 0, "namespaces tell them apart")
        self.plant("nas/core/rng.h", "namespace nas {\nclass TreeMap : public Rng {\n};\n}  // namespace nas")
        self.expect("nas/search/draws.h:", "twice: nas::TreeMap is also in nas/core/rng.h")

    def test_a_circle_of_rooms(self):
        self.plant("nas/core/rng.h", '#include "nas/core/files.h"')
        self.plant("nas/core/files.cpp", '#include "nas/core/rng.h"')
        self.expect("circle: rooms", "nas/core/files", "nas/core/rng")

    def test_a_circle_of_folders(self):
        self.plant("evolution/clustering.cpp", '#include "compound_scaling/scaling.h"')
        self.plant("compound_scaling/scaling.cpp", '#include "evolution/clustering.h"')
        self.expect("circle: folders", "compound_scaling, evolution")

    def test_torch_below_the_line(self):
        self.plant("training/data/augment.cpp", "#include <ATen/ATen.h>")
        self.expect("training/data/augment.cpp:", "torch: nas_data does not link LibTorch, found <ATen/ATen.h>")

    def test_a_link_without_use(self):
        self.change("compound_scaling/CMakeLists.txt", r"PUBLIC nas_search", "PUBLIC nas_search nas_imaging")
        self.expect("compound_scaling/CMakeLists.txt: unused: nas_scaling links nas_imaging")

    def test_a_source_that_nobody_builds(self):
        self.plant("nas/search/stray.cpp", "// nothing")
        self.expect("nas/search/stray.cpp: nobody")

    def test_a_floor_without_words(self):
        self.change("compound_scaling/CMakeLists.txt", r"#[^\n]*\n", "")
        self.expect("words: no comment above nas_library(nas_scaling)")

    def test_a_page_that_is_out_of_date(self):
        self.change("compound_scaling/CMakeLists.txt", r"# ", "# Other words. ")
        self.expect("docs/architecture.md: docs")
        self.assertEqual(floors(self.house, "--write-docs")[0], 0)
        self.assertEqual(floors(self.house)[0], 0)
        self.assertIn(floors(self.house, "--table")[1], (self.house / "docs/architecture.md").read_text())


if __name__ == "__main__":
    unittest.main()
