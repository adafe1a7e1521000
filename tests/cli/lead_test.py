# SPDX-License-Identifier: Apache-2.0
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time

from support import (SEARCH, VOXNAS, Done, VerbTest, environment, search_whose_leader_was_killed, trials,
                     wait_for_a_running_trial)


def copy_of_search(test):
    """Not beside the others, where `voxnas runs` would list it."""
    place = tempfile.mkdtemp(prefix="voxnas-lead-")
    test.addCleanup(shutil.rmtree, place)
    return pathlib.Path(shutil.copytree(SEARCH, pathlib.Path(place) / "run"))


class Lead(VerbTest):
    verb = "lead"

    def test_a_run_whose_leader_was_killed_goes_on_without_libtorch(self):
        run = search_whose_leader_was_killed("lead_killed", "cpu")
        leader = subprocess.Popen([str(VOXNAS), "lead", str(run)], env=environment(), stderr=subprocess.PIPE, text=True)
        wait_for_a_running_trial(run)
        mapped = open(f"/proc/{leader.pid}/maps").read()
        self.assertNotIn("libtorch", mapped)
        self.assertEqual(os.path.basename(os.readlink(f"/proc/{leader.pid}/exe")), "voxnas")
        said = leader.communicate(timeout=200)[1]
        self.assertEqual(leader.returncode, 0, said)
        rows = trials(run)
        self.assertTrue(all(row["status"] == "done" for row in rows), rows)
        self.assertEqual([row["label"] for row in rows if row["stage"] == "final"].count("best"), 1)
        self.assertTrue((run / "model").is_dir() and (run / "report.html").is_file())
        self.assertIn("held-out cases", said)

    def test_ctrl_c_leaves_a_run_that_goes_on(self):
        run = copy_of_search(self)
        with sqlite3.connect(run / "results.sqlite") as rows:  # as if its last training had not been done
            last = rows.execute("SELECT MAX(id) FROM trials").fetchone()[0]
            rows.execute("UPDATE trials SET status = 'queued', told = 0, told_order = 0, score = NULL WHERE id = ?", (last,))
            rows.execute("UPDATE stages SET status = 'running', winner = 'null' WHERE name = 'final'")
            rows.execute("UPDATE runs SET state = 'stopped'")
        leader = subprocess.Popen([str(VOXNAS), "lead", str(run)], stderr=subprocess.PIPE, text=True)
        for _ in range(300):
            if json.loads(Done(["ctl", run, "summary", "--json"]).out)["state"] == "running":
                break
            time.sleep(0.02)
        second = Done(["lead", run])
        self.assertEqual(second.code, 2, second)
        self.assertIn("another process is working on this run", second.err)
        leader.send_signal(signal.SIGINT)
        said = leader.communicate(timeout=30)[1]
        self.assertEqual(leader.returncode, 1, said)
        self.assertIn("waiting for workers: voxnas worker --run", said)
        self.assertIn("voxnas lead", said)
        self.assertEqual(json.loads(Done(["ctl", run, "summary", "--json"]).out)["state"], "stopped")

    def test_a_run_that_is_over_is_delivered_again_and_handlers_hear_of_it(self):
        run = copy_of_search(self)
        shutil.rmtree(run / "model")
        heard = run.parent / "heard"
        done = self.good(run, "--handler", f"tee {heard}")
        self.assertIn("report", done.err)
        self.assertTrue((run / "model").is_dir())
        events = [json.loads(line) for line in heard.read_text().splitlines()]
        self.assertIn("search_ended", [event.get("event") for event in events], events)

    def test_what_a_leader_without_libtorch_cannot_do_is_refused(self):
        timed = copy_of_search(self)
        with sqlite3.connect(timed / "results.sqlite") as rows:
            rows.execute("UPDATE runs SET budget_seconds = 60, budget_steps = 0")
        self.wrong(timed, says=["budget in time", "search --resume"])
        own = copy_of_search(self)
        with sqlite3.connect(own / "results.sqlite") as rows:
            setup = json.loads(rows.execute("SELECT setup FROM runs").fetchone()[0])
            setup["executor"] = "./mine"
            rows.execute("UPDATE runs SET setup = ?", (json.dumps(setup),))
        self.wrong(own, says=["./mine", "--executor"])

    def test_wrong_use(self):
        self.wrong(says="RUN")
        self.wrong("nowhere", says=["nowhere", "expected a run folder"])
        self.wrong(SEARCH, "--workers", "cpu:a", says="worker 2")
        self.wrong(SEARCH, "--webhook", "nowhere", says="--webhook")
        self.wrong(SEARCH, "--wrokers", "cpu", says="did you mean --workers?")
