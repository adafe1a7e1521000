# SPDX-License-Identifier: Apache-2.0
from support import SEARCH, Done, VerbTest, data_set, fresh


class Runs(VerbTest):
    verb = "runs"

    def test_lists_the_runs_of_folders_and_of_a_database(self):
        listed = self.json(SEARCH.parent, "--recipe", "auto")
        mine = [run for run in listed if run["folder"] == str(SEARCH)]
        self.assertEqual(len(mine), 1, listed)
        self.assertEqual(mine[0]["state"], "done")
        self.assertGreater(mine[0]["score"], -1)
        self.assertIn(str(SEARCH), self.good(SEARCH).out)
        self.assertIn("no runs", self.good(data_set()).out)
        self.assertEqual(self.json("--db", SEARCH / "results.sqlite", "--state", "done")[0]["id"], 1)
        self.assertEqual(self.json("--db", SEARCH / "results.sqlite", "--data", "no such name"), [])

    def test_two_runs_in_one_database(self):
        folder = fresh("lab")
        folder.mkdir()
        for name in ("a", "b"):
            done = Done(["search", data_set(), "--steps", 1, "--trials", 1, "--threads", 1, "--recipe", "random", "--db",
                         folder / "lab.sqlite", "-o", folder / name])
            self.assertEqual(done.code, 0, done)
        listed = self.json("--db", folder / "lab.sqlite", "--best")
        self.assertEqual(sorted(run["id"] for run in listed), [1, 2])
        self.assertEqual(listed[0]["score"], listed[1]["score"])
        self.assertFalse((folder / "a" / "results.sqlite").exists())
        done = Done(["report", folder / "b", "--json"])
        self.assertEqual(done.code, 0, done)
        self.assertEqual(Done(["search", "--resume", folder / "b"]).code, 0)

    def test_wrong_use(self):
        self.wrong("--db", SEARCH / "results.sqlite", SEARCH, says="choose one")
        self.wrong("nowhere", says="nowhere")
        self.wrong("--state", "happy", says="--state")
        self.failed("--db", "nowhere.sqlite", says="nowhere.sqlite")
