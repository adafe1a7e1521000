// SPDX-License-Identifier: Apache-2.0
#include "nas/report/seeds.h"

#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "nas/core/error.h"
#include "nas/core/run_folder.h"
#include "nas/report/paired_dice.h"
#include "nas/report/report.h"
#include "nas/report/text.h"
#include "nas/search/statistics.h"

namespace nas {
namespace {

constexpr const char* kLabels[] = {"best", "control", "baseline"};

std::string shown(const std::string& label) { return label == "best" ? "searched" : label; }

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Table score_table(const Json& summary) {
  Table table{{"network"}, {}, "l", {}};
  for (const Json& run : summary.at("runs")) {
    table.head.push_back("seed " + run.at("seed").dump());
    table.columns += 'r';
  }
  table.head.insert(table.head.end(), {"mean", "sd over seeds"});
  table.columns += "rr";
  for (const char* label : kLabels) {
    const Json& row = part(summary.at("networks"), label);
    if (!row.is_object()) continue;
    std::vector<std::string> cells{shown(label)};
    for (const Json& score : row.at("scores")) {
      cells.push_back(score.is_number() ? fixed(score.get<double>(), 4) : "–");
    }
    cells.push_back(fixed(number_or(row, "mean", NAN), 4));
    cells.push_back(fixed(number_or(row, "sd", NAN), 4));
    table.rows.push_back(std::move(cells));
  }
  return table;
}

Table size_table(const Json& summary) {
  Table table{{"network", "seed", "parameters", "multiply-adds a patch", "steps"}, {}, "lrrrr", {}};
  for (const char* label : kLabels) {
    for (const Json& run : summary.at("runs")) {
      const Json& size = part(part(run, "sizes"), label);
      if (!size.is_object()) continue;
      table.rows.push_back({shown(label),
                            run.at("seed").dump(),
                            count_text(part(size, "parameters")),
                            count_text(part(size, "macs")),
                            part(size, "steps").dump()});
      table.classes.emplace_back("");
    }
  }
  return table;
}

/// Why equal budgets may not be equal work; "" if they are.
std::string budget_note(const Json& summary) {
  return budget_is_time(summary)
             ? ""
             : "Equal steps are not equal work: a larger network has more of it in each step.";
}

Table difference_table(const Json& summary) {
  Table table{{"network", "seed", "against the baseline", "95 % interval", "Wilcoxon p", ""},
              {},
              "lrrrrl",
              {}};
  for (const char* label : kLabels) {
    const Json& row = part(summary.at("differences"), label);
    if (!row.is_object()) continue;
    const std::string name = shown(label);
    const auto add = [&](const std::string& seed, const Json& c) {
      if (!c.is_object()) return;
      table.rows.push_back({name,
                            seed,
                            with_sign(number_or(c, "mean_difference", NAN), 4),
                            interval_text(c.at("interval"), 4),
                            p_text(number_or(c, "wilcoxon_p", NAN)),
                            c.at("verdict").get<std::string>()});
      table.classes.emplace_back(seed == "pooled" ? "chosen" : "");
    };
    for (const Json& c : row.at("seeds")) add(c.at("seed").dump(), c);
    add("pooled", part(row, "pooled"));
  }
  return table;
}

/// A network against the baseline on the same cases in several seeds.
class SeedPairs {
 public:
  /// \param cases of report_data's comparison, of one seed.
  void add(const Json& cases) {
    std::map<std::string, std::size_t> places;
    for (const Json& one : cases) {
      const std::string id = text_or(one, "id");
      const std::size_t place = places.size();
      places.emplace(id, place);
      std::vector<double>& differences = by_case_[id];
      if (one.at("difference").is_number()) differences.push_back(one.at("difference"));
    }
    seeds_.push_back({PairedDice(cases), std::move(places)});
  }

