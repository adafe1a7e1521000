// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "nas/core/json.h"

namespace nas {

/// How the figures of this project in a row came about.
enum class Obtained {
  Published,        // there are none: a result of others for comparison
  Computed,         // from the network, the space or the published figures themselves
  Measured,         // by a run whose results database was given
  NeedsData,        // nobody ran it here; `how` names data, GPU hours and experiment
  NotReproducible,  // what was published does not say enough
};
std::string to_text(Obtained obtained);

/// One quantity of a row. Several values belong to several classes ("67.71/47.73/68.16").
struct PaperCell {
  std::string column;
  std::vector<double> published = {}, ours = {};  // either may be empty
  int digits = 2;
};

struct PaperRow {
  std::string name;
  std::vector<PaperCell> cells = {};
  Obtained obtained = Obtained::Published;
  std::string how = {};     // the arithmetic, or what would have to be run; may be empty
  std::string source = {};  // of the published figures
};

/// One table of the V-NAS and C2FNAS slides, or of this project's own runs beside published ones.
struct PaperTable {
  std::string name;   // "search-cost"
  std::string title;  // with the unit
  std::string note = {};
  std::vector<PaperRow> rows = {};
};

/// Names in printing order.
std::vector<std::string> paper_table_names();
/// \param names empty: all. \param runs run folders with results.sqlite, for the tables of own
/// results. \throws Error(Usage) with the nearest name on an unknown one, Error(Io|Input) on a
/// folder that holds no results.
std::vector<PaperTable> paper_tables(const std::vector<std::string>& names,
                                     const std::vector<std::filesystem::path>& runs = {});

// Every form shows each published figure, ours, the difference, how ours was obtained and the
// source.
std::string tables_text(const std::vector<PaperTable>& tables);
std::string tables_markdown(const std::vector<PaperTable>& tables);
/// A list of {"name", "title", "note", "rows": [{"name", "obtained", "how", "source", "cells":
/// [{"column", "published", "ours", "difference"}]}]}.
Json tables_json(const std::vector<PaperTable>& tables);
/// Headings and tables without a page around them.
std::string tables_html_section(const std::vector<PaperTable>& tables);
/// All tables with the run among its own results, folded up, as a section of its report.
std::string tables_report_section(const std::filesystem::path& run);
/// One self-contained page: no script, nothing from outside.
std::string tables_html_page(const std::vector<PaperTable>& tables);

}  // namespace nas
