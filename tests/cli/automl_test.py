# SPDX-License-Identifier: Apache-2.0
import importlib.util
import json
import os
import shutil
import sqlite3
import subprocess
import sys

from support import HERE, WORK, Done, VerbTest, data_set, fresh, trials

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

    def test_every_combination_is_trained_once_by_two_workers_as_by_one(self):
        run, alone = fresh("automl"), fresh("automl_alone")
        words = (MMAR, "--config", "enum.json", "--data", data_set(), "--controller", "enum", "--steps", 3, "--threads", 1,
                 "--device", "cpu")
        done = self.good(*words, "--workers", "cpu:cpu", "-o", run)
        self.good(*words, "-o", alone)
        self.assertEqual(trials(run), trials(alone))
        files = sorted(run.glob("trials/*/training.json"), key=lambda file: int(file.parent.name))
        concrete = [json.loads(file.with_name("config_train.json").read_text()) for file in files]
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
        ran = {str(row["id"]): row["worker"] for row in json.loads(Done(["ctl", run, "trials", "--json"]).out)}
        self.assertEqual(set(ran.values()), {"W1", "W2"}, "both had work")
        numbers = {}  # of each worker's trials, from 1 on
        for name, trial in sorted(links.items(), key=lambda item: int(item[1])):
            worker, number, job = name.split("_")
            self.assertEqual((worker, job), (ran[trial], f"J{trial}"))
            numbers.setdefault(worker, []).append(int(number))
        self.assertEqual(set(links.values()), set(ran))
        for worker, given in numbers.items():
            self.assertEqual(sorted(given), list(range(1, len(given) + 1)), worker)
        self.assertEqual({link.name for link in (alone / "automl").iterdir()},
                         {f"W1_{number}_J{number}" for number in range(1, len(ran) + 1)})
        own = json.loads(files[0].read_text())
        self.assertEqual(own["format"], "voxnas.training")
        again = fresh("automl_again.json")
        shutil.copy(files[0], again)  # what was trained is a description itself
        self.assertEqual(self.json(again, "--dry-run")["training"]["network"], own["network"])
        self.assertIn("--seed 7", done.err + (run / "report.html").read_text(), "the configuration's seed")

    def test_trials_are_scored_by_the_metric_that_the_description_names(self):
        run, file = fresh("automl_metric"), WORK / "metric.json"
        file.write_text(json.dumps({
            "format": "voxnas.training", "version": 1, "steps": 3, "batch": 1, "learning_rate": 0.01,
            "sampling": {"args": {"patch": [16, 16, 16]}}, "validation": {"args": {"metric": "hd95_mm"}},
            "search": [{"type": "enum", "args": "learning_rate", "targets": [[0.01], [0.001]]}]}))
        self.good(file, "--data", data_set(), "--controller", "enum", "--threads", 1, "--device", "cpu", "-o", run)
        with sqlite3.connect(run / "results.sqlite") as rows:
            all_trials = rows.execute("SELECT purpose, status, score, details, metrics FROM trials").fetchall()
        self.assertEqual({status for _, status, *_ in all_trials}, {"done"})
        for purpose, _, score, details, metrics in all_trials:
            mean = json.loads(details)["foreground_mean"]
            if purpose == "search":
                self.assertAlmostEqual(score, -mean["hd95_mm"])
                self.assertLess(score, 0)
            else:  # the final comparison is by Dice, what is delivered by the metric
                self.assertAlmostEqual(score, mean["dice"])
                self.assertLess(json.loads(metrics)["inner_score"], 0)
        self.assertIn("−HD95 mm (final: Dice)", (run / "report.html").read_text())

    def test_a_network_and_a_loss_written_in_pytorch_are_named_by_path(self):
        """A U-Net class and a Dice loss class, scripted by PyTorch, in an MMAR."""
        if importlib.util.find_spec("torch") is None:
            self.assertNotEqual(os.environ.get("VOXNAS_ORACLES"), "required", "PyTorch is missing")
            self.skipTest("needs PyTorch in the Python environment of scripts/setup.sh")
        mmar, run, bad = fresh("automl_mmar"), fresh("automl_scripts"), fresh("automl_bad_scripts")
        shutil.copytree(MMAR, mmar)
        subprocess.run([sys.executable, HERE.parent / "interop" / "write_scripts.py", mmar / "config"], check=True)
        config = json.loads((MMAR / "config" / "enum.json").read_text())
        config["train"]["lr_scheduler"].pop("search")
        config["train"]["model"] = {"path": "unet.ts", "args": {"spatial_dims": 3, "in_channels": 1, "out_channels": 3}}
        config["train"]["loss"] = {"path": "dice.ts", "args": {"smooth": 0.001}, "search": [
            {"type": "enum", "args": ["smooth"], "targets": [[0.001], [10.0]], "domain": "net"}]}

        def search(folder, **how):
            (mmar / "config" / "scripts.json").write_text(json.dumps(config))
            words = (mmar, "--config", "scripts.json", "--data", data_set(), "--controller", "enum", "--steps", 3,
                     "--threads", 1, "--device", "cpu", "-o", folder)
            return self.failed(*words, **how) if how else self.good(*words)

        (mmar / "config" / "config_automl.json").write_text(json.dumps({"handlers": [
            {"name": "MMARHandler", "args": {"num_mmars_to_keep": 1, "stop_threshold": 0.99}}]}))
        done = search(run)
        self.assertIn("gives 1x3x", done.err, "shapes are probed and said")
        with sqlite3.connect(run / "results.sqlite") as rows:
            setup, recipe = (json.loads(text) for text in rows.execute("SELECT setup, recipe FROM runs").fetchone())
        self.assertEqual((setup["keep"], recipe["stages"][0]["stop"]["score"]), (1, 0.99), "as config_automl.json says")
        states = [json.loads(Done(["ctl", run, "trial", n, "--json"]).out)["folder"] for n in (1, 2)]
        self.assertEqual(sorted(states), ["full", "key"])
        trained = [json.loads((run / "trials" / f"{n}" / "training.json").read_text()) for n in (1, 2)]
        self.assertEqual([one["loss"]["args"]["smooth"] for one in trained], [0.001, 10.0])
        rows = Done(["report", run, "--json"])
        trials = {t["id"]: t for t in json.loads(rows.out)["trials"]}
        self.assertNotEqual(trials[1]["metrics"]["loss"], trials[2]["metrics"]["loss"], "the setting reaches the module")
        self.assertTrue((run / "model" / "network.ts").exists())
        out = fresh("automl_prediction")
        predicted = Done(["predict", run / "model", data_set() / "imagesTr", out, "--device", "cpu"])
        self.assertEqual(predicted.code, 0, predicted)
        self.assertEqual(len(list(out.glob("*.nii.gz"))), len(list((data_set() / "imagesTr").glob("*.nii.gz"))))
        exported = fresh("automl_exported.ts")
        self.assertEqual(Done(["export", run / "model", "--to", "torchscript", "-o", exported]).code, 0)
        self.assertTrue(exported.exists())

        dry = (mmar, "--config", "scripts.json", "--dry-run")
        self.assertIn("gives 1x3x", self.good(*dry).err, "also in a dry run")
        config["train"]["loss"]["path"] = "vector.ts"
        config["train"]["loss"].pop("search")
        config["train"]["loss"].pop("args")
        search(bad, says=["vector.ts", "expected a scalar loss"])
        self.failed(*dry, says=["vector.ts", "expected a scalar loss"])
        self.assertFalse((bad / "trials").exists(), "before the first trial")
        config["train"]["loss"] = {"path": "dice.ts", "args": {"smooth": 0.001}}
        config["train"]["loss"]["args"]["smoth"] = 1
        search(bad, says=["dice.ts", "'smoth'", "smooth (float)", "did you mean 'smooth'"])
        config["train"]["loss"]["args"].pop("smoth")
        config["train"]["model"]["path"] = "small.ts"
        search(bad, says=["small.ts: input 1x1x", "gives 1x3x", "input's size"])
        config["train"]["model"]["path"] = "missing.ts"
        search(bad, says=["missing.ts", "there is no file"])
        config["train"]["model"]["path"] = "my_network.MyUnet"
        search(bad, says=["train.model.path: 'my_network.MyUnet' brings Python code", "torch.jit.script"])

    def test_the_controller_may_be_a_stage_with_options(self):
        stage, run = WORK / "stage.json", fresh("automl_stage")
        words = (MMAR, "--config", "enum.json", "--controller", stage)

        def of(**keys):
            stage.write_text(json.dumps(keys))

        of(kind="tpe", trials=3, start=1, pruner={"kind": "threshold", "threshold": 2}, stop={"trials": 2})
        self.good(*words, "--data", data_set(), "--steps", 120, "--threads", 1, "--device", "cpu", "-o", run)
        with sqlite3.connect(run / "results.sqlite") as rows:
            recipe = json.loads(rows.execute("SELECT recipe FROM runs").fetchone()[0])
        first = recipe["stages"][0]
        self.assertEqual((first["kind"], first["trials"], first["start"], first["stop"]["trials"]), ("tpe", 3, 1, 2))
        self.assertEqual(first["pruner"]["kind"], "threshold")
        found = [row["status"] for row in trials(run) if row["stage"] == "search"]
        self.assertEqual(len(found), 2, "stopped after two outcomes")
        self.assertEqual(set(found), {"pruned"}, "no Dice reaches 2")
        of(kind="tpee")
        self.wrong(*words, "--dry-run", says=["stage.json: kind", "did you mean 'tpe'"])
        of(kind="gp", strat=3)
        self.refused(2, (*words, "--dry-run"), ["stage.json", "strat", "start"], {})
        of(kind="gp", share=1)
        self.wrong(*words, "--dry-run", says=["stage.json: share", "leave it out"])
        of(kind="external", command=["./mine"])
        self.wrong(*words, "--dry-run", says=["stage.json: kind", "found 'external'"])

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
