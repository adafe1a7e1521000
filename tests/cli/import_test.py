# SPDX-License-Identifier: Apache-2.0
from support import MODEL, Done, VerbTest, data_set, fresh


class Import(VerbTest):
    verb = "import"

    def test_what_export_wrote_for_nnunet(self):
        folder, model = fresh("for_nnunet"), fresh("imported")
        exported = Done(["export", MODEL, "--to", "nnunet", "-o", folder])
        self.assertEqual(exported.code, 0, exported)
        result = self.json("nnunet", folder, "-o", model)
        self.assertEqual(result["models"], [str(model)])
        out = fresh("imported_prediction.nii.gz")
        done = Done(["predict", model, data_set() / "imagesTs" / "phantom_007.nii.gz", out, "--threads", 1])
        self.assertEqual(done.code, 0, done)
        again = self.run_verb("nnunet", folder, "-o", model)
        self.assertEqual(again.code, 2, again)
        self.assertIn(str(model), again.err)

    def test_wrong_use(self):
        self.wrong("nnunet", says="FOLDER")
        self.wrong("nnunet", data_set(), says="--out")
        self.wrong("monai", data_set(), "-o", fresh("import_wrong"), says="nnunet")
        self.wrong("nnunet", "nowhere", "-o", fresh("import_wrong"), says="nowhere")
        self.failed("nnunet", data_set(), "-o", fresh("import_wrong"), says=str(data_set()))
        self.assertFalse(fresh("import_wrong").exists())
