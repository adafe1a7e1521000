// SPDX-License-Identifier: Apache-2.0
#include "nas/report/stories.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/quantity.h"
#include "nas/report/controller_stories.h"
#include "nas/report/plot.h"
#include "nas/search/strategy_kind.h"

namespace nas {
namespace {

constexpr std::size_t kCandidatesShown = 10;

std::string kind_words(const StrategyKinds& kinds, const Json& stage) {
  const StrategyKind* kind = find_kind(kinds, text_or(stage, "kind"));
  return kind == nullptr ? "" : kind->words;
}

/// Sum of `key` over all trials of a stage.
double total_of(const char* key, const Json& data, const std::string& stage) {
  double sum = 0;
  for (const Json& t : data.at("trials")) {
    if (t.at("stage") == stage) sum += t.at(key).get<double>();
  }
  return sum;
}

const Json* trial_with_id(const Json& data, const Json& id) {
  for (const Json& t : data.at("trials")) {
    if (t.at("id") == id) return &t;
  }
  return nullptr;
}

/// Scored entries of `scores`, best first.
std::vector<const Json*> by_score(const Json& scores) {
  std::vector<const Json*> order;
  for (const Json& s : scores) {
    if (part(s, "score").is_number()) order.push_back(&s);
  }
  std::stable_sort(order.begin(), order.end(), [](const Json* a, const Json* b) {
    return a->at("score").get<double>() > b->at("score").get<double>();
  });
  return order;
}

}  // namespace

Table stage_table(const Json& data, const StrategyKinds& kinds) {
  Table table{{"stage", "kind", "trials", "time", "steps", "share of the whole", "chose", "how"},
              {},
              "llrrrrww",
              {}};
  const bool clock = budget_is_time(data);
  double all_seconds = 0, all_steps = 0;
  for (const Json& s : data.at("stages")) {
    all_seconds += std::max(0.0, s.at("ended").get<double>() - s.at("started").get<double>());
    all_steps += total_of("steps_done", data, s.at("name"));
  }
  for (const Json& s : data.at("stages")) {
    const std::string name = s.at("name");
    // A budget of steps has no clock: what the trials took.
    const double seconds = clock ? s.at("ended").get<double>() - s.at("started").get<double>()
                                 : total_of("seconds", data, name);
    const double steps = total_of("steps_done", data, name);
    const double share = clock ? seconds / all_seconds : steps / all_steps;
    const auto trials = std::count_if(data.at("trials").begin(),
                                      data.at("trials").end(),
                                      [&](const Json& t) { return t.at("stage") == name; });
    const Json& winner = part(s, "winner");
    const bool done = s.at("status") == "done";
    table.rows.push_back({name + (s.value("control", false) ? " (control)" : ""),
                          kind_words(kinds, s),
                          std::to_string(trials),
                          done && seconds > 0 ? format_duration(seconds) : "–",
                          fixed(steps, 0),
                          done && std::isfinite(share) ? fixed(100 * share, 0) + " %" : "–",
                          winner.is_object() ? text_or(winner, "network") : "–",
                          winner.is_object() ? text_or(winner, "how")
                          : done             ? ""
                                             : "not finished"});
  }
  return table;
}

Table comparison_table(const Json& data) {
  Table table{{"network", "mean Dice", "against the baseline", "95 % interval", "Wilcoxon p", ""},
              {},
              "lrrrrl",
              {}};
  const Json& comparisons = part(data, "comparisons");
  if (!comparisons.is_object() || comparisons.size() < 2) return table;
  for (const auto& [label, c] : comparisons.items()) {
    table.rows.push_back({label == "best" ? "searched" : label,
                          fixed(number_or(c, "best_mean", NAN), 4),
                          with_sign(number_or(c, "mean_difference", NAN), 4),
                          interval_text(c.at("interval"), 4),
                          p_text(number_or(c, "wilcoxon_p", NAN)),
                          c.at("verdict").get<std::string>()});
  }
  return table;
}

std::string cluster_svg(const Json& story) {
  const Json& points = part(story, "points");
  if (!points.is_array() || points.empty() || !points[0].contains("x")) return "";
  double low_x = 1e300, high_x = -1e300, low_y = 1e300, high_y = -1e300, worst = 1e300,
         best = -1e300;
  for (const Json& p : points) {
    low_x = std::min(low_x, p.at("x").get<double>());
    high_x = std::max(high_x, p.at("x").get<double>());
    low_y = std::min(low_y, p.at("y").get<double>());
    high_y = std::max(high_y, p.at("y").get<double>());
    if (part(p, "score").is_number()) {
      worst = std::min(worst, p.at("score").get<double>());
      best = std::max(best, p.at("score").get<double>());
    }
  }
  widen(low_x, high_x, 1);
  widen(low_y, high_y, 1);
  const Axis x{low_x, high_x, 20, 700}, y{low_y, high_y, 400, 20};
  std::ostringstream svg;
  svg.precision(6);
  svg << "<div class=\"scroll\"><svg class=\"plot\" viewBox=\"0 0 720 420\" role=\"img\" "
         "aria-label=\"Clusters of candidates\">\n";
  // Candidates first, then what was tried, so that no dot hides a score.
  for (const bool tried : {false, true}) {
    for (const Json& p : points) {
      if (p.contains("trial") != tried) continue;
      const std::string color = category_color(p.at("cluster").get<std::size_t>());
      const bool scored = part(p, "score").is_number();
      const double score = number_or(p, "score", NAN);
      const std::string fill = !tried ? color
                               : scored
                                   ? ramp_color(best > worst ? (score - worst) / (best - worst) : 1)
                                   : "#ffffff";
      svg << "<circle cx=\"" << x(p.at("x")) << "\" cy=\"" << y(p.at("y")) << "\" r=\""
          << (tried                      ? 9
              : p.value("medoid", false) ? 6
                                         : 3)
          << "\" fill=\"" << fill << "\" fill-opacity=\""
          << (tried || p.value("medoid", false) ? 1 : 0.45) << "\" stroke=\"" << color
          << "\" stroke-width=\"" << (tried ? 3 : 0) << "\"><title>"
          << escaped(concat_text("cluster ",
                                 p.at("cluster").dump(),
                                 p.value("medoid", false) ? ", medoid" : "",
                                 tried ? ", trial " + p.at("trial").dump() : "",
                                 scored ? ", Dice " + fixed(score, 4) : ""))
          << "</title></circle>\n";
    }
  }
  svg << "</svg></div>\n<p class=\"legend\"><span>small dots: candidates, coloured by "
         "cluster</span>"
         "<span>large: medoids</span><span>ringed: trained";
  if (best >= worst) {
    svg << "; filled by Dice from <i style=\"background:" << ramp_color(0) << "\"></i>"
        << fixed(worst, 4) << " to <i style=\"background:" << ramp_color(1) << "\"></i>"
        << fixed(best, 4);
  }
  svg << "</span></p>\n";
  return svg.str();
}

std::string cluster_rounds_svg(const Json& story) {
  const Json& rounds = part(story, "rounds");
  if (!rounds.is_array() || rounds.size() < 2) return "";
  if (rounds[0].at("probabilities").size() < 2) return "";  // one cluster in every round
  const Axis x{0, static_cast<double>(rounds.size()), 64, 700}, y{0, 1, 150, 14};
  std::ostringstream svg;
  svg.precision(6);
  svg << "<div class=\"scroll\"><svg class=\"plot\" viewBox=\"0 0 720 190\" role=\"img\" "
         "aria-label=\"Cluster probabilities\">\n";
  for (std::size_t r = 0; r < rounds.size(); ++r) {
    double sum = 0;
    const Json& p = rounds[r].at("probabilities");
    const double left = x(static_cast<double>(r)), width = x(static_cast<double>(r + 1)) - left;
    for (std::size_t k = 0; k < p.size(); ++k) {
      const double share = p[k].get<double>();
      svg << "<rect x=\"" << left + 1 << "\" width=\"" << std::max(1.0, width - 2) << "\" y=\""
          << y(sum + share) << "\" height=\"" << y(sum) - y(sum + share) << "\" fill=\""
          << category_color(k) << "\"><title>"
          << escaped(concat_text("round ", r + 1, ", cluster ", k, ": ", fixed(share, 3)))
          << "</title></rect>\n";
      sum += share;
    }
  }
  svg << "<text class=\"label\" text-anchor=\"middle\" x=\"382\" y=\"176\">round</text>"
      << "<text class=\"label\" text-anchor=\"middle\" transform=\"rotate(-90)\" x=\"-82\" "
         "y=\"40\">probability of each cluster</text>\n</svg></div>\n";
  return svg.str();
}

std::string rank_svg(const Json& story) {
  struct Point {
    double inherited, own;
    std::string genotype;
  };
  std::vector<Point> points;
  for (const Json& s : part(story, "scores")) {
    if (part(s, "score").is_number() && part(s, "own").is_number()) {
      points.push_back({s.at("score"), s.at("own"), text_or(s, "network")});
    }
  }
  if (points.empty()) return "";
  double low_x = 1e300, high_x = -1e300, low_y = 1e300, high_y = -1e300;
  for (const Point& p : points) {
    low_x = std::min(low_x, p.inherited);
    high_x = std::max(high_x, p.inherited);
    low_y = std::min(low_y, p.own);
    high_y = std::max(high_y, p.own);
  }
  widen(low_x, high_x, 0.02);
  widen(low_y, high_y, 0.02);
  const Axis x{low_x, high_x, 64, 344}, y{low_y, high_y, 304, 24};
  std::ostringstream svg;
  svg.precision(6);
  svg << "<svg viewBox=\"0 0 360 350\" class=\"half\" role=\"img\" aria-label=\"Rank quality\">\n";
  draw_axes(svg, x, y, "Dice with inherited weights", "Dice by own short training");
  for (const Point& p : points) {
    svg << "<circle cx=\"" << x(p.inherited) << "\" cy=\"" << y(p.own)
        << "\" r=\"5\" fill=\"#08519c\" fill-opacity=\"0.75\"><title>"
        << escaped(concat_text(p.genotype, ": ", fixed(p.inherited, 4), " / ", fixed(p.own, 4)))
        << "</title></circle>\n";
  }
  svg << "</svg>\n";
  return svg.str();
}

std::string alpha_svg(const Json& details) {
  const Json &history = part(details, "history"), &decisions = part(details, "decisions");
  if (!history.is_array() || history.size() < 2 || !decisions.is_array()) return "";
  const double last = std::max(1.0, history.back().at("step").get<double>());
  constexpr int kColumns = 6, kWidth = 120, kHeight = 92;
  const std::size_t count = decisions.size() + 1;  // the first plot is the entropy
  const std::size_t rows = (count + kColumns - 1) / kColumns;
  std::ostringstream svg;
  svg.precision(5);
  svg << "<div class=\"scroll\"><svg class=\"plot\" viewBox=\"0 0 720 " << rows * kHeight
      << "\" role=\"img\" aria-label=\"Probabilities of the alternatives\">\n";
  const auto line = [&](const Axis& x, const Axis& y, const char* color, auto&& value_of) {
    svg << "<polyline fill=\"none\" stroke=\"" << color << "\" stroke-width=\"1.5\" points=\"";
    for (const Json& h : history) {
      svg << x(h.at("step").get<double>()) << ',' << y(value_of(h)) << ' ';
    }
    svg << "\"/>\n";
  };
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t row = i / kColumns;
    const double left = static_cast<double>(i % kColumns) * kWidth,
                 top = static_cast<double>(row) * kHeight;
    const Axis x{0, last, left + 8, left + kWidth - 8}, y{0, 1, top + 78, top + 18};
    std::string title = "mean entropy";
    if (i > 0) title = text_or(decisions[i - 1], "name");
    svg << "<rect x=\"" << x.from << "\" y=\"" << y.to << "\" width=\"" << x.to - x.from
        << "\" height=\"" << y.from - y.to << "\" fill=\"none\" class=\"grid\"/>"
        << "<text class=\"tick\" x=\"" << x.from << "\" y=\"" << top + 13 << "\">"
        << escaped(title.size() > 18 ? "…" + title.substr(title.size() - 17) : title)
        << "</text>\n";
    if (i == 0) {
      line(x, y, "#1b1f24", [](const Json& h) { return h.at("entropy").get<double>(); });
      continue;
    }
    const std::size_t options = history[0].at("probabilities").at(i - 1).size();
    for (std::size_t k = 0; k < options; ++k) {
      line(x, y, category_color(k), [&](const Json& h) {
        return h.at("probabilities").at(i - 1).at(k).get<double>();
      });
    }
  }
  svg << "</svg></div>\n<p class=\"legend\">";
  std::size_t k = 0;
  for (const Json& option : part(decisions[0], "alternatives")) {
    svg << "<span><i style=\"background:" << category_color(k++) << "\"></i>"
        << escaped(option.get<std::string>()) << "</span>";
  }
  svg << "<span>probability (0 to 1) over the steps of the super-network</span></p>\n";
  return svg.str();
}

