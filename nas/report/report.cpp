// SPDX-License-Identifier: Apache-2.0
#include "nas/report/report.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "nas/core/error.h"
#include "nas/core/quantity.h"
#include "nas/report/figures.h"
#include "nas/report/pictures.h"
#include "nas/report/stories.h"
#include "nas/report/tables.h"
#include "nas/report/text.h"

namespace nas {
namespace {

constexpr const char* kStyle = R"css(
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: #1b1f24; background: #fff;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-bottom: .2rem; border-bottom: 1px solid #d5dae0; }
.sub { color: #59636e; margin: 0 0 1.2rem; }
.verdict { font-size: 1.1rem; padding: .8rem 1rem; border-left: 5px solid #8c959f; background: #f5f7f9; }
.verdict.better { border-color: #08519c; } .verdict.worse { border-color: #d95f02; }
.note { color: #59636e; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; }
.tiles div { flex: 1 1 9rem; border: 1px solid #d5dae0; border-radius: 6px; padding: .5rem .8rem; }
.tiles b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.tiles span { color: #59636e; font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; }
th, td { text-align: left; padding: .28rem .6rem; border-bottom: 1px solid #e6e9ed; vertical-align: top; }
th { color: #59636e; font-weight: 600; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } th.n { white-space: normal; }
tr.chosen td { background: #eaf2fb; font-weight: 600; } tr.baseline td { background: #fdf1e7; } tr.failed td { color: #a40e26; }
svg { width: 100%; height: auto; } svg.half { width: 49%; min-width: 18rem; }
.scroll + .scroll { margin-top: 1rem; } td.w { min-width: 13rem; }
.grid { stroke: #e6e9ed; } .tick { font-size: 11px; fill: #59636e; } .label { font-size: 12px; fill: #1b1f24; }
.stair { fill: none; stroke: #1b1f24; stroke-width: 1.5; stroke-dasharray: 5 3; } .diagonal { stroke: #8c959f; stroke-dasharray: 4 3; }
.legend span { margin-right: 1.2rem; white-space: nowrap; font-size: .88rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 50%; margin-right: .35rem; vertical-align: -1px; box-sizing: border-box; }
.legend i.line { border-radius: 0; height: 0; border-top: 2px dashed #1b1f24; vertical-align: 4px; width: 1.4rem; }
figure { margin: 0 0 1.2rem; break-inside: avoid; }
.planes { display: flex; gap: .5rem; align-items: center; background: #000; padding: .5rem; }
.planes img { flex: 1 1 0; min-width: 0; max-width: 33%; max-height: 20rem; object-fit: contain; image-rendering: auto; }
figcaption { font-size: .88rem; color: #59636e; padding-top: .3rem; }
pre { background: #f5f7f9; padding: .7rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.network { max-width: 100%; }
summary { cursor: pointer; }
@media (max-width: 45rem) { svg.plot { min-width: 38rem; } svg.half { width: 100%; } .planes { flex-wrap: wrap; }
  .planes img { flex-basis: 9rem; max-width: 100%; } }
@media print { body { margin: 0; max-width: none; font-size: 11px; } h2 { break-after: avoid; } details { display: block; } }
)css";

/// Title, verdict and the figures of what was delivered.
void add_head(Html& page, const Json& data) {
  const std::string name = text_or(data.at("data"), "name");
  page.raw(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width\">\n");
  page.element("title", "VoxNAS: " + name)
      .raw("<style>")
      .raw(kStyle)
      .raw("</style></head><body>\n");
  page.element("h1", name.empty() ? "Search" : name);
  page.element("p",
               concat_text("VoxNAS ",
                           data.at("code_version").get<std::string>(),
                           " · recipe ",
                           text_or(data.at("recipe"), "name"),
                           " · budget ",
                           data.at("budget").at("text").get<std::string>(),
                           " · seed ",
                           data.at("seed").dump()),
               "class=\"sub\"");
  const std::string verdict =
      data.contains("comparison") ? data.at("comparison").at("verdict").get<std::string>() : "";
  page.element("p",
               data.at("verdict").get<std::string>(),
               verdict == "better"  ? "class=\"verdict better\""
               : verdict == "worse" ? "class=\"verdict worse\""
                                    : "class=\"verdict\"");
  const std::string delivered = data.at("delivered");
  if (verdict == "worse" || verdict == "better") {
    page.element(
        "p",
        chosen_before(data)
            ? "The search chose the delivered model before its final training, on the inner "
              "validation cases, from which both networks learned afterwards; both lie in the run "
              "folder, as best and baseline."
            : "The delivered model was chosen by the inner validation cases alone, which neither "
              "network learned from; both lie in the run folder, as best and baseline.",
        "class=\"note\"");
  }
  if (!delivered.empty()) {
    const Json& t = data.at("final").at(delivered);
    page.raw("<div class=\"tiles\">");
    auto tile = [&](const std::string& value, const std::string& what) {
      page.raw("<div>").element("b", value).element("span", what).raw("</div>");
    };
    tile(fixed(number_or(t, "score", NAN), 4),
         part(t, "cases").size() == 1
             ? std::string("Dice, the only held-out case")
             : concat_text("mean Dice, ", part(t, "cases").size(), " held-out cases"));
    tile(count_text(t.at("parameters")), "parameters");
    tile(count_text(t.at("macs")), "multiply-adds a patch");
    tile(budget_is_time(data) ? format_duration(data.at("clock")) : t.at("steps_done").dump(),
         budget_is_time(data) ? "of " + data.at("budget").at("text").get<std::string>()
                              : "steps of training");
    page.raw("</div>\n");
  }
}

/// The searched network against the baseline, in words and two plots.
void add_comparison(Html& page, const Json& data) {
  const Json& c = data.at("comparison");
  page.element("h2", "Searched network against the planned baseline");
  std::string how = concat_text(
      "Both were trained on the same cases, those of the fold ",
      chosen_before(data) ? "with" : "without",
      " the inner validation cases, with equal shares of the budget",
      chosen_before(data) ? " that the search left (each going on from its own race)" : "",
      ", and compared case by case.");
  if (c.at("interval")[0].is_number()) {
    how += concat_text(" Mean difference ",
                       with_sign(number_or(c, "mean_difference", NAN), 4),
                       " (shaded: 95 % interval by paired bootstrap over cases); Wilcoxon "
                       "signed-rank test over ",
                       c.at("wilcoxon_pairs").dump(),
                       " pairs that differ, two-sided, ",
                       c.at("wilcoxon_exact").get<bool>() ? "exact" : "normal approximation",
                       ": ",
                       p_text(c.at("wilcoxon_p").get<double>()),
                       ".");
  }
  page.element("p", how);
  page.raw(scatter_svg(c)).raw(difference_svg(c));
}

}  // namespace

const char* report_style() { return kStyle; }

std::string html_report(const std::filesystem::path& run_folder, const ReportOptions& options) {
  const Json data = report_data(run_folder);
  const bool compared = data.contains("comparison");
  const std::string delivered = data.at("delivered");
  Html page;
  add_head(page, data);
  if (compared) add_comparison(page, data);
  auto section = [&](const char* title, const Table& table) {
    if (!table.rows.empty()) page.element("h2", title).table(table);
  };
  section("Held-out cases by class", class_table(data));
  if (options.pictures && !delivered.empty()) add_pictures(page, run_folder, data, delivered);

  section("Every final training against the baseline", comparison_table(data));
  section("Stage by stage", stage_table(data, options.kinds));
  page.element("h2", "Search");
  page.raw(search_curve_svg(data));
  page.element("p",
               "Trials of one rung trained alike on the inner training cases; later rungs train "
               "longer. Scores of different rungs compare different amounts of training.",
               "class=\"note\"");
  page.table(trial_table(data));
  for (const Json& t : data.at("trials")) {
    if (const std::string message = t.at("message"); !message.empty()) {
      page.element("p", concat_text("Trial ", t.at("id").dump(), ": ", message), "class=\"note\"");
    }
  }
  add_stories(page, data, options.kinds);
  section("Learned from an earlier run", from_table(data));
  section("Tried because somebody asked for it", enqueued_table(data));
  section("Notes about trials", annotation_table(data));
  section("What the search changed", gene_table(data));
  section("Size and training", network_table(data));
  add_drawings(page, run_folder, data);

  section("Budget: forecast and spent", budget_table(data));
  if (const Json& cannot = part(data.at("forecast"), "cannot_buy");
      cannot.is_array() && !cannot.empty()) {
    page.raw("<p>Not in this budget:</p><ul>\n");
    for (const Json& c : cannot) page.element("li", c.get<std::string>());
    page.raw("</ul>\n");
  }
  section("Data", data_table(data));
  if (const Table intensity = intensity_table(data); !intensity.rows.empty()) page.table(intensity);
  if (compared) {
    page.element("h2", "Every held-out case");
    page.raw("<details open><summary>Table, worst first</summary>\n");
    page.table(case_table(data));
    page.raw("</details>\n");
  }
  page.raw(options.sections);
  page.element("h2", "To repeat it").element("pre", data.at("command").get<std::string>());
  page.raw("</body></html>\n");
  return page.str();
}

std::string markdown_report(const std::filesystem::path& run_folder, const StrategyKinds& kinds) {
  const Json data = report_data(run_folder);
  std::ostringstream out;
  auto section = [&](const char* title, const Table& table) {
    if (table.rows.empty()) return;
    out << "## " << title << "\n\n" << markdown_table(table) << '\n';
  };
  out << "# " << text_or(data.at("data"), "name") << "\n\n"
      << "VoxNAS " << data.at("code_version").get<std::string>() << ", recipe "
      << text_or(data.at("recipe"), "name") << ", budget "
      << data.at("budget").at("text").get<std::string>() << ", seed " << data.at("seed") << "\n\n**"
      << data.at("verdict").get<std::string>() << "**\n\n";
  section("Held-out cases by class", class_table(data));
  section("Every final training against the baseline", comparison_table(data));
  section("Stage by stage", stage_table(data, kinds));
  section("Search", trial_table(data));
  for (const StorySection& story : story_sections(data, kinds)) {
    out << "## " << story.title << "\n\n" << story.text << (story.text.empty() ? "" : "\n\n");
    for (const Table& table : story.tables) out << markdown_table(table) << '\n';
  }
  section("Learned from an earlier run", from_table(data));
  section("Tried because somebody asked for it", enqueued_table(data));
  section("Notes about trials", annotation_table(data));
  section("What the search changed", gene_table(data));
  section("Size and training", network_table(data));
  section("Budget: forecast and spent", budget_table(data));
  section("Data", data_table(data));
  section("Every held-out case", case_table(data));
  out << "## To repeat it\n\n```\n" << data.at("command").get<std::string>() << "\n```\n";
  return out.str();
}

}  // namespace nas
