# SPDX-License-Identifier: Apache-2.0
import json
import re

from support import Done, VerbTest, data_set, fresh


class Plan(VerbTest):
    verb = "plan"

    def test_a_plan(self):
        done = self.good(data_set(), "--planner", "resenc-m", "--threads", 1)
        self.assertEqual(done.out, "")
        self.assertIn("residual encoder", done.err)
        plan = self.json(data_set())
        self.assertEqual(plan["dataset_name"], "data")

    def test_a_plan_from_a_fingerprint(self):
        file = fresh("fingerprint.json")
        self.good(data_set(), "--write-fingerprint", file)
        dataset = json.loads((data_set() / "dataset.json").read_text())
        facts = fresh("facts")
        facts.mkdir()
        (facts / "dataset.json").write_text(json.dumps({
            "name": "data", "channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ_1": 1, "organ_2": 2},
            "numTraining": dataset["numTraining"], "file_ending": ".nii.gz"}))
        again = self.json("--fingerprint", file, "--dataset", facts / "dataset.json")
        straight = self.json(data_set())
        self.assertEqual(again["configurations"], straight["configurations"])

    def test_doctor_says_what_plan_stops_at(self):
        """Images too small for a network with one pooling pass every check of the files."""
        folder = fresh("too_small")
        made = Done(["phantom", folder, "--cases", 6, "--size", "8x8x8", "--spacing", "1x3x9",
                     "--size-jitter", 0, "--name", "small"])
        self.assertEqual(made.code, 0, made)
        done = self.failed(folder, says="too small for a U-Net")
        reason = re.search(r"planner: .*", done.err).group()
        examined = Done(["doctor", folder])
        self.assertEqual(examined.code, 1, examined)
        self.assertIn("fatal no-plan", examined.err)
        self.assertIn(reason, examined.err)

    def test_wrong_use(self):
        self.wrong(says="--fingerprint")
        self.wrong("--fingerprint", "f.json", says="--dataset")
        self.wrong(data_set(), "--fingerprint", "f.json", says="--fingerprint")
        self.wrong(data_set(), "--planner", "resenc-x", says=["--planner", "resenc-m"])
        self.wrong(data_set(), "--gpu-memory", "-3", says="--gpu-memory")
        self.failed("nowhere", says="nowhere")
