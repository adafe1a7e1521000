# SPDX-License-Identifier: Apache-2.0
import shutil

from support import MODEL, VerbTest, data_set, fresh


class Predict(VerbTest):
    verb = "predict"

    def test_a_folder_and_a_file(self):
        out, images = fresh("predictions"), data_set() / "imagesTs"
        report = self.json(MODEL, images, out, "--threads", 1)
        self.assertEqual(len(report["cases"]), 2)
        for case in report["cases"]:
            self.assertTrue((out / (case["case"] + ".nii.gz")).exists())
        one = fresh("one_prediction.nii.gz")
        self.good(MODEL, images / "phantom_007.nii.gz", one, "--threads", 1)
        self.assertEqual(one.read_bytes(), (out / "phantom_007.nii.gz").read_bytes())

    def test_a_file_that_cannot_be_read(self):
        images, out = fresh("some_images"), fresh("some_predictions")
        shutil.copytree(data_set() / "imagesTs", images)
        (images / "broken.nii.gz").write_text("no image")
        done = self.run_verb(MODEL, images, out, "--threads", 1)
        self.assertEqual(done.code, 1, done)
        self.assertIn("broken", done.err)
        self.assertTrue((out / "phantom_007.nii.gz").exists(), "the others are predicted")

    def test_wrong_use(self):
        image, out = data_set() / "imagesTs" / "phantom_007.nii.gz", fresh("wrong_prediction")
        self.wrong(MODEL, image, says="OUT")
        self.wrong(MODEL, image, out, "--step", 0, says="--step")
        self.wrong(MODEL, data_set() / "imagesTs", fresh("wrong.nii.gz"), says="OUT")
        self.failed("nowhere", image, out, says="nowhere")
        self.failed(MODEL, "no_image.nii.gz", out, says="no_image.nii.gz")
        self.assertFalse(out.exists())
