# SPDX-License-Identifier: Apache-2.0
"""What the tests of the command line share: voxnas as a process, a small data set, the schemas.

Each verb has a file <verb>_test.py with one class of tests. ctest starts them through run.py, one verb a test, all with
the same work folder: `train` leaves a model there and `search` a finished run, which other verbs read (CMakeLists.txt
says who needs whom).
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import time
import unittest

import jsonschema
import referencing

VOXNAS = pathlib.Path(os.environ["VOXNAS"])
WORK = pathlib.Path(os.environ["VOXNAS_CLI_WORK"])
HERE = pathlib.Path(__file__).parent
HEAVY = {"train", "predict", "search", "worker", "automl", "export", "import"}  # the verbs that may load LibTorch
WITH_TORCH = (VOXNAS.parent / "voxnas-torch").exists()  # the build has the heavy verbs
SMALL = {"patch": [16, 16, 16], "batch": 1}  # training options that keep a step short


def schemas():
    """Validators by file name; a schema may refer to another one by that name."""
    found = {file.name: json.loads(file.read_text()) for file in sorted((HERE / "schemas").glob("*.json"))}
    registry = referencing.Registry().with_resources(
        [(name, referencing.Resource.from_contents(schema)) for name, schema in found.items()])
    return {name: jsonschema.Draft202012Validator(schema, registry=registry) for name, schema in found.items()}


SCHEMAS = schemas()


class Done:
    """A finished process: code, out, err, and the shared libraries that it loaded (light verbs only)."""

    def __init__(self, words, env=None, program=VOXNAS, cwd=None, timeout=240):
        words = [str(word) for word in words]
        self.command = " ".join(["voxnas", *words])
        own = {**environment(), "NO_COLOR": "1", **(env or {})}
        traced = not (words and words[0] in HEAVY) and "--libtorch" not in words
        trace = WORK / f"libraries_{os.getpid()}"
        if traced:
            own.update(LD_DEBUG="files", LD_DEBUG_OUTPUT=str(trace))
        process = subprocess.Popen([str(program), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   errors="replace", env=own, cwd=cwd or WORK)
        try:
            self.out, self.err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        self.code = process.returncode
        self.libraries = ""
        if traced:
            file = trace.with_name(f"{trace.name}.{process.pid}")
            self.libraries = file.read_text(errors="replace")
            file.unlink()

    def __str__(self):
        return f"{self.command}\n-> exit {self.code}\n{self.err[-2000:]}"


class VerbTest(unittest.TestCase):
    """Tests of one verb; `verb` is what comes after voxnas."""

    verb = ""

    def run_verb(self, *words, **how):
        done = Done([self.verb, *words], **how)
        if self.verb not in HEAVY:
            self.assertNotRegex(done.libraries, r"lib(torch|c10|gomp|cuda)", done)
            self.assertIn("libstdc++", done.libraries, "the loader told which libraries it took")
        self.assertNotIn("frame #", done.err, done)
        return done

    def good(self, *words, **how):
        done = self.run_verb(*words, **how)
        self.assertEqual(done.code, 0, done)
        return done

    def wrong(self, *words, says, **how):
        """Wrong use: exit code 2 and every text of `says` in the one error."""
        return self.refused(2, words, says, how)

    def failed(self, *words, says, **how):
        """Work that could not be done: exit code 1."""
        return self.refused(1, words, says, how)

    def refused(self, code, words, says, how):
        done = self.run_verb(*words, **how)
        self.assertEqual(done.code, code, done)
        self.assertEqual(done.out, "", f"{done}\nerrors go to stderr")
        self.assertRegex(done.err, r"(?m)^(error:|fatal) ", done)
        for text in [says] if isinstance(says, str) else says:
            self.assertIn(text, done.err, done)
        return done

    def json(self, *words, schema=None, **how):
        """Runs with --json; stdout is one document that keeps the schema of the verb."""
        return self.document_of(self.good(*words, "--json", **how), schema)

    def document_of(self, done, schema=None):
        document = json.loads(done.out)
        SCHEMAS[f"{schema or self.verb}.json"].validate(document)
        return document


def help_of(verb):
    return Done([verb, "--help"] if verb else ["--help"])


def verbs():
    """The names in the table that --help prints."""
    table = help_of("").out.split("Subcommands:")[1]
    return re.findall(r"(?m)^  ([a-z]+) ", table)


def data_set(name="data", cases=6):
    """A phantom in the work folder, made once."""
    folder = WORK / name
    if not folder.exists():
        making = WORK / f"{name}_{os.getpid()}"
        done = Done(["phantom", making, "--cases", cases, "--size", "16x20x18", "--name", name])
        assert done.code == 0, done
        try:
            making.rename(folder)
        except OSError:  # another test was first
            shutil.rmtree(making)
    return folder


def fresh(name):
    """A path in the work folder where nothing is."""
    path = WORK / name
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
    return path


def small_options():
    file = WORK / "options.json"
    if not file.exists():
        file.write_text(json.dumps(SMALL))
    return file


def trials(run):
    """What a run found, without what may differ between two equal runs."""
    rows = json.loads(Done(["ctl", run, "trials", "--json"]).out)
    return [{key: row[key] for key in ("id", "stage", "status", "score", "genotype", "steps_done", "label")} for row in rows]


MODEL = WORK / "train" / "model"  # of train_test.py
SEARCH = WORK / "search"  # of search_test.py


def environment():
    return {**os.environ, "VOXNAS_DATA_CACHE": str(WORK / "cache")}


def wait_for_a_running_trial(run):
    for _ in range(600):
        time.sleep(0.1)
        done = Done(["ctl", run, "trials", "--json"]) if (run / "results.sqlite").exists() else None
        if done and done.code == 0 and any(row["status"] == "running" for row in json.loads(done.out)):
            return
    raise AssertionError(f"{run}: no trial has begun")


def search_whose_leader_was_killed(name, workers):
    """The folder of a search that had begun its trials."""
    run = fresh(name)
    words = ["search", data_set(), "--steps", 60, "--trials", 2, "--threads", 1, "--workers", workers, "-o", run]
    leader = subprocess.Popen([str(word) for word in [VOXNAS, *words]], env=environment(), stderr=subprocess.DEVNULL)
    wait_for_a_running_trial(run)
    leader.kill()
    leader.wait()
    return run
