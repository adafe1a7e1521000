# SPDX-License-Identifier: Apache-2.0
import json
import os
import subprocess
import time

from support import MODEL, VOXNAS, VerbTest, data_set, environment, fresh, small_options


class Train(VerbTest):
    verb = "train"

    def test_a_few_steps(self):
        """Leaves the model that predict, export, import and inspect read."""
        run = fresh("train")
        result = self.json(data_set(), "--steps", 3, "--threads", 1, "--options", small_options(), "-o", run)
        self.assertEqual(result["steps"], 3)
        self.assertTrue((MODEL / "weights.safetensors").exists())
        self.assertEqual(json.loads((run / "metrics.json").read_text()), result["metrics"])

    def test_the_process_stays_the_one_that_was_started(self):
        """voxnas becomes voxnas-torch: a signal to the process that the user started reaches the training."""
        run = fresh("stopped")
        process = subprocess.Popen(
            [VOXNAS, "train", data_set(), "--steps", "100000", "--threads", "1", "--options", small_options(), "-o", run],
            stderr=subprocess.PIPE, text=True, env=environment())
        try:
            # training.json is written before the first step.
            while process.poll() is None and not (run / "training.json").exists():
                time.sleep(0.02)
            self.assertEqual(os.path.basename(os.readlink(f"/proc/{process.pid}/exe")), "voxnas-torch")
            process.terminate()
            err = process.communicate(timeout=120)[1]
        finally:
            process.kill()
        self.assertEqual(process.returncode, 1, err)
        self.assertIn("--resume", err)

    def test_wrong_use(self):
        run = fresh("train_wrong")
        self.wrong(data_set(), "--steps", 2, says="--output")
        self.wrong(data_set(), "-o", run, says=["--budget", "--steps"])
        self.wrong(data_set(), "--step", 2, "-o", run, says="did you mean --steps?")
        self.wrong(data_set(), "--steps", 2, "--fold", 99, "-o", run, says="--fold")
        self.wrong(data_set(), "--budget", "soon", "-o", run, says="soon")
        self.wrong("--resume", "-o", run, says=str(run))
        self.wrong("--resume", "-o", run, "--orientation", "RAS", "--planner", "resenc-m", "--accept-misaligned",
                   "--seed", 3, says=["leave out", "--orientation", "--planner", "--accept-misaligned", "--seed"])
        self.failed("nowhere", "--steps", 2, "-o", run, says="nowhere")
        self.assertFalse(run.exists(), "wrong use leaves nothing behind")