Table scaling_table(const Json& story) {
  Table table{{"trial", "depth", "width", "resolution", "cost", "Dice"}, {}, "rrrrrr", {}};
  for (const Json& p : part(story, "points")) {
    if (!p.contains("depth")) return table;  // another kind's points
    table.rows.push_back({p.at("trial").dump(),
                          fixed(number_or(p, "depth", NAN), 2),
                          fixed(number_or(p, "width", NAN), 2),
                          fixed(number_or(p, "resolution", NAN), 2),
                          fixed(number_or(p, "cost", NAN), 2),
                          fixed(number_or(p, "score", NAN), 4)});
  }
  return table;
}

Table exponent_table(const Json& story) {
  const Json &rule = part(story, "rule"), &fitted = part(story, "fitted");
  const double points = number_or(story, "fitted_points", 0);  // older runs do not tell
  Table table{{"",
               points > 0 ? concat_text("fitted to ", fixed(points, 0), " networks here")
                          : std::string("fitted here"),
               "EfficientNet's rule"},
              {},
              "lrr",
              {}};
  if (!rule.is_object() || !fitted.is_object()) return table;
  for (const auto& [name, value] : rule.items()) {
    table.rows.push_back({name,
                          fixed(number_or(fitted, name.c_str(), NAN), 3),
                          value.is_number() ? fixed(value.get<double>(), 3) : "–"});
  }
  return table;
}

