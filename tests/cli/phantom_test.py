# SPDX-License-Identifier: Apache-2.0
import json

from support import VerbTest, data_set, fresh


class Phantom(VerbTest):
    verb = "phantom"

    def test_both_layouts(self):
        for layout, image in (("msd", "phantom_001.nii.gz"), ("nnunet", "phantom_001_0001.nii.gz")):
            folder = fresh(f"phantom_{layout}")
            self.good(folder, "--layout", layout, "--cases", 2, "--test-cases", 1, "--size", "12x16x12", "--channels", 2)
            self.assertTrue((folder / "imagesTr" / image).exists())
            self.assertEqual(json.loads((folder / "dataset.json").read_text())["numTraining"], 2)

    def test_the_same_seed_gives_the_same_files(self):
        one, other = fresh("phantom_one"), fresh("phantom_other")
        for folder in (one, other):
            self.good(folder, "--cases", 1, "--size", "12x16x12", "--seed", 7, "--name", "same")
        files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
        self.assertGreater(len(files), 2)
        for file in files:
            self.assertEqual((one / file).read_bytes(), (other / file).read_bytes(), file)

    def test_wrong_use(self):
        self.wrong(says="OUT")
        self.wrong(fresh("phantom_wrong"), "--size", "12x16", says="--size")
        self.wrong(fresh("phantom_wrong"), "--layout", "dicom", says=["--layout", "nnunet"])
        self.wrong(fresh("phantom_wrong"), "--sed", "1", says="--seed")
        self.assertFalse(fresh("phantom_wrong").exists())
        done = self.run_verb(data_set())
        self.assertIn(done.code, (1, 2), done)
        self.assertIn(str(data_set()), done.err)
