# SPDX-License-Identifier: Apache-2.0
import gzip
import json
import shutil

from support import VerbTest, data_set, fresh


class Evaluate(VerbTest):
    verb = "evaluate"

    def test_references_against_themselves(self):
        labels = data_set() / "labelsTr"
        done = self.good(labels, labels, "--threads", 1)
        self.assertEqual(done.out, "")
        self.assertIn("organ_1", done.err)
        file = fresh("metrics.json")
        metrics = self.json(labels, labels, "-o", file)
        self.assertEqual(len(metrics["cases"]), 6)
        self.assertEqual({one["dice"] for case in metrics["cases"] for one in case["classes"]}, {1.0})
        self.assertEqual(json.loads(file.read_text()), metrics)

    def test_one_file(self):
        label = data_set() / "labelsTr" / "phantom_001.nii.gz"
        self.assertEqual(len(self.json(label, label)["cases"]), 1)

    def test_a_missing_prediction(self):
        labels, some = data_set() / "labelsTr", fresh("some_labels")
        shutil.copytree(labels, some)
        (some / "phantom_003.nii.gz").unlink()
        done = self.run_verb(some, labels)
        self.assertEqual(done.code, 1, done)
        self.assertIn("phantom_003", done.err)

    def test_a_damaged_reference_is_a_failed_case(self):
        """The others are scored, metrics.json says which one is not and why, and the exit code is not 0."""
        labels, damaged = data_set() / "labelsTr", fresh("damaged_labels")
        shutil.copytree(labels, damaged)
        file = damaged / "phantom_002.nii.gz"
        file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:-100]))
        metrics = fresh("damaged_metrics.json")
        done = self.run_verb(labels, damaged, "--labels", 2, "-o", metrics)
        self.assertEqual(done.code, 1, done)
        self.assertIn("phantom_002", done.err)
        written = json.loads(metrics.read_text())
        self.assertEqual([case["id"] for case in written["failed"]], ["phantom_002"])
        self.assertIn("phantom_002.nii.gz", written["failed"][0]["reason"])
        self.assertEqual(written["missing"], [])
        self.assertEqual(len(written["cases"]), 5)

    def test_wrong_use(self):
        labels = data_set() / "labelsTr"
        self.wrong(labels, says="REF")
        self.wrong(labels, labels, "--tolerance", "-1", says="--tolerance")
        self.wrong(labels, labels, "--labels", "none", says="--labels")
        self.wrong(labels / "phantom_001.nii.gz", labels, says="PRED")
        self.failed("nowhere", labels, says="nowhere")
