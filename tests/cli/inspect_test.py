# SPDX-License-Identifier: Apache-2.0
import json
import os
import shutil
import unittest

from support import MODEL, WITH_TORCH, Done, VerbTest, data_set, fresh


class Inspect(VerbTest):
    verb = "inspect"

    def test_networks_by_name(self):
        here = fresh("inspect_here")
        here.mkdir()
        done = self.good("v-net", "--input", "4x96x96x96", cwd=here)
        self.assertIn("45.6", done.out)  # million parameters
        self.assertEqual(os.listdir(here), [], "nothing is written that was not asked for")
        network = self.json("unet", "--input", "1x16x16x16", "--batch", 1)
        self.assertEqual(network["input"], [16, 16, 16])
        self.assertEqual(network["parameters"], sum(node["parameters"] for node in network["nodes"]))

    def test_a_plan_and_another_point_of_its_space(self):
        plan = fresh("plan.json")
        plan.write_text(Done(["plan", data_set(), "--json"]).out)
        small = self.json(plan, "--genotype", "features=16", "--classes", 3)
        planned = self.json(plan, "--classes", 3)
        self.assertLess(small["parameters"], planned["parameters"])

    def test_files_are_written_where_asked(self):
        graph = fresh("unet_graph.json")
        self.good("unet", "--save", graph)
        self.assertEqual(self.json(graph)["name"], json.loads(graph.read_text())["name"])

    @unittest.skipUnless(shutil.which("dot"), "Graphviz's dot is not installed")
    def test_a_drawing(self):
        drawing = fresh("unet.svg")
        self.good("unet", "--svg", drawing)
        self.assertIn("<svg", drawing.read_text())

    @unittest.skipUnless(WITH_TORCH, "built without LibTorch")
    def test_a_model_folder(self):
        self.assertEqual(self.json(MODEL)["input"], [16, 16, 16])

    def test_wrong_use(self):
        self.wrong(says="NETWORK")
        self.wrong("unet", "--input", "16x16", says=["--input", "16x16"])
        self.wrong("unet", "--batch", "0", says="--batch")
        self.wrong("unet", "--no-drawing", says="unknown option --no-drawing")
        done = self.run_verb("no-such-network")
        self.assertIn(done.code, (1, 2), done)
        self.assertIn("no-such-network", done.err)
