# SPDX-License-Identifier: Apache-2.0
import gzip
import shutil

from support import VerbTest, data_set, fresh


class Doctor(VerbTest):
    verb = "doctor"

    def test_a_sound_data_set(self):
        done = self.good(data_set(), "--threads", 1)
        self.assertEqual(done.out, "")
        self.assertIn("0 fatal", done.err)
        self.assertEqual(self.json(data_set()), [])

    def test_a_damaged_file(self):
        folder = fresh("damaged")
        shutil.copytree(data_set(), folder)
        label = folder / "labelsTr" / "phantom_002.nii.gz"
        label.write_bytes(gzip.compress(gzip.decompress(label.read_bytes())[:-100]))
        done = self.run_verb(folder)
        self.assertEqual(done.code, 1, done)
        self.assertIn("phantom_002.nii.gz", done.err)
        done = self.run_verb(folder, "--json")
        self.assertEqual(done.code, 1, done)
        findings = self.document_of(done)
        self.assertIn("fatal", [finding["severity"] for finding in findings])

    def test_wrong_use(self):
        self.wrong(says="DATA")
        self.wrong(data_set(), "--threads", "many", says="--threads")
        self.wrong(data_set(), "--thread", "1", says="did you mean --threads?")
        self.failed("nowhere", says="nowhere")
        self.failed(fresh("empty_folder") / "x", says="dataset.json")