  /// The mean over seeds of the difference of the figures; a case's own difference is its mean over
  /// the seeds.
  PairedComparison compare() const {
    std::vector<std::string> ids;
    std::vector<double> differences;
    for (const auto& [id, values] : by_case_) {
      ids.push_back(id);
      if (!values.empty()) differences.push_back(mean(values));
    }
    const auto difference = [&](std::span<const std::size_t> items) {
      std::vector<double> figures;
      for (const Seed& seed : seeds_) {
        std::vector<std::size_t> own;
        for (const std::size_t i : items) {
          if (const auto at = seed.places.find(ids[i]); at != seed.places.end())
            own.push_back(at->second);
        }
        if (const double d = seed.dice.difference(own); std::isfinite(d)) figures.push_back(d);
      }
      return mean(figures);
    };
    return compare_paired(static_cast<std::int64_t>(ids.size()), difference, differences, 1);
  }

 private:
  struct Seed {
    PairedDice dice;
    std::map<std::string, std::size_t> places;  // of a case in `dice`
  };
  std::vector<Seed> seeds_;
  std::map<std::string, std::vector<double>> by_case_;  // differences, one per seed that has one
};

}  // namespace

Json seeds_summary(const std::vector<std::filesystem::path>& runs) {
  Json summary = {{"runs", Json::array()}, {"networks", Json::object()}};
  std::map<std::string, std::vector<double>> scores;
  std::map<std::string, Json> differences;
  std::map<std::string, SeedPairs> pairs;  // by label
  for (const std::filesystem::path& folder : runs) {
    const Json data = report_data(folder);
    Json run = {{"folder", folder.filename().string()},
                {"seed", data.at("seed")},
                {"clock", data.at("clock")},
                {"delivered", data.at("delivered")},
                {"verdict", data.at("verdict")}};
    if (summary.at("runs").empty()) {
      summary["data"] = data.at("data");
      summary["recipe"] = text_or(data.at("recipe"), "name");
      summary["budget"] = data.at("budget");
      summary["fold"] = data.at("fold");
    }
    for (const char* label : kLabels) {
      const Json& row = part(data.at("final"), label);
      const double score = row.is_object() ? number_or(row, "score", NAN) : NAN;
      scores[label].push_back(score);
      run[label] = number(score);
      if (row.is_object()) {
        run["sizes"][label] = {{"parameters", row.at("parameters")},
                               {"macs", row.at("macs")},
                               {"steps", row.at("steps_done")}};
      }
      const Json& c = part(data.at("comparisons"), label);
      if (!c.is_object()) continue;
      Json item = c;
      item.erase("cases");
      item["seed"] = data.at("seed");
      differences[label]["seeds"].push_back(std::move(item));
      pairs[label].add(c.at("cases"));
    }
    summary["runs"].push_back(std::move(run));
  }
  for (const auto& [label, values] : scores) {
    std::vector<double> finite;
    Json list = Json::array();
    for (const double v : values) {
      list.push_back(number(v));
      if (std::isfinite(v)) finite.push_back(v);
    }
    if (finite.empty()) continue;
    summary["networks"][label] = {{"scores", list},
                                  {"mean", number(mean(finite))},
                                  {"sd", number(standard_deviation(finite))}};
  }
  summary["differences"] = Json::object();
  for (auto& [label, row] : differences) {
    std::vector<double> per_seed;
    std::int64_t better = 0;
    for (const Json& c : row.at("seeds")) {
      const double difference = number_or(c, "mean_difference", NAN);
      if (std::isfinite(difference)) per_seed.push_back(difference);
      better += difference > 0 ? 1 : 0;
    }
    const PairedComparison c = pairs.at(label).compare();
    row["better_seeds"] = better;
    row["sd_over_seeds"] = number(standard_deviation(per_seed));
    row["pooled"] = {{"cases", c.pairs},
                     {"mean_difference", number(c.difference)},
                     {"interval", {number(c.interval.low), number(c.interval.high)}},
                     {"wilcoxon_p", c.wilcoxon.p_value},
                     {"verdict", c.verdict}};
    summary["differences"][label] = std::move(row);
  }
  return summary;
}

std::vector<std::filesystem::path> finished_seeds(const std::filesystem::path& folder) {
  std::map<std::uint64_t, std::filesystem::path> runs;
  if (!std::filesystem::is_directory(folder)) return {};
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(RunFolder::kSeedPrefix) ||
        !std::filesystem::exists(RunFolder(entry.path()).report())) {
      continue;
    }
    std::uint64_t seed = 0;
    const char* end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + RunFolder::kSeedPrefix.size(), end, seed);
    if (parsed.ec == std::errc() && parsed.ptr == end) runs[seed] = entry.path();
  }
  std::vector<std::filesystem::path> sorted;
  for (const auto& [seed, run] : runs) sorted.push_back(run);
  return sorted;
}

