# SPDX-License-Identifier: Apache-2.0
from support import VerbTest, fresh


class Tables(VerbTest):
    verb = "tables"

    def test_text_markdown_and_page(self):
        self.assertIn("V-Net", self.good("model-comparison").out)
        self.assertIn("| V-Net |", self.good("model-comparison", "--markdown").out)
        page = fresh("tables.html")
        done = self.good("search-cost", "--html", page)
        self.assertEqual(done.out, "")
        self.assertIn("<html", page.read_text())

    def test_json(self):
        self.assertGreater(len(self.json()), 3)
        self.assertEqual([table["name"] for table in self.json("model-comparison")], ["model-comparison"])

    def test_wrong_use(self):
        self.wrong("--json", "--markdown", says=["--json", "--markdown"])
        self.wrong("model-comparisn", says="model-comparison")
        self.wrong("--markdwn", says="--markdown")
