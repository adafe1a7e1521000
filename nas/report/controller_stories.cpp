// SPDX-License-Identifier: Apache-2.0
#include "nas/report/controller_stories.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr std::size_t kGenesShown = 12;

void add(std::string& text, const std::string& sentence) {
  text += (text.empty() ? "" : " ") + sentence;
}

}  // namespace

std::string controller_sentence(const Json& story) {
  std::string text;
  const auto count = [&](const char* key) { return fixed(number_or(story, key, NAN), 0); };
  if (story.contains("product")) {
    add(text, "All " + count("product") + " combinations were looked at");
    const bool all = number_or(story, "duplicates", 0) + number_or(story, "invalid", 0) == 0;
    text += all ? "."
                : concat_text("; ",
                              count("duplicates"),
                              " are the same as another, ",
                              count("invalid"),
                              " are not valid.");
  }
  if (story.contains("starts")) {
    add(text, "The first " + count("starts") + " trials spread over the space");
    if (story.contains("fallbacks") && number_or(story, "fallbacks", 0) > 0) {
      text += ", and " + count("fallbacks") + " later ones had to be drawn at random";
    }
    text += "; the others follow from all scores before them.";
  }
  if (story.contains("updates")) {
    add(text, "The policy was updated " + count("updates") + " times");
    const Json& entropy = part(story, "entropy");
    if (entropy.is_array() && entropy.size() > 1 && entropy.front().is_number()) {
      text += concat_text("; its entropy went from ",
                          fixed(entropy.front().get<double>(), 2),
                          " to ",
                          fixed(entropy.back().get<double>(), 2));
    }
    text += ".";
  }
  if (const Json& drawn = part(story, "drawn_from"); drawn.is_object()) {
    add(text,
        concat_text("Besides the plan itself ",
                    fixed(number_or(drawn, "plan", NAN), 0),
                    " settings were drawn around it, ",
                    fixed(number_or(drawn, "best", NAN), 0),
                    " around the best of their time, ",
                    fixed(number_or(drawn, "anywhere", NAN), 0),
                    " anywhere."));
  }
  if (!text_or(story, "ended").empty()) {
    add(text, "The search ended before its budget: " + text_or(story, "ended") + ".");
  }
  return text;
}

Table relevance_table(const Json& story) {
  Table table{{"gene", "length scale", "part in the distance"}, {}, "lrr", {}};
  for (const Json& each : part(story, "relevance")) {
    if (table.rows.size() == kGenesShown) break;
    table.rows.push_back({text_or(each, "gene"),
                          fixed(number_or(each, "length_scale", NAN), 3),
                          fixed(100 * number_or(each, "share", NAN), 0) + " %"});
  }
  return table;
}

Table importance_table(const Json& stage) {
  Table table{{"gene", "importance", "95 % interval", "Gaussian process"}, {}, "lrrr", {}};
  const auto percent = [](double part) { return fixed(100 * part, 0) + " %"; };
  for (const Json& each : part(stage, "importance")) {
    if (table.rows.size() == kGenesShown) break;
    const Json& interval = part(each, "interval");
    const bool known = interval.is_array() && interval.size() == 2 && interval[0].is_number() &&
                       interval[1].is_number();
    table.rows.push_back(
        {text_or(each, "gene"),
         percent(number_or(each, "share", NAN)),
         known ? percent(interval[0].get<double>()) + " to " + percent(interval[1].get<double>())
               : "–",
         percent(number_or(each, "relevance", NAN))});
  }
  return table;
}

Table bracket_table(const Json& story) {
  Table table{{"bracket", "begins at rung", "trainings, rung after rung"}, {}, "rrl", {}};
  const Json& brackets = part(story, "brackets");
  if (!brackets.is_array() || brackets.size() < 2) return table;
  for (const Json& bracket : brackets) {
    std::string sizes;
    for (const Json& size : part(bracket, "sizes"))
      sizes += (sizes.empty() ? "" : ", ") + size.dump();
    table.rows.push_back({std::to_string(table.rows.size() + 1),
                          fixed(number_or(bracket, "first", NAN) + 1, 0),
                          sizes});
  }
  return table;
}

}  // namespace nas