std::string seeds_sentence(const Json& summary) {
  const Json& row = part(summary.at("differences"), "best");
  const std::size_t runs = summary.at("runs").size();
  if (!row.is_object()) {
    return concat_text(
        "In none of ", runs, " seeds did the search choose another network than the plan.");
  }
  const Json& pooled = row.at("pooled");
  return concat_text(
      "Over ",
      row.at("seeds").size(),
      row.at("seeds").size() < runs
          ? concat_text(" of ", runs, " seeds (in the others the plan itself was chosen)")
          : " seeds",
      " the searched network beat the planned baseline ",
      row.at("better_seeds").get<std::int64_t>(),
      " times; mean difference ",
      with_sign(number_or(pooled, "mean_difference", NAN), 4),
      ", 95 % interval over cases ",
      interval_text(pooled.at("interval"), 4),
      ": ",
      pooled.at("verdict") == "not distinguishable"
          ? "not distinguishable from the baseline"
          : pooled.at("verdict").get<std::string>() + " than the baseline",
      ".");
}

std::string seeds_html(const Json& summary) {
  const std::string name = text_or(summary.at("data"), "name");
  Html page;
  page.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n")
      .element("title", "VoxNAS: " + name + ", several seeds")
      .raw("<style>")
      .raw(report_style())
      .raw("</style></head><body>\n");
  page.element("h1", name);
  page.element("p",
               concat_text("recipe ",
                           text_or(summary, "recipe"),
                           " · ",
                           summary.at("runs").size(),
                           " seeds of ",
                           text_or(summary.at("budget"), "text"),
                           " each"),
               "class=\"sub\"");
  page.element("p", seeds_sentence(summary), "class=\"verdict\"");
  page.element("h2", "Mean Dice on the held-out cases").table(score_table(summary));
  page.element("h2", "Against the baseline of the same seed").table(difference_table(summary));
  page.element(
      "p",
      "Pooled: each case's difference is its mean over the seeds; cases are then resampled.",
      "class=\"note\"");
  page.element("h2", "Sizes").table(size_table(summary));
  if (const std::string note = budget_note(summary); !note.empty()) {
    page.element("p", note, "class=\"note\"");
  }
  page.element("h2", "The runs").raw("<ul>\n");
  for (const Json& run : summary.at("runs")) {
    page.raw("<li><a href=\"" + escaped(text_or(run, "folder")) + "/report.html\">")
        .raw(escaped("seed " + run.at("seed").dump()))
        .raw("</a>: ")
        .raw(escaped(text_or(run, "verdict")))
        .raw("</li>\n");
  }
  page.raw("</ul></body></html>\n");
  return page.str();
}

std::string seeds_markdown(const Json& summary) {
  std::ostringstream out;
  out << "# " << text_or(summary.at("data"), "name") << "\n\n**" << seeds_sentence(summary)
      << "**\n\n## Mean Dice on the held-out cases\n\n"
      << markdown_table(score_table(summary)) << "\n## Against the baseline of the same seed\n\n"
      << markdown_table(difference_table(summary)) << "\n## Sizes\n\n"
      << markdown_table(size_table(summary));
  if (const std::string note = budget_note(summary); !note.empty()) out << '\n' << note << '\n';
  return out.str();
}

}  // namespace nas
