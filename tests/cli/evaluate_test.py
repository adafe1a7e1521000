# SPDX-License-Identifier: Apache-2.0
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

    def test_wrong_use(self):
        labels = data_set() / "labelsTr"
        self.wrong(labels, says="REF")
        self.wrong(labels, labels, "--tolerance", "-1", says="--tolerance")
        self.wrong(labels, labels, "--labels", "none", says="--labels")
        self.wrong(labels / "phantom_001.nii.gz", labels, says="PRED")
        self.failed("nowhere", labels, says="nowhere")
