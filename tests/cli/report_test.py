# SPDX-License-Identifier: Apache-2.0
from support import SEARCH, VerbTest, data_set, fresh


class Report(VerbTest):
    verb = "report"

    def test_html_markdown_and_json(self):
        page, text = fresh("report.html"), fresh("report.md")
        self.good(SEARCH, "-o", page, "--no-pictures")
        self.assertIn("</html>", page.read_text())
        self.good(SEARCH, "--markdown", "-o", text)
        self.assertIn("|", text.read_text())
        numbers = self.json(SEARCH)
        self.assertEqual(numbers["budget"]["steps"], 2)

    def test_wrong_use(self):
        self.wrong(says="RUN")
        self.wrong(SEARCH, "--markdown", "--json", says=["--markdown", "--json"])
        self.wrong(SEARCH, "--markdwon", says="did you mean --markdown?")
        self.failed("nowhere", says="nowhere")
        self.failed(data_set(), says=str(data_set()))