Table rung_table(const Json& story) {
  Table table{
      {"rung", "trials", "steps each", "best Dice", "worst Dice", "went on"}, {}, "rrrrrr", {}};
  std::size_t rung = 0;
  for (const Json& r : part(story, "rungs")) {
    const Json& scores = part(r, "scores");  // best first
    const bool any = scores.is_array() && !scores.empty();
    table.rows.push_back({std::to_string(++rung),
                          fixed(number_or(r, "trials", NAN), 0),
                          any ? fixed(number_or(r, "steps", NAN), 0) : "–",
                          any ? fixed(scores.front().get<double>(), 4) : "–",
                          any ? fixed(scores.back().get<double>(), 4) : "–",
                          fixed(number_or(r, "promoted", NAN), 0)});
  }
  return table;
}

Table candidate_table(const Json& story) {
  Table table{{"network", "Dice, inherited weights", "Dice, own training"}, {}, "wrr", {}};
  const auto order = by_score(part(story, "scores"));
  for (std::size_t i = 0; i < std::min(order.size(), kCandidatesShown); ++i) {
    table.rows.push_back({text_or(*order[i], "network"),
                          fixed(number_or(*order[i], "score", NAN), 4),
                          fixed(number_or(*order[i], "own", NAN), 4)});
  }
  return table;
}

