# SPDX-License-Identifier: Apache-2.0
from support import VerbTest, data_set, fresh


class Dashboard(VerbTest):
    """The command line; tests/dashboard has the server and the pages."""

    verb = "dashboard"

    def test_help_says_how_to_reach_it_from_elsewhere(self):
        shown = self.good("--help").out
        for word in ("--actions", "--token-file", "ssh -L"):
            self.assertIn(word, shown)

    def test_says_what_is_no_run(self):
        self.wrong("nowhere", says=["nowhere", "found nothing"])
        self.failed(data_set(), says=[str(data_set()), "without any run"])
        text = fresh("text.sqlite")
        text.write_text("no database")
        self.failed(text, says=["text.sqlite", "expected a results database"])

    def test_wrong_use(self):
        self.wrong(says="RUN")
        self.wrong("nowhere", "--port", "70000", says="--port")
        self.wrong(data_set(), "--bind", "0.0.0.0", says=["--token-file", "ssh -L"])
        short = fresh("token")
        short.write_text("short\n")
        self.wrong(data_set(), "--token-file", short, says="at least 16 letters")
        self.failed(data_set(), "--token-file", "nowhere.txt", says="nowhere.txt")
