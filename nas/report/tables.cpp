// SPDX-License-Identifier: Apache-2.0
#include "nas/report/tables.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "nas/core/error.h"
#include "nas/core/quantity.h"
#include "nas/search/statistics.h"

namespace nas {
namespace {

/// The final trainings that there are, with the words for them.
std::vector<std::pair<std::string, std::string>> finals(const Json& data) {
  std::vector<std::pair<std::string, std::string>> result;
  for (const auto& [label, word] :
       {std::pair{"best", "searched"}, std::pair{"baseline", "baseline"}}) {
    if (data.at("final").contains(label)) result.emplace_back(label, word);
  }
  return result;
}

}  // namespace

Table trial_table(const Json& data) {
  const std::string score = score_name(data);
  Table table{{"trial",
               "stage / rung",
               "network",
               "parameters",
               "MACs",
               "steps",
               score == "Dice" ? score : score + " (final: Dice)",
               "status",
               "time"},
              {},
              "rlwrrrrlr",
              {}};
  for (const Json& t : data.at("trials")) {
    if (t.at("purpose") == "inherited")
      continue;  // by the hundred: the stage's story tells of them
    const std::string label = t.at("label"), status = t.at("status");
    table.rows.push_back(
        {t.at("id").dump(),
         t.at("stage").get<std::string>() + (t.at("purpose") == "search"
                                                 ? " / " + t.at("rung").dump()
                                             : t.at("purpose") == "super-net" ? " / super-network"
                                                                              : ""),
         t.at("network").get<std::string>() + (label.empty() ? "" : " (" + label + ")"),
         count_text(t.at("parameters")),
         count_text(t.at("macs")),
         t.at("steps_done").dump(),
         t.at("score").is_number() ? fixed(t.at("score"), 4) : "–",
         status,
         budget_is_time(data) || t.at("seconds").get<double>() > 0
             ? format_duration(t.at("seconds"))
             : "–"});
    const bool waits = status == "running" || status == "queued";
    table.classes.emplace_back(status != "done" && !waits                               ? "failed"
                               : t.at("id") == data.at("best_trial") || label == "best" ? "chosen"
                               : label == "baseline"                                    ? "baseline"
                                                                                        : "");
  }
  return table;
}

Table from_table(const Json& data) {
  Table table{{"", ""}, {}, "lw", {}};
  const Json& from = part(data, "from");
  if (!from.is_object()) return table;
  table.rows.push_back({"run", from.at("run").get<std::string>()});
  const auto count = [&](const char* key) { return std::to_string(from.at(key).size()); };
  table.rows.push_back({"tried first, best first", count("genotypes") + " of its genotypes"});
  table.rows.push_back({"seen by the strategy, with an offset of their own",
                        from.at("observations").dump() + " of its trials"});
  if (from.at("left_out").get<std::int64_t>() > 0) {
    table.rows.push_back({"left out: not in this run's space", from.at("left_out").dump()});
  }
  for (const Json& difference : from.at("differences")) {
    table.rows.push_back({"its space differs", difference.get<std::string>()});
  }
  return table;
}

Table enqueued_table(const Json& data) {
  Table table{{"network", "asked for by", "", "trial"}, {}, "lllr", {}};
  for (const Json& one : data.at("enqueued")) {
    const std::string state = one.at("state"), message = one.at("message");
    table.rows.push_back({one.at("network").get<std::string>(),
                          one.at("asked_by").get<std::string>(),
                          message.empty() ? state : state + ": " + message,
                          state == "taken" ? one.at("trial").dump() : ""});
  }
  return table;
}

Table annotation_table(const Json& data) {
  Table table{{"trial", "note", "", "by"}, {}, "rlwl", {}};
  for (const Json& note : data.at("annotations")) {
    table.rows.push_back({note.at("trial").dump(),
                          note.at("key").get<std::string>(),
                          note.at("value").get<std::string>(),
                          note.at("by").get<std::string>()});
  }
  return table;
}

Table gene_table(const Json& data) {
  auto genes_of = [](const std::string& text) {
    std::vector<std::pair<std::string, std::string>> genes;
    std::istringstream in(text);
    for (std::string word; in >> word;) {
      const auto split = word.find('=');
      genes.emplace_back(word.substr(0, split),
                         split == std::string::npos ? "" : word.substr(split + 1));
    }
    return genes;
  };
  Table table{{"gene", "planned", "searched", ""}, {}, "llwl", {}};
  const Json& final_trials = data.at("final");
  if (!final_trials.contains("best") || !final_trials.contains("baseline")) return table;
  const std::string best_text = final_trials.at("best").at("genotype"),
                    planned_text = final_trials.at("baseline").at("genotype");
  if (planned_text.starts_with("network=plan ")) {  // its other genes say nothing (BesidePlan)
    table.rows.push_back({"all",
                          text_or(final_trials.at("baseline"), "network"),
                          text_or(final_trials.at("best"), "network"),
                          "changed"});
    table.classes.emplace_back("");
    return table;
  }
  const auto best = genes_of(best_text), planned = genes_of(planned_text);
  for (std::size_t i = 0; i < std::min(best.size(), planned.size()); ++i) {
    const bool same = best[i].second == planned[i].second;
    table.rows.push_back({best[i].first, planned[i].second, best[i].second, same ? "" : "changed"});
    table.classes.emplace_back(same ? "" : "chosen");
  }
  return table;
}

Table network_table(const Json& data) {
  Table table{{""}, {}, "l", {}};
  const auto who = finals(data);
  for (const auto& [label, word] : who) {
    table.head.push_back(word);
    table.columns += 'r';
  }
  auto row = [&](const char* name, const std::function<std::string(const Json&)>& text) {
    std::vector<std::string> cells{name};
    for (const auto& [label, word] : who) cells.push_back(text(data.at("final").at(label)));
    table.rows.push_back(std::move(cells));
  };
  auto setting = [](const Json& t, const char* key) {
    const Json& value = part(part(t, "settings"), key);
    return value.is_null()     ? std::string("–")
           : value.is_string() ? value.get<std::string>()
                               : value.dump();
  };
  if (who.empty()) return table;
  row("parameters", [](const Json& t) { return count_text(t.at("parameters")); });
  row("MACs of one patch", [](const Json& t) { return count_text(t.at("macs")); });
  row("memory of a step (forecast)",
      [](const Json& t) { return format_bytes(t.at("memory_bytes").get<double>()); });
  row("training steps", [](const Json& t) { return t.at("steps_done").dump(); });
  row("batch", [&](const Json& t) { return setting(t, "batch"); });
  row("optimizer, learning rate",
      [&](const Json& t) { return setting(t, "optimizer") + ", " + setting(t, "learning_rate"); });
  row("training time", [](const Json& t) {
    return format_duration(number_or(t.at("metrics"), "train_seconds", 0));
  });
  row("time a step", [](const Json& t) {
    const double steps = t.at("steps_done").get<double>();
    return steps > 0 ? format_duration(number_or(t.at("metrics"), "train_seconds", 0) / steps)
                     : std::string("–");
  });
  return table;
}

Table class_table(const Json& data) {
  struct Column {
    const char *name, *key;
    int digits;
  };
  Table table{{"class"}, {}, "l", {}};
  std::map<std::string, std::size_t> place;
  for (const Column& column :
       {Column{"Dice", "dice", 4}, {"HD95 mm", "hd95_mm", 2}, {"NSD 1 mm", "nsd", 4}}) {
    for (const auto& [label, word] : finals(data)) {
      table.head.push_back(concat_text(column.name, ", ", word));
      table.columns += 'r';
      for (const Json& mean : part(data.at("final").at(label), "classes")) {
        const std::string name = text_or(mean, "label");
        if (place.try_emplace(name, table.rows.size()).second) table.rows.push_back({name});
        std::vector<std::string>& row = table.rows[place.at(name)];
        row.resize(table.head.size(), "–");
        row.back() = fixed(number_or(mean, column.key, NAN), column.digits);
      }
    }
  }
  return table;
}

Table case_table(const Json& data) {
  Table table{{"case",
               "Dice, searched",
               "Dice, baseline",
               "difference",
               "HD95 mm, searched",
               "HD95 mm, baseline",
               "NSD, searched",
               "NSD, baseline"},
              {},
              "lrrrrrrr",
              {}};
  std::vector<const Json*> order;
  for (const Json& c : part(part(data, "comparison"), "cases")) order.push_back(&c);
  std::stable_sort(order.begin(), order.end(), [](const Json* a, const Json* b) {
    return number_or(*a, "best", INFINITY) < number_or(*b, "best", INFINITY);
  });
  auto mean_of = [](const Json& classes, const char* key) {
    std::vector<double> values;
    for (const Json& c : classes) {
      if (part(c, key).is_number()) values.push_back(c.at(key).get<double>());
    }
    return mean(values);
  };
  for (const Json* c : order) {
    table.rows.push_back({c->at("id"),
                          fixed(number_or(*c, "best", NAN), 4),
                          fixed(number_or(*c, "baseline", NAN), 4),
                          with_sign(number_or(*c, "difference", NAN), 4),
                          fixed(mean_of(c->at("best_classes"), "hd95_mm"), 2),
                          fixed(mean_of(c->at("baseline_classes"), "hd95_mm"), 2),
                          fixed(mean_of(c->at("best_classes"), "nsd"), 4),
                          fixed(mean_of(c->at("baseline_classes"), "nsd"), 4)});
  }
  return table;
}

Table budget_table(const Json& data) {
  Table table{{"stage",
               "forecast",
               "spent",
               "steps, forecast for the planned network (by rung)",
               "steps, done (by trial)"},
              {},
              "lrrll",
              {}};
  const bool clock = budget_is_time(data);
  const Json& forecast = part(data.at("forecast"), "stages");
  if (clock && part(data.at("forecast"), "probe").is_object()) {
    table.rows.push_back(
        {"preparation and probe",
         "–",
         format_duration(number_or(data.at("forecast").at("probe"), "prepared_seconds", 0)),
         "–",
         "–"});
  }
  for (const Json& stage : data.at("stages")) {
    std::string planned_time = "–", planned_steps = "–";
    for (const Json& f : forecast) {
      if (text_or(f, "name") != stage.at("name").get<std::string>()) continue;
      if (clock) planned_time = format_duration(number_or(f, "seconds", 0));
      planned_steps = join(part(f, "steps"));
    }
    Json done = Json::array();
    for (const Json& t : data.at("trials")) {
      if (t.at("stage") == stage.at("name") && t.at("status") == "done" &&
          t.at("purpose") != "inherited")
        done.push_back(t.at("steps_done"));
    }
    table.rows.push_back(
        {stage.at("name").get<std::string>(),
         planned_time,
         clock && stage.at("ended").get<double>() > 0
             ? format_duration(stage.at("ended").get<double>() - stage.at("started").get<double>())
             : "–",
         planned_steps,
         join(done)});
  }
  if (clock) {
    table.rows.push_back({"whole command",
                          format_duration(data.at("budget").at("seconds")),
                          format_duration(data.at("clock")),
                          "",
                          ""});
  }
  return table;
}

Table data_table(const Json& data) {
  const Json& d = data.at("data");
  const Json& f = data.at("fingerprint");
  const Json& plan = data.at("plan");
  auto triple = [](const Json& values, int digits) {
    std::string text;
    for (const Json& v : values)
      text += (text.empty() ? "" : " × ") +
              (v.is_number() ? fixed(v.get<double>(), digits) : std::string("–"));
    return text;
  };
  return {{"", ""},
          {{"data set", text_or(d, "name") + " (" + text_or(d, "layout") + ")"},
           {"channels", join(part(d, "channels"))},
           {"labels", join(part(d, "labels"))},
           {"cases",
            concat_text(part(data.at("cases"), "training").size(),
                        " training (",
                        part(data.at("cases"), "inner_validation").size(),
                        " of them validate search trials), ",
                        part(data.at("cases"), "held_out").size(),
                        " held out: fold ",
                        data.at("fold").dump(),
                        " of ",
                        text_or(d, "splits"))},
           {"median spacing, D × H × W", triple(f.at("median_spacing_mm"), 2) + " mm"},
           {"median size after cropping", triple(f.at("median_shape"), 0) + " voxels"},
           {"plan",
            concat_text("patch ",
                        join(part(plan, "patch"), " × "),
                        ", batch ",
                        part(plan, "batch").dump(),
                        ", spacing ",
                        triple(part(plan, "spacing"), 2),
                        " mm, ",
                        join(part(plan, "normalization")))}},
          "ll",
          {}};
}

Table intensity_table(const Json& data) {
  Table table{{"channel, foreground", "mean", "sd", "median", "min", "0.5 %", "99.5 %", "max"},
              {},
              "lrrrrrrr",
              {}};
  for (const auto& [channel, p] : part(data.at("fingerprint"), "intensity").items()) {
    std::vector<std::string> row{channel};
    for (const char* key :
         {"mean", "std", "median", "min", "percentile_00_5", "percentile_99_5", "max"})
      row.push_back(fixed(number_or(p, key, NAN), 2));
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace nas
