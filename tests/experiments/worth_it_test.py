#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tables of experiments/worth_it from runs made up here."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPTS = pathlib.Path(__file__).parents[2] / "experiments/worth_it"
sys.path.insert(0, str(SCRIPTS))
import paired  # noqa: E402
import schedules  # noqa: E402
import worth_it  # noqa: E402


class Paired(unittest.TestCase):
    def test_the_mean_is_over_the_cases_of_a_class_then_over_classes(self):
        run = {("a", 0): 0.8, ("b", 0): 0.6, ("a", 1): 0.3}
        self.assertAlmostEqual(paired.mean_dice([run]), (0.7 + 0.3) / 2)
        self.assertAlmostEqual(paired.mean_dice([run, {("a", 0): 0.1, ("a", 1): 0.1}]), (0.5 + 0.1) / 2)
        self.assertAlmostEqual(paired.mean_dice([run], {"a": 2}), (0.8 + 0.3) / 2, msg="b was not drawn")

    def test_a_difference_that_all_cases_share_is_sure_and_chance_is_not(self):
        cases = [f"c{i}" for i in range(40)]
        other = {(c, 0): 0.5 + 0.01 * (i % 7) for i, c in enumerate(cases)}
        better = {key: dice + 0.02 for key, dice in other.items()}
        mean, low, high = paired.difference([better], [other])
        for value in (mean, low, high):
            self.assertAlmostEqual(value, 0.02)
        noisy = {key: dice + (0.05 if i % 2 else -0.05) for i, (key, dice) in enumerate(other.items())}
        mean, low, high = paired.difference([noisy], [other])
        self.assertLess(low, -0.005)
        self.assertGreater(high, 0.005)
        self.assertEqual(paired.difference_text([better], [other]), "+0.0200 [+0.0200, +0.0200]")

    def test_a_case_without_the_class_counts_nowhere(self):
        cases = [{"id": "a", "classes": [{"dice": 0.5}, {"dice": None}]}]
        self.assertEqual(paired.dice_by_case(cases), {("a", 0): 0.5})


class Tables(unittest.TestCase):
    def test_schedules_of_finished_trainings(self):
        with tempfile.TemporaryDirectory() as place:
            for seed in (1, 2):
                for schedule, dice in (("open_end", 0.8), ("cosine", 0.7)):
                    folder = pathlib.Path(place) / f"D_{schedule}_300_x0.25_{seed}"
                    folder.mkdir()
                    cases = [{"id": c, "classes": [{"dice": dice}]} for c in "ab"]
                    (folder / "metrics.json").write_text(json.dumps({"cases": cases}))
            done = subprocess.run([sys.executable, SCRIPTS / "schedules.py", "D", "-o", place, "--only-table"],
                                  capture_output=True, text=True)
            self.assertIn("| D | 300 | 2 | 0.8000 | 0.7000 | +0.1000 [+0.1000, +0.1000] |", done.stdout, done.stderr)
            self.assertEqual((pathlib.Path(place) / "schedules.md").read_text().strip(), done.stdout.strip())

    def test_the_cosine_is_the_one_that_was_the_rule(self):
        self.assertEqual(schedules.options("open end", 300), {"batch": 2, "mirror": False})
        cosine = schedules.options("cosine", 300)
        self.assertEqual((cosine["schedule"], cosine["warmup_fraction"]), ("cosine", 0.05))
        self.assertAlmostEqual(cosine["average_decay"], 1 - 1 / 15)
        self.assertEqual(schedules.options("cosine", 50)["average_decay"], 0)

    def test_worth_it_in_markdown_and_as_a_picture(self):
        plan = {"data": "D", "effort": 60.0, "recipe": "plan", "seeds": 2, "dice": 0.8, "runs": [0.79, 0.81],
                "parameters": 5.6e6, "macs": 19.14e9}
        auto = dict(plan, recipe="auto", dice=0.82, runs=[0.82, 0.82], difference="+0.0200 [+0.0100, +0.0300]",
                    macs_of_plan=0.063, parameters_of_plan=0.07)
        text = worth_it.markdown([plan, auto])
        self.assertIn("| D | 60 | plan | 2 | 0.8000 |  | 5.60 M | 19.14 G |", text)
        self.assertIn("| D | 60 | auto | 2 | 0.8200 | +0.0200 [+0.0100, +0.0300] | 7.0 % | 6.3 % |", text)
        svg = worth_it.picture([plan, auto])
        self.assertEqual(svg.count("<circle"), 4)
        self.assertIn(">auto<", svg)


if __name__ == "__main__":
    unittest.main()
