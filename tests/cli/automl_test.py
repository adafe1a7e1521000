# SPDX-License-Identifier: Apache-2.0
import json
import shutil

from support import HERE, VerbTest, data_set, fresh

MMAR = HERE.parent / "search_spaces" / "mmar"


def differences(a, b, path=""):
    """Paths at which two documents differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        return {p for key in a.keys() | b.keys() for p in differences(a.get(key), b.get(key), f"{path}/{key}")}
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b) and any(isinstance(x, dict) for x in a):
        return {p for i, (x, y) in enumerate(zip(a, b)) for p in differences(x, y, f"{path}/{i}")}
    return set() if a == b else {path}


class Automl(VerbTest):
    verb = "automl"

    def test_dry_run_of_claras_five_shapes(self):
        for name, dimensions, product in (("enum", 3, 8), ("loss_optimizer", 2, 4), ("transform", 2, 4),
                                          ("lr_lp", 3, None), ("transform_prob", 1, None)):
            told = self.json(MMAR, "--config", f"{name}.json", "--controller", "random", "--dry-run")
            self.assertEqual(len(told["dimensions"]), dimensions, name)
            self.assertEqual(told["product"], product, name)
        text = self.good(MMAR, "--config", "enum.json", "--controller", "random", "--dry-run").out
        self.assertIn("net.enum.train.model$1:norm  batch, INSTANCE", text)
        self.assertIn("product: 8 points", text)

    def test_every_combination_is_trained_once(self):
        run = fresh("automl")
        done = self.good(MMAR, "--config", "enum.json", "--data", data_set(), "--controller", "random", "--trials", 8,
                         "--steps", 4, "--threads", 1, "--device", "cpu", "-o", run, timeout=280)
        trials = sorted(run.glob("trials/*/training.json"), key=lambda file: int(file.parent.name))
        concrete = [json.loads(file.with_name("config_train.json").read_text()) for file in trials]
        written = json.loads((MMAR / "config" / "enum.json").read_text())
        seen = set()
        searched = {"/train/lr_scheduler/args/step_size", "/train/model/args/channels", "/train/model/args/norm"}
        for one in concrete:
            self.assertLessEqual(differences(concrete[0], one), searched)
            self.assertNotIn("search", json.dumps(one))
            args = one["train"]["model"]["args"]
            seen.add((one["train"]["lr_scheduler"]["args"]["step_size"], tuple(args["channels"]), args["norm"]))
        self.assertEqual(len(seen), 8, done)
        first = concrete[0]["train"]["model"]["args"]
        self.assertEqual(first["channels"], written["train"]["model"]["args"]["channels"], "as written comes first")
        links = {link.name: link.resolve().name for link in (run / "automl").iterdir()}
        self.assertEqual(links["W1_1_J1"], "1")
        own = json.loads(trials[0].read_text())
        self.assertEqual(own["format"], "voxnas.training")
        again = fresh("automl_again.json")
        shutil.copy(trials[0], again)  # what was trained is a description itself
        self.assertEqual(self.json(again, "--dry-run")["training"]["network"], own["network"])
        self.assertIn("--seed 7", done.err + (run / "report.html").read_text(), "the configuration's seed")

    def test_wrong_use(self):
        run = fresh("automl_wrong")
        self.wrong(says="CONFIG")
        self.wrong(MMAR, "--config", "enum.json", "--controller", "random", says="-o RUN")
        self.wrong(MMAR, "--controller", "randon", "--dry-run", says=["randon", "did you mean 'random'"])
        self.wrong(MMAR, "--controller", "random", "--steps", 3, "-o", run, says=["DATA_ROOT", "--data"])
        self.failed("nowhere.json", "--dry-run", says="nowhere.json")
        self.failed(MMAR, "--config", "enumm.json", "--dry-run", says="did you mean 'enum.json'")

        def with_text(text):
            file = fresh("automl_bad.json")
            file.write_text(text)
            return file

        self.failed(with_text('{\n "format": "voxnas.training", // ours\n "version": 1}'), "--dry-run",
                    says=["automl_bad.json", "line 2"])
        self.failed(with_text('{"train": {"image_pipeline": {}}}'), "--dry-run", says="TensorFlow form")
        self.wrong(with_text('{"format": "voxnas.training", "version": 1, "optimiser": {}}'), "--dry-run",
                   says=["optimiser", "optimizer"])
