// SPDX-License-Identifier: Apache-2.0
#include "experiments/paper_tables/paper_tables.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "experiments/experiment.h"
#include "experiments/forecast.h"
#include "nas/core/error.h"
#include "nas/core/text.h"
#include "nas/report/report.h"
#include "nas/report/text.h"
#include "search_spaces/planned_unet/unet.h"
#include "search_spaces/reference_networks/reference_networks.h"
#include "search_spaces/spaces.h"

namespace nas {
namespace {

constexpr const char* kDevice = "h100";

/// What a table may need besides the published figures.
struct Context {
  std::vector<std::pair<std::string, Json>> runs;  // folder and report_data()
};

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::vector<double> percent(std::vector<double> fractions) {
  for (double& v : fractions) v *= 100;
  return fractions;
}

/// Mean over tasks of the mean over classes, and mean over all classes.
struct Averages {
  double tasks = 0, classes = 0;
};
Averages averages(const std::vector<std::vector<double>>& dice) {
  std::vector<double> tasks, classes;
  for (const std::vector<double>& task : dice) {
    tasks.push_back(mean_of(task));
    classes.insert(classes.end(), task.begin(), task.end());
  }
  return {mean_of(tasks), mean_of(classes)};
}

std::vector<std::vector<double>> lists(const JsonReader& reader) {
  std::vector<std::vector<double>> result;
  for (std::size_t i = 0; i < reader.size(); ++i) result.push_back(reader.at(i).numbers());
  return result;
}

/// "BrainTumour" of "Task01_BrainTumour".
std::string short_name(const Experiment& e) { return e.dataset.substr(e.dataset.find('_') + 1); }

std::string hours_text(double hours) {
  return fixed(hours, hours < 100 ? 1 : 0) + " " + find_device(kDevice).title + " hours";
}

/// Hours of `trainings` full trainings of nnU-Net's planned network on one task.
double planned_hours(const Experiment& e, int trainings) {
  const Plan plan = experiment_plan(e);
  const Graph graph = make_unet(plan.configuration("3d_fullres").architecture);
  return trainings * forecast_network("planned", graph, e, plan, find_device(kDevice)).full_hours;
}

// ---- results on the decathlon's hidden test sets ----

struct TestRow {
  std::string method, source;
  std::vector<std::vector<double>> dice = {};     // [task][class], in the slides' order of tasks
  double mean_of_tasks = 0, mean_of_classes = 0;  // as printed; 0: not printed
};

std::vector<std::string> slide_tasks() {
  const Json slides = published("msd_test.json");
  return JsonReader(slides, "msd_test.json").at("tasks").texts();
}

std::vector<TestRow> test_rows() {
  std::vector<TestRow> rows;
  const Json slides = published("msd_test.json");
  const JsonReader reader(slides, "msd_test.json");
  for (std::size_t i = 0; i < reader.at("rows").size(); ++i) {
    const JsonReader row = reader.at("rows").at(i);
    rows.push_back({row.at("method").text(),
                    reader.at("source").text(),
                    lists(row.at("dice")),
                    row.at("mean_of_tasks").number(),
                    row.at("mean_of_classes").number()});
  }
  const std::vector<std::string> tasks = slide_tasks();
  const Json others = published("auto_nnunet.json");
  const JsonReader test = JsonReader(others, "auto_nnunet.json").at("test");
  for (const std::string& method : test.keys()) {
    TestRow row{
        method, others.at("source").get<std::string>() + ": test-set evaluation per case", {}};
    for (const std::string& task : tasks)
      row.dice.push_back(percent(test.at(method).at(task).numbers()));
    rows.push_back(std::move(row));
  }
  return rows;
}

PaperTable msd_test(const Context&) {
  PaperTable table{.name = "msd-test",
                   .title = "Medical Segmentation Decathlon, hidden test sets: Dice in % per class",
                   .note =
                       "Test labels are hidden: no local run can be compared with these figures; "
                       "the table msd-cross-validation holds those that can.",
                   .rows = {}};
  const std::vector<std::string> tasks = slide_tasks();
  for (const TestRow& row : test_rows()) {
    PaperRow line{.name = row.method, .cells = {}, .how = "", .source = row.source};
    for (std::size_t t = 0; t < tasks.size(); ++t) {
      line.cells.push_back(
          {.column = short_name(load_experiment(tasks[t])), .published = row.dice[t], .ours = {}});
    }
    table.rows.push_back(std::move(line));
  }
  return table;
}

PaperTable msd_averages(const Context&) {
  PaperTable table{.name = "msd-averages",
                   .title = "The averages of msd-test, recomputed",
                   .note =
                       "Mean over ten tasks of the mean over a task's classes, and mean over all "
                       "classes.",
                   .rows = {}};
  for (const TestRow& row : test_rows()) {
    const Averages ours = averages(row.dice);
    std::size_t classes = 0;
    for (const auto& task : row.dice) classes += task.size();
    PaperRow line{
        .name = row.method,
        .cells = {},
        .obtained = Obtained::Computed,
        .how = concat_text("mean of ", row.dice.size(), " tasks, of ", classes, " classes"),
        .source = row.source};
    auto cell = [](const char* name, double printed, double value) {
      PaperCell c{.column = name, .published = {}, .ours = {value}};
      if (printed > 0) c.published = {printed};
      return c;
    };
    line.cells = {cell("mean of tasks", row.mean_of_tasks, ours.tasks),
                  cell("mean of classes", row.mean_of_classes, ours.classes)};
    table.rows.push_back(std::move(line));
  }
  return table;
}

PaperTable early_results(const Context&) {
  const Json data = published("c2fnas.json");
  const JsonReader early = JsonReader(data, "c2fnas.json").at("early");
  PaperTable table{.name = "early-results",
                   .title = early.at("title").text() + ": " + early.at("unit").text(),
                   .note = "",
                   .rows = {}};
  for (std::size_t i = 0; i < early.at("rows").size(); ++i) {
    const JsonReader row = early.at("rows").at(i);
    PaperRow line{
        .name = row.at("method").text() + ", " + short_name(load_experiment(row.at("task").text())),
        .cells = {},
        .how = "",
        .source = JsonReader(data, "c2fnas.json").at("source").text()};
    PaperCell mean{.column = "mean", .published = {row.at("mean").number()}, .ours = {}};
    if (row.has("dice")) {
      const std::vector<double> dice = row.at("dice").numbers();
      line.cells.push_back({.column = "classes", .published = dice, .ours = {}});
      mean.ours = {mean_of(dice)};
      line.obtained = Obtained::Computed;
      line.how = concat_text("mean of ", dice.size(), dice.size() == 1 ? " class" : " classes");
    }
    line.cells.push_back(mean);
    table.rows.push_back(std::move(line));
  }
  return table;
}

// ---- results of runs of this project ----

/// Dice of each class of a final training; empty unless all classes have one.
std::vector<double> class_dice(const Json& final_training) {
  std::vector<double> result;
  for (const Json& one : final_training.at("classes")) {
    if (!one.is_object() || !one.contains("dice") || !one.at("dice").is_number()) return {};
    result.push_back(one.at("dice").get<double>());
  }
  return result;
}

std::string run_text(const std::string& folder, const Json& run) {
  return concat_text("fold ",
                     run.at("fold").get<std::int64_t>(),
                     ", ",
                     run.at("budget").at("text").get<std::string>(),
                     ", ",
                     folder);
}

PaperTable msd_cross_validation(const Context& context) {
  PaperTable table{
      .name = "msd-cross-validation",
      .title = "Medical Segmentation Decathlon, cross-validation: Dice in % per class",
      .note =
          "Published: nnU-Net's planned network, 1000 epochs, mean of five folds. A run given "
          "on the command line shows its one fold.",
      .rows = {}};
  const std::string source = published("auto_nnunet.json").at("source");
  for (const std::string& name : experiment_names()) {
    const Experiment e = load_experiment(name);
    PaperCell reference;
    for (const CrossValidation& v : cross_validations(name)) {
      if (v.network != "ConvolutionalEncoder") continue;
      reference = {.column = "Dice", .published = percent(v.mean), .ours = {}};
    }
    bool measured = false;
    for (const auto& [folder, run] : context.runs) {
      if (text_or(run.at("data"), "name") != e.dataset) continue;
      for (const auto& [label, training] : run.at("final").items()) {
        const std::vector<double> dice = percent(class_dice(training));
        if (dice.empty()) continue;
        PaperCell cell = reference;
        cell.ours = dice;
        table.rows.push_back({.name = short_name(e) + ", " + label,
                              .cells = {cell},
                              .obtained = Obtained::Measured,
                              .how = run_text(folder, run),
                              .source = source});
        measured = true;
      }
    }
    if (measured) continue;
    table.rows.push_back(
        {.name = short_name(e),
         .cells = {reference},
         .obtained = Obtained::NeedsData,
         .how = concat_text(
             "the data and ", hours_text(planned_hours(e, kFolds)), ": run experiment_", name),
         .source = source});
  }
  return table;
}

PaperTable own_runs(const Context& context) {
  PaperTable table{.name = "own-runs",
                   .title = "Final trainings of the runs given",
                   .note = context.runs.empty() ? "None was given: voxnas tables own-runs RUN..."
                                                : "Mean foreground Dice on the held-out fold.",
                   .rows = {}};
  for (const auto& [folder, run] : context.runs) {
    for (const auto& [label, training] : run.at("final").items()) {
      const double macs = number_or(training, "macs", 0) / 1e9;
      table.rows.push_back({.name = text_or(run.at("data"), "name") + ", " + label,
                            .cells = {{.column = "Dice, %",
                                       .published = {},
                                       .ours = {100 * number_or(training, "score", NAN)}},
                                      {.column = "parameters, M",
                                       .published = {},
                                       .ours = {number_or(training, "parameters", 0) / 1e6},
                                       .digits = 3},
                                      {.column = "GMAC", .published = {}, .ours = {macs}},
                                      {.column = "steps",
                                       .published = {},
                                       .ours = {number_or(training, "steps_done", 0)},
                                       .digits = 0},
                                      {.column = "hours",
                                       .published = {},
                                       .ours = {number_or(training, "seconds", 0) / 3600},
                                       .digits = 3}},
                            .obtained = Obtained::Measured,
                            .how = run_text(folder, run),
                            .source = ""});
    }
  }
  return table;
}

// ---- V-NAS, cost ----

PaperTable vnas_folds(const std::string& name) {
  const Json data = published("vnas.json");
  const JsonReader reader(data, "vnas.json");
  const auto folds = static_cast<int>(reader.at("folds").integer(2, 100));
  for (std::size_t i = 0; i < reader.at("tables").size(); ++i) {
    const JsonReader part = reader.at("tables").at(i);
    if (part.at("name").text() != name) continue;
    PaperTable table{.name = name,
                     .title = part.at("title").text() + ", " + std::to_string(folds) +
                              "-fold cross-validation: " + reader.at("unit").text(),
                     .note = "",
                     .rows = {}};
    std::string how;
    if (part.has("experiment")) {
      const Experiment e = load_experiment(part.at("experiment").text());
      how = concat_text("the data and about ",
                        hours_text(planned_hours(e, 2 * folds)),
                        " (search and retraining on ",
                        folds,
                        " folds at the cost of the planned network): run experiment_",
                        e.name,
                        " --recipe vnas");
    } else {
      how = part.at("data").text() + ": run voxnas search DATA --recipe vnas";
    }
    const std::vector<std::string> columns = part.at("columns").texts();
    for (std::size_t r = 0; r < part.at("rows").size(); ++r) {
      const JsonReader row = part.at("rows").at(r);
      const std::vector<double> values = row.at("values").numbers();
      NAS_CHECK(values.size() == columns.size(), row.where(), ": expected a value per column");
      PaperRow line{.name = row.at("method").text(),
                    .cells = {},
                    .obtained = r == 0 ? Obtained::NeedsData : Obtained::Published,
                    .how = r == 0 ? how : "",
                    .source = reader.at("source").text()};
      for (std::size_t c = 0; c < columns.size(); ++c) {
        line.cells.push_back({.column = columns[c], .published = {values[c]}, .ours = {}});
      }
      table.rows.push_back(std::move(line));
    }
    return table;
  }
  fail(ErrorKind::Internal, "vnas.json: no table ", name);
}

PaperTable search_cost(const Context&) {
  const Json data = published("c2fnas.json");
  const JsonReader reader(data, "c2fnas.json");
  const JsonReader cost = reader.at("cost");
  const std::string source = reader.at("source").text();
  PaperTable table{.name = "search-cost",
                   .title = "Cost of the C2FNAS search: " + cost.at("unit").text(),
                   .note = "",
                   .rows = {}};
  double total = 0;
  std::string sum;
  for (std::size_t i = 0; i < cost.at("terms").size(); ++i) {
    const JsonReader term = cost.at("terms").at(i);
    const double networks = term.at("networks").number(), each = term.at("hours_each").number();
    total += networks * each;
    sum += (sum.empty() ? "" : " + ") + fixed(networks * each, 0);
    table.rows.push_back(
        {.name = term.at("item").text(),
         .cells =
             {{.column = "GPU hours", .published = {}, .ours = {networks * each}, .digits = 0}},
         .obtained = Obtained::Computed,
         .how = networks == 1 ? "as published"
                              : fixed(networks, 0) + " networks x " + fixed(each, 0) + " h",
         .source = source});
  }
  const double days = total / 24, gpus = cost.at("gpus").number();
  table.rows.push_back(
      {.name = "all",
       .cells = {{.column = "GPU hours", .published = {}, .ours = {total}, .digits = 0},
                 {.column = "GPU days",
                  .published = {cost.at("printed_days").number()},
                  .ours = {days},
                  .digits = 1}},
       .obtained = Obtained::Computed,
       .how = sum + " = " + fixed(total, 0) + " h; / 24 = " + fixed(days, 1) + " days, not about " +
              fixed(cost.at("printed_days").number(), 0),
       .source = source});
  table.rows.push_back(
      {.name = "all, on " + fixed(gpus, 0) + " GPUs at once",
       .cells = {{.column = "hours", .published = {}, .ours = {total / gpus}, .digits = 1}},
       .obtained = Obtained::Computed,
       .how = fixed(total, 0) + " / " + fixed(gpus, 0),
       .source = source});
  const JsonReader other = cost.at("other_days");
  table.rows.push_back({.name = "as the authors of DiNTS quote it",
                        .cells = {{.column = "GPU days",
                                   .published = {other.at("days").number()},
                                   .ours = {days},
                                   .digits = 1}},
                        .obtained = Obtained::NotReproducible,
                        .how = "the slides' own terms add up to less",
                        .source = other.at("source").text()});
  return table;
}

// ---- sizes of networks and of search spaces ----

std::vector<PaperCell> size_cells(const PublishedSize& size, const Graph& graph) {
  const Cost cost = total_cost(first_output_only(graph), size.input.space);
  return {{.column = "parameters, M",
           .published = {size.parameters / 1e6},
           .ours = {static_cast<double>(cost.parameters) / 1e6}},
          {.column = "GMAC",
           .published = {size.macs / 1e9},
           .ours = {static_cast<double>(cost.macs) / 1e9}}};
}

std::string size_text(std::int64_t channels, std::int64_t classes, const Extent3& patch) {
  return concat_text(channels, " in, ", classes, " out, ", to_text(patch));
}

PaperTable model_comparison(const Context&) {
  PaperTable table{.name = "model-comparison",
                   .title = "Model comparison: parameters and multiply-adds of one forward pass",
                   .note =
                       "Multiply-adds of convolutions, counted once; the slides count some "
                       "element-wise work too."};
  for (const ReferenceNetwork& network : reference_networks()) {
    for (const PublishedSize& size : network.published) {
      const Extent3& patch = size.input.space;
      const Graph graph = network.make({size.input.channels, size.classes, patch});
      table.rows.push_back(
          {.name = network.title,
           .cells = size_cells(size, graph),
           .obtained = size.reproducible ? Obtained::Computed : Obtained::NotReproducible,
           .how =
               size.reproducible ? size_text(size.input.channels, size.classes, patch) : size.note,
           .source = size.source});
    }
  }
  return table;
}

PaperTable space_sizes(const Context&) {
  const Json data = published("c2fnas.json");
  const JsonReader reader(data, "c2fnas.json");
  const JsonReader rows = reader.at("spaces");
  PaperTable table{.name = "space-sizes",
                   .title = "Search spaces: number of architectures",
                   .note = "",
                   .rows = {}};
  const Configuration planned =
      experiment_plan(load_experiment("task07_pancreas")).configuration("3d_fullres");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const JsonReader row = rows.at(i);
    const std::string group = row.at("group").text();
    const Json options = row.has("options_of_space") ? row.at("options_of_space").json() : Json();
    const std::unique_ptr<SearchSpace> space =
        space_for_plan(row.at("space").text(), planned, options);
    double count = 1;
    std::string how;
    if (const LinkedGenes* linked = space->linked_genes(); linked && group == "topology") {
      count = static_cast<double>(linked->combinations.size());
      how = "walks of twelve cells over four levels, listed";
    } else {
      std::map<std::int64_t, int> genes;  // number of genes by their number of values
      for (const Gene& gene : space->genes()) {
        if (gene.group == group) ++genes[gene.count()];
      }
      for (const auto& [values, number] : genes) {
        count *= std::pow(static_cast<double>(values), number);
        how += (how.empty() ? "" : " x ") + concat_text(values, "^", number);
      }
      how += " from the genes";
    }
    PaperCell cell{.column = "architectures", .published = {}, .ours = {count}, .digits = 0};
    if (row.has("options")) {
      cell.published = {std::pow(row.at("options").number(), row.at("choices").number())};
    } else {
      how += "; published: at most about " + fixed(row.at("at_most").number(), 0);
    }
    table.rows.push_back({.name = row.at("item").text(),
                          .cells = {cell},
                          .obtained = Obtained::Computed,
                          .how = how,
                          .source = reader.at("source").text()});
  }
  return table;
}

struct Entry {
  const char* name;
  PaperTable (*make)(const Context&);
};
constexpr Entry kTables[] = {
    {"model-comparison", model_comparison},
    {"space-sizes", space_sizes},
    {"msd-test", msd_test},
    {"msd-averages", msd_averages},
    {"msd-cross-validation", msd_cross_validation},
    {"early-results", early_results},
    {"vnas-nih", [](const Context&) { return vnas_folds("vnas-nih"); }},
    {"vnas-lung", [](const Context&) { return vnas_folds("vnas-lung"); }},
    {"vnas-pancreas", [](const Context&) { return vnas_folds("vnas-pancreas"); }},
    {"search-cost", search_cost},
    {"own-runs", own_runs},
};

}  // namespace

std::vector<std::string> paper_table_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kTables) names.emplace_back(entry.name);
  return names;
}

std::vector<PaperTable> paper_tables(const std::vector<std::string>& names,
                                     const std::vector<std::filesystem::path>& runs) {
  const std::vector<std::string> known = paper_table_names();
  for (const std::string& name : names) {
    if (std::ranges::find(known, name) != known.end()) continue;
    const std::string near = did_you_mean(name, known, "");
    fail(ErrorKind::Usage,
         "tables: '",
         name,
         "' is neither a table nor a run folder",
         near.empty() ? "; tables: " + joined(known) : near);
  }
  Context context;
  for (const std::filesystem::path& folder : runs) {
    context.runs.emplace_back(folder.string(), report_data(folder));
  }
  std::vector<PaperTable> tables;
  for (const Entry& entry : kTables) {
    if (names.empty() || std::ranges::find(names, entry.name) != names.end())
      tables.push_back(entry.make(context));
  }
  return tables;
}

}  // namespace nas
