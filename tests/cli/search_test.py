# SPDX-License-Identifier: Apache-2.0
from support import SEARCH, VerbTest, data_set, fresh


class Search(VerbTest):
    verb = "search"

    def test_two_networks_of_two_steps(self):
        """Leaves the run that report reads."""
        fresh("search")
        result = self.json(data_set(), "--steps", 2, "--trials", 2, "--threads", 1, "-o", SEARCH)
        self.assertEqual(result["fold"], 0)
        self.assertTrue((SEARCH / "model" / "weights.safetensors").exists())
        self.assertTrue((SEARCH / "report.html").exists())

    def test_wrong_use(self):
        run = fresh("search_wrong")
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
