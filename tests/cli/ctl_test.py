# SPDX-License-Identifier: Apache-2.0
from support import SEARCH, VerbTest


class Ctl(VerbTest):
    verb = "ctl"

    def test_looks_at_a_run(self):
        summary = self.json(SEARCH, "summary")
        self.assertEqual(summary["state"], "done")
        self.assertEqual(summary["stages"][-1]["name"], "final")
        trials = self.json(SEARCH, "trials")
        best = self.json(SEARCH, "trials", "--best", 1)
        self.assertEqual(best[0]["score"], max(trial["score"] for trial in trials if trial["score"] is not None))
        one = self.json(SEARCH, "trial", 1)
        self.assertEqual(one["id"], 1)
        self.assertIn("settings", one)
        self.assertEqual((one["annotations"], one["folder"]), ({}, "full"))
        self.json(SEARCH, "workers")
        self.assertIn("genotype", self.good(SEARCH, "trials").out)
        self.assertIn("done", self.good(SEARCH, "summary").out)

    def test_wrong_use(self):
        self.wrong(says="RUN")
        self.wrong(SEARCH, "trails", says="did you mean trials?")
        self.wrong(SEARCH, "trial", says="say which")
        self.wrong(SEARCH, "trial", "x", says="the number of a trial")
        self.wrong(SEARCH, "trial", 999, says="no trial 999")
        self.wrong(SEARCH, "abort", 1, says="has ended already")
        self.wrong(SEARCH, "suspend", "W9", says='no worker "W9"')
        self.wrong(SEARCH, "stop", says="not running but done")
        self.wrong(SEARCH, "enqueue", says="say which")
        self.wrong(SEARCH, "enqueue", "features=16", says="the run is done")
        self.wrong(SEARCH, "stop", "now", says="did not expect")
        self.wrong("nowhere", "summary", says="nowhere")
