# SPDX-License-Identifier: Apache-2.0
import json
import os
import random
import signal
import subprocess
import time

from support import (SEARCH, VOXNAS, WORK, Done, VerbTest, data_set, environment, fresh, search_whose_leader_was_killed, trials,
                     wait_for_a_running_trial)


def tpe_recipe(name, **options):
    """A recipe file whose search is asynchronous."""
    file = WORK / f"{name}.json"
    file.write_text(json.dumps({"format": "voxnas.recipe", "version": 1, "name": "mine", "space": "unet", "stages": [
        {"name": "search", "kind": "tpe", "share": 1, **options}, {"name": "final", "kind": "retrain", "share": 1}]}))
    return file


class Worker(VerbTest):
    verb = "worker"

    def test_a_search_on_two_workers_equals_one_in_one_process(self):
        run = fresh("search_on_workers")
        done = Done(["search", data_set(), "--steps", 2, "--trials", 2, "--threads", 1, "--workers", "cpu:cpu", "-o", run])
        self.assertEqual(done.code, 0, done)
        self.assertEqual(trials(run), trials(SEARCH))
        rows = json.loads(Done(["ctl", run, "trials", "--json"]).out)
        self.assertTrue({row["worker"] for row in rows} <= {"W1", "W2"}, rows)
        workers = json.loads(Done(["ctl", run, "workers", "--json"]).out)
        self.assertEqual([(one["name"], one["state"]) for one in workers], [("W1", "ended"), ("W2", "ended")])
        self.assertIn("worker W1 ends", (run / "workers" / "W1.log").read_text())

    def test_a_killed_leader_takes_its_workers_with_it_and_the_run_goes_on(self):
        run = search_whose_leader_was_killed("search_killed", "cpu:cpu")
        for _ in range(300):
            workers = json.loads(Done(["ctl", run, "workers", "--json"]).out)
            if workers and all(one["state"] in ("ended", "died") for one in workers):
                break
            time.sleep(0.1)
        self.assertTrue(all(one["state"] == "ended" for one in workers), workers)
        done = Done(["search", "--resume", run])
        self.assertEqual(done.code, 0, done)
        self.assertTrue(all(row["status"] == "done" for row in trials(run)), trials(run))

    def test_real_trials_survive_kills_of_leaders_and_workers(self):
        """kill -9 of whoever leads, of a worker, of both, also while `voxnas lead` takes the run over."""
        run = fresh("search_killed_often")
        recipe = tpe_recipe("tpe", trials=6, start=2)
        begin = ["search", data_set(), "--steps", 20, "--recipe", recipe, "--threads", 1, "--workers", "cpu:cpu",
                 "--keep", 1, "-o", run]
        go_on = ["lead", run]

        def start(words):
            return subprocess.Popen([str(word) for word in [VOXNAS, *words]], env=environment(), stderr=subprocess.DEVNULL)

        def living_workers():
            found = subprocess.run(["pgrep", "-f", f"worker --run {run} --name W1 "], capture_output=True, text=True)
            return [int(line) for line in found.stdout.split()]

        draw = random.Random(17)
        leader = start(begin)
        wait_for_a_running_trial(run)
        killed = 0
        whom = ["worker", "leader", "both", "leader at once", "worker", "leader at once", "both"]
        for who in whom:
            time.sleep(draw.uniform(0.1, 2.5))
            if leader.poll() is not None:
                break
            killed += 1
            if who in ("worker", "both"):
                for pid in living_workers():
                    os.kill(pid, signal.SIGKILL)
            if who != "worker":
                leader.kill()
                leader.wait()
                leader = start(go_on)
            if who == "leader at once":  # while it takes the run over
                time.sleep(draw.uniform(0, 0.3))
                leader.kill()
                leader.wait()
                leader = start(go_on)
        self.assertEqual(leader.wait(timeout=200), 0)
        self.assertGreaterEqual(killed, 2, "it was interrupted")
        rows = json.loads(Done(["ctl", run, "trials", "--json"]).out)
        searched = [row for row in rows if row["stage"] == "search"]
        self.assertEqual(len(searched), 6)
        self.assertTrue(all(row["status"] == "done" for row in rows), rows)
        self.assertEqual(sorted(row["told_order"] for row in rows), list(range(1, len(rows) + 1)), "no gap, none twice")
        self.assertEqual(len({row["genotype"] for row in searched}), 6)
        self.assertTrue((run / "model").is_dir())
        whole = [row for row in searched if json.loads(Done(["ctl", run, "trial", row["id"], "--json"]).out)["folder"] == "full"]
        self.assertEqual([row["score"] for row in whole], [max(row["score"] for row in searched)], "--keep 1")

    def test_ctl_stops_leader_and_workers_and_the_run_goes_on(self):
        run = fresh("search_stopped")
        words = ["search", data_set(), "--steps", 60, "--trials", 2, "--threads", 1, "--workers", "cpu:cpu", "-o", run]
        leader = subprocess.Popen([str(word) for word in [VOXNAS, *words]], env=environment(), stderr=subprocess.PIPE, text=True)
        wait_for_a_running_trial(run)
        self.assertEqual(Done(["ctl", run, "stop"]).code, 0)
        said = leader.communicate(timeout=120)[1]
        self.assertEqual(leader.returncode, 1, said)
        self.assertIn("voxnas search --resume", said)
        self.assertNotIn("no worker is left", said)
        self.assertEqual(json.loads(Done(["ctl", run, "summary", "--json"]).out)["state"], "stopped")
        done = Done(["search", "--resume", run])
        self.assertEqual(done.code, 0, done)
        self.assertTrue(all(row["status"] == "done" for row in trials(run)), trials(run))

    def test_a_genotype_that_is_enqueued_on_a_live_run_is_its_next_trial(self):
        run = fresh("search_enqueued")
        recipe = tpe_recipe("one_by_one", trials=6)
        words = ["search", data_set(), "--steps", 90, "--recipe", recipe, "--threads", 1, "--max-params-of-plan", 1.5, "-o", run]
        leader = subprocess.Popen([str(word) for word in [VOXNAS, *words]], env=environment(), stderr=subprocess.PIPE, text=True)
        wait_for_a_running_trial(run)
        for genotype, says in (("features=99", "must be one of"), ("widht=1", "no gene 'widht'"), ("features=64", "parameters"),
                               ("features=32", "trial 1 has this genotype already")):
            done = Done(["ctl", run, "enqueue", genotype])
            self.assertEqual(done.code, 2, done)
            self.assertIn(says, done.err)
        wanted = "kind=residual stages=3 blocks=1 decoder_convs=1 features=16"
        file = WORK / "wanted.txt"
        file.write_text(wanted + "\n")
        before = json.loads(Done(["ctl", run, "trials", "--json"]).out)
        done = Done(["ctl", run, "enqueue", file])
        self.assertEqual(done.code, 0, done)
        self.assertIn(f'{wanted}: the next trial of stage "search"', done.out)
        for _ in range(1200):
            time.sleep(0.1)
            rows = json.loads(Done(["ctl", run, "trials", "--json"]).out)
            found = [row for row in rows if row["asked_by"]]
            if found and found[0]["told_order"] > 0:
                break
        self.assertEqual([(row["genotype"], row["asked_by"], row["status"]) for row in found], [(wanted, "the user", "done")])
        # At most one more can begin while the wish is on its way.
        self.assertLessEqual(found[0]["id"], max(row["id"] for row in before) + 2)
        self.assertEqual(Done(["ctl", run, "stop"]).code, 0)
        said = leader.communicate(timeout=60)[1]
        self.assertEqual(leader.returncode, 1, said)

    def test_a_suspended_worker_gets_no_trial_until_it_is_resumed(self):
        run = fresh("search_suspended")
        recipe = tpe_recipe("many", trials=40, start=2)
        words = ["search", data_set(), "--steps", 160, "--recipe", recipe, "--threads", 1, "--workers", "cpu:cpu", "-o", run]
        leader = subprocess.Popen([str(word) for word in [VOXNAS, *words]], env=environment(), stderr=subprocess.PIPE, text=True)

        def of_worker(name):
            rows = json.loads(Done(["ctl", run, "trials", "--json"]).out)
            return [row["id"] for row in rows if row["worker"] == name]

        def wait(what, until):
            for _ in range(900):
                if until():
                    return
                time.sleep(0.1)
            self.fail(f"not within 90 s: {what}")

        def state(name):
            workers = json.loads(Done(["ctl", run, "workers", "--json"]).out)
            return next((one["state"] for one in workers if one["name"] == name), "")

        wait_for_a_running_trial(run)
        wait("both at work", lambda: of_worker("W1") and of_worker("W2"))
        self.assertEqual(Done(["ctl", run, "suspend", "W2"]).code, 0)
        wait("suspended, its trial ended", lambda: state("W2") == "suspended")
        had, other = of_worker("W2"), len(of_worker("W1"))
        wait("two more of the other", lambda: len(of_worker("W1")) >= other + 2)
        self.assertEqual(of_worker("W2"), had)
        self.assertEqual(Done(["ctl", run, "resume", "W2"]).code, 0)
        wait("another trial", lambda: len(of_worker("W2")) > len(had))
        self.assertEqual(Done(["ctl", run, "stop"]).code, 0)
        said = leader.communicate(timeout=120)[1]
        self.assertEqual(leader.returncode, 1, said)

    def test_a_run_that_is_over_needs_nobody(self):
        done = self.good("--run", SEARCH, "--name", "late")
        self.assertIn("ends after 0 trial(s)", done.err)

    def test_wrong_use(self):
        self.wrong(says="--run")
        self.wrong("--run", "nowhere", says=["nowhere", "expected a run folder"])
        self.wrong("--run", SEARCH, "--name", "../x", says=["--name", "without blanks"])
        self.wrong("--run", SEARCH, "--device", "gpu", says="device")
        self.wrong("--run", SEARCH, "--nmae", "a", says="did you mean --name?")
        self.assertEqual(Done(["search", data_set(), "--steps", 2, "--workers", "0::1", "-o", fresh("w")]).code, 2)
        done = Done(["search", data_set(), "--steps", 2, "--workers", "cpu:a", "-o", fresh("w")])
        self.assertEqual(done.code, 2, done)
        self.assertIn("worker 2", done.err)
