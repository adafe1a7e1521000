// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "experiments/paper_tables/paper_tables.h"
#include "nas/report/text.h"

namespace nas {
namespace {

std::vector<double> difference(const PaperCell& cell) {
  std::vector<double> result;
  if (cell.published.size() != cell.ours.size()) return result;
  for (std::size_t i = 0; i < cell.ours.size(); ++i)
    result.push_back(cell.ours[i] - cell.published[i]);
  return result;
}

std::string numbers(const std::vector<double>& values, int digits, bool sign = false) {
  std::string text;
  for (const double v : values) {
    text += (text.empty() ? "" : "/") + (sign ? with_sign(v, digits) : fixed(v, digits));
  }
  return text;
}

struct Column {
  std::string name;
  bool published = false, ours = false, both = false;  // in any row
};

const PaperCell* find_cell(const PaperRow& row, const std::string& column) {
  const auto found = std::ranges::find(row.cells, column, &PaperCell::column);
  return found == row.cells.end() ? nullptr : &*found;
}

/// Rows against quantities: for each quantity what was published, ours and the difference, as far
/// as there are any.
Table flat(const PaperTable& table) {
  std::vector<Column> columns;
  bool how = false;
  for (const PaperRow& row : table.rows) {
    how |= row.obtained != Obtained::Published || !row.how.empty();
    for (const PaperCell& cell : row.cells) {
      auto found = std::ranges::find(columns, cell.column, &Column::name);
      if (found == columns.end()) {
        columns.push_back({.name = cell.column});
        found = std::prev(columns.end());
      }
      found->published |= !cell.published.empty();
      found->ours |= !cell.ours.empty();
      found->both |= !difference(cell).empty();
    }
  }
  Table result;
  auto head = [&](const std::string& text, char side) {
    result.head.push_back(text);
    result.columns += side;
  };
  head("", 'l');
  for (const Column& c : columns) {
    if (c.published) head(c.ours ? c.name + ", published" : c.name, 'r');
    if (c.ours) head(c.published ? "ours" : c.name + ", ours", 'r');
    if (c.both) head("difference", 'r');
  }
  if (how) head("how ours was obtained", 'l');
  head("source", 'l');
  std::vector<std::string> sources;  // numbered; listed below the table
  for (const PaperRow& row : table.rows) {
    std::vector<std::string> line = {row.name};
    for (const Column& c : columns) {
      const PaperCell* cell = find_cell(row, c.name);
      const int digits = cell ? cell->digits : 0;
      if (c.published) line.push_back(cell ? numbers(cell->published, digits) : "");
      if (c.ours) line.push_back(cell ? numbers(cell->ours, digits) : "");
      if (c.both) line.push_back(cell ? numbers(difference(*cell), digits, true) : "");
    }
    if (how) {
      const std::string kind = row.obtained == Obtained::Published ? "" : to_text(row.obtained);
      line.push_back(kind + (kind.empty() || row.how.empty() ? "" : ": ") + row.how);
    }
    std::string mark;
    if (!row.source.empty()) {
      auto found = std::ranges::find(sources, row.source);
      if (found == sources.end()) found = sources.insert(sources.end(), row.source);
      mark = "[" + std::to_string(found - sources.begin() + 1) + "]";
    }
    line.push_back(mark);
    result.rows.push_back(std::move(line));
  }
  return result;
}

std::vector<std::string> source_lines(const PaperTable& table) {
  std::vector<std::string> sources;
  for (const PaperRow& row : table.rows) {
    if (!row.source.empty() && std::ranges::find(sources, row.source) == sources.end())
      sources.push_back(row.source);
  }
  for (std::size_t i = 0; i < sources.size(); ++i)
    sources[i] = "[" + std::to_string(i + 1) + "] " + sources[i];
  return sources;
}

}  // namespace

std::string to_text(Obtained obtained) {
  switch (obtained) {
    case Obtained::Published:
      return "published";
    case Obtained::Computed:
      return "computed";
    case Obtained::Measured:
      return "measured";
    case Obtained::NeedsData:
      return "needs";
    case Obtained::NotReproducible:
      return "not reproducible";
  }
  return "";
}

std::string tables_text(const std::vector<PaperTable>& tables) {
  std::ostringstream out;
  for (const PaperTable& table : tables) {
    if (&table != tables.data()) out << '\n';
    out << table.title << "  (" << table.name << ")\n";
    if (!table.note.empty()) out << table.note << '\n';
    out << text_table(flat(table));
    for (const std::string& line : source_lines(table)) out << line << '\n';
  }
  return out.str();
}

std::string tables_markdown(const std::vector<PaperTable>& tables) {
  std::ostringstream out;
  for (const PaperTable& table : tables) {
    if (&table != tables.data()) out << '\n';
    out << "## " << table.title << "\n\n";
    if (!table.note.empty()) out << table.note << "\n\n";
    out << markdown_table(flat(table)) << '\n';
    for (const std::string& line : source_lines(table)) out << line << "  \n";
  }
  return out.str();
}

Json tables_json(const std::vector<PaperTable>& tables) {
  Json list = Json::array();
  for (const PaperTable& table : tables) {
    Json rows = Json::array();
    for (const PaperRow& row : table.rows) {
      Json cells = Json::array();
      for (const PaperCell& cell : row.cells) {
        Json one = {{"column", cell.column}};
        if (!cell.published.empty()) one["published"] = cell.published;
        if (!cell.ours.empty()) one["ours"] = cell.ours;
        if (const auto d = difference(cell); !d.empty()) one["difference"] = d;
        cells.push_back(std::move(one));
      }
      rows.push_back({{"name", row.name},
                      {"obtained", to_text(row.obtained)},
                      {"how", row.how},
                      {"source", row.source},
                      {"cells", std::move(cells)}});
    }
    list.push_back({{"name", table.name},
                    {"title", table.title},
                    {"note", table.note},
                    {"rows", std::move(rows)}});
  }
  return list;
}

std::string tables_html_section(const std::vector<PaperTable>& tables) {
  Html html;
  for (const PaperTable& table : tables) {
    html.raw("<section id=\"" + escaped(table.name) + "\">\n").element("h2", table.title);
    if (!table.note.empty()) html.element("p", table.note);
    html.table(flat(table));
    for (const std::string& line : source_lines(table)) html.element("p", line, "class=\"note\"");
    html.raw("</section>\n");
  }
  return html.str();
}

std::string tables_report_section(const std::filesystem::path& run) {
  Html html;
  html.element("h2", "Published figures and ours")
      .raw("<details><summary>The papers' tables, with this run among our own</summary>\n")
      .raw(tables_html_section(paper_tables({}, {run})))
      .raw("</details>\n");
  return html.str();
}

std::string tables_html_page(const std::vector<PaperTable>& tables) {
  constexpr const char* kStyle =
      "body { font: 15px/1.5 system-ui, \"DejaVu Sans\", sans-serif; margin: 2rem; color: #1b1f24; "
      "}\n"
      ".scroll { overflow-x: auto; }\n"
      "table { border-collapse: collapse; font-size: .88rem; }\n"
      "th, td { text-align: left; padding: .28rem .6rem; border-bottom: 1px solid #e6e9ed; "
      "vertical-align: top; }\n"
      ".n { text-align: right; font-variant-numeric: tabular-nums; }\n"
      ".note { color: #59636e; font-size: .85rem; margin: .2rem 0; }\n";
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>VoxNAS: "
         "published figures and ours</title>\n<style>\n" +
         std::string(kStyle) + "</style>\n</head>\n<body>\n<h1>Published figures and ours</h1>\n" +
         tables_html_section(tables) + "</body>\n</html>\n";
}

}  // namespace nas
