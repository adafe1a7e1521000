# SPDX-License-Identifier: Apache-2.0
import json

from support import SEARCH, WORK, Done, VerbTest, data_set, fresh


class Search(VerbTest):
    verb = "search"

    def test_two_networks_of_two_steps(self):
        """Leaves the run that report reads."""
        fresh("search")
        result = self.json(data_set(), "--steps", 2, "--trials", 2, "--threads", 1, "-o", SEARCH)
        self.assertEqual(result["fold"], 0)
        self.assertTrue((SEARCH / "model" / "weights.safetensors").exists())
        self.assertTrue((SEARCH / "report.html").exists())

    def test_begins_with_what_an_earlier_run_found(self):
        first, second = fresh("search_first"), fresh("search_second")
        how = ["--steps", 2, "--recipe", "random", "--threads", 1]
        self.good(data_set(), *how, "--trials", 3, "-o", first)
        best = json.loads(Done(["ctl", first, "trials", "--json"]).out)
        tried = {row["genotype"] for row in best if row["stage"] == "search" and row["label"] != "baseline"}
        self.good(data_set(), *how, "--trials", 1, "--from", first, "--from-best", 1, "--keep", 1, "-o", second)
        rows = [row for row in json.loads(Done(["ctl", second, "trials", "--json"]).out) if row["asked_by"]]
        self.assertEqual(len(rows), 1, rows)
        self.assertIn(rows[0]["genotype"], tried)
        self.assertEqual(rows[0]["asked_by"], f"run {first}")
        self.assertFalse((second / "best").is_symlink(), "the model of the final training lies there")
        report = json.loads(Done(["report", second, "--json"]).out)
        self.assertEqual((report["from"]["run"], report["from"]["differences"]), (str(first), []))
        self.assertEqual(Done(["report", second, "--markdown"]).code, 0)
        self.assertIn("Learned from an earlier run", (second / "report.md").read_text())
        self.assertIn("Tried because somebody asked for it", (second / "report.md").read_text())

    def test_wrong_use(self):
        run = fresh("search_wrong")
        self.wrong(data_set(), "--steps", 2, "--recipe", "random", "--from", "nowhere", "-o", run, says=["--from nowhere", "run folder"])
        self.wrong(data_set(), "--steps", 2, "--webhook", "example.org", "-o", run, says="--webhook: expected an address")
        self.wrong(data_set(), "--steps", 2, "--mlflow", "ftp://a", "-o", run, says="--mlflow: expected an address")
        recipe = WORK / "metric_recipe.json"
        for metric, kind, says in (("nsd", "race", "by Dice only"), ("hd95mm", "random", "did you mean 'hd95_mm'")):
            recipe.write_text(json.dumps({"format": "voxnas.recipe", "version": 1, "name": "mine", "metric": metric, "stages": [
                {"name": "a", "kind": kind, "share": 1}, {"name": "b", "kind": "retrain", "share": 1}]}))
            self.wrong(data_set(), "--steps", 2, "--recipe", recipe, "-o", run, says=["recipe mine: metric", says])
        self.wrong(data_set(), "--steps", 2, says="-o RUN")
        self.wrong(data_set(), "-o", run, says=["--budget", "--steps"])
        self.wrong(data_set(), "--steps", 2, "--space", "unett", "-o", run, says=["unett", "mixed-unet", "'unet'"])
        self.wrong(data_set(), "--steps", 2, "--recipe", "vnass", "-o", run, says="vnas")
        self.wrong(data_set(), "--effort", 30, "--prior", "nowhere", "-o", run, says=["--prior nowhere", "results database"])
        self.wrong(data_set(), "--steps", 2, "--recipe", "random", "--prior", "nowhere", "-o", run, says=["--prior", "auto has"])
        self.wrong(data_set(), "--steps", 2, "--max-params", "few", "-o", run, says="--max-params")
        self.wrong("--resume", run, "--steps", 2, says=["--resume", "--steps"])
        self.wrong("--resume", run, "--orientation", "RAS", "--planner", "default", "--max-params", "4M",
                   says=["leave out", "--orientation", "--planner", "--max-params"])
        self.wrong(data_set(), "--trails", 2, says="did you mean --trials?")
        self.failed("nowhere", "--steps", 2, "-o", run, says="nowhere")
