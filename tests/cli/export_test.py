# SPDX-License-Identifier: Apache-2.0
import pathlib

from support import MODEL, VerbTest, fresh


class Export(VerbTest):
    verb = "export"

    def test_every_format_under_a_name_without_ending(self):
        for format in ("onnx", "torchscript", "safetensors", "pytorch", "monai-bundle", "nnunet"):
            out = fresh(f"export_{format}")
            written = self.json(MODEL, "--to", format, "-o", out)
            self.assertEqual(written["format"], format)
            self.assertTrue(pathlib.Path(written["out"]).exists(), written)

    def test_wrong_use(self):
        self.wrong(MODEL, says="--to")
        self.wrong(MODEL, "--to", "onxx", "-o", fresh("export_wrong"), says="onnx")
        self.failed("nowhere", "--to", "onnx", "-o", fresh("export_wrong"), says="nowhere")
        self.failed(MODEL, "--to", "onnx", "-o", "/proc/none/x", says="/proc/none")
        taken = fresh("export_taken")
        taken.write_text("mine")
        done = self.run_verb(MODEL, "--to", "onnx", "-o", taken)
        self.assertIn(done.code, (1, 2), done)
        self.assertIn("export_taken", done.err)
        self.assertEqual(taken.read_text(), "mine")