std::string rank_sentence(const Json& story) {
  if (!story.contains("tau")) return "";
  const Json& trials = part(story, "rank_trials");
  const double compared = number_or(trials, "compared", 0), wanted = number_or(trials, "wanted", 0);
  std::string text = concat_text(
      fixed(compared, 0),
      " networks were also trained alone",
      compared < wanted ? concat_text(" (the budget could not pay ", fixed(wanted, 0), ")") : "",
      ": Kendall's tau between their scores with inherited weights and "
      "by own training is ",
      fixed(number_or(story, "tau", NAN), 2));
  const Json& interval = part(story, "interval");
  if (interval.is_array() && interval.size() == 2 && interval[0].is_number()) {
    text += ", 95 % interval " + interval_text(interval, 2);
  }
  return text + ". Chosen: " + text_or(story, "decision") + ".";
}

std::vector<StorySection> story_sections(const Json& data, const StrategyKinds& kinds) {
  std::vector<StorySection> sections;
  for (const Json& stage : data.at("stages")) {
    const Json& story = part(stage, "story");
    if (!story.is_object() || story.empty()) continue;
    StorySection section;
    section.title =
        concat_text("Stage ", stage.at("name").get<std::string>(), ": ", kind_words(kinds, stage));
    section.text = rank_sentence(story);
    const std::string controller = controller_sentence(story);
    if (!section.text.empty() && !controller.empty()) section.text += " ";
    section.text += controller;
    for (Table table : {rung_table(story),
                        bracket_table(story),
                        relevance_table(story),
                        importance_table(stage),
                        candidate_table(story),
                        scaling_table(story),
                        exponent_table(story)}) {
      if (!table.rows.empty()) section.tables.push_back(std::move(table));
    }
    sections.push_back(std::move(section));
  }
  return sections;
}

void add_stories(Html& page, const Json& data, const StrategyKinds& kinds) {
  const auto sections = story_sections(data, kinds);
  std::size_t next = 0;
  for (const Json& stage : data.at("stages")) {
    const Json& story = part(stage, "story");
    if (!story.is_object() || story.empty()) continue;
    const StorySection& section = sections[next++];
    page.element("h2", section.title);
    if (!section.text.empty()) page.element("p", section.text);
    page.raw(cluster_svg(story)).raw(cluster_rounds_svg(story)).raw(rank_svg(story));
    if (const Json* trial = trial_with_id(data, part(story, "supernet_trial"))) {
      page.raw(alpha_svg(part(*trial, "details")));
    }
    for (const Table& table : section.tables) page.table(table);
  }
}

}  // namespace nas
