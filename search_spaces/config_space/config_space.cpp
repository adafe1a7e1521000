// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/config_space/config_space.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/hash.h"
#include "nas/core/quantity.h"
#include "nas/core/text.h"
#include "nas/network/operations.h"
#include "search_spaces/config_space/component_file.h"
#include "search_spaces/config_space/resolve.h"

namespace nas {
namespace {

constexpr const char* kWrittenGene = "configuration";
constexpr std::int64_t kMostListed = 10'000;  // combinations that are looked at beforehand

/// The next combination of choices, the last running fastest; false behind the last one.
bool advance(const std::vector<Gene>& genes, const std::vector<std::size_t>& places, Genotype& at) {
  for (std::size_t i = places.size(); i-- > 0;) {
    int& value = at.values[places[i]];
    if (++value < genes[places[i]].count()) return true;
    value = 0;
  }
  return false;
}

/// "train.model channels" of a dimension's key.
std::string short_name(const Dimension& dimension) {
  std::vector<std::string> args;
  for (const Dimension::Arg& arg : dimension.args)
    args.push_back((arg.attribute ? "@" : "") + arg.name);
  const std::size_t dot = dimension.path.rfind('.');
  const std::string last =
      dot == std::string::npos ? dimension.path : dimension.path.substr(dot + 1);
  return (last.empty() ? "" : last + ".") + joined(args, ",");
}

}  // namespace

ConfigSpace::ConfigSpace(TrainingDescription description,
                         Configuration planned,
                         std::int64_t training_cases,
                         MakeSpace make_space)
    : description_(std::move(description)),
      planned_(std::move(planned)),
      training_cases_(training_cases),
      make_space_(make_space),
      notes_(description_.rules.notes) {
  make_genes();
  choose_baseline();
  check_choices();
  concrete(baseline_, &notes_);
}

void ConfigSpace::make_genes() {
  bool all = true;
  for (const Dimension& dimension : description_.rules.dimensions) {
    bool written = false;
    Gene gene = make_gene(dimension, &written);
    if (dimension.when >= 0) {
      gene.parent = dimension.when;
      gene.active_for = dimension.when_choices;
    }
    if (const std::string reason = gene.malformed_reason(genes_.size()); !reason.empty())
      fail(ErrorKind::Input, description_.where, ": ", dimension.key, ": ", reason);
    const bool has_written = std::ranges::any_of(
        dimension.args, [](const Dimension::Arg& arg) { return !arg.is_virtual; });
    all &= written || !has_written;
    written_.push_back(written ? 1 : 0);
    genes_.push_back(std::move(gene));
  }
  if (all || genes_.empty()) return;
  // Only where the description means something as it is written.
  const std::vector<std::optional<Json>> none(genes_.size());
  try {
    description_.concrete(none);
  } catch (const Error&) {
    return;
  }
  written_gene_ = true;
  for (Gene& gene : genes_) {
    if (gene.parent >= 0) {
      ++gene.parent;
    } else {
      gene.parent = 0;
      gene.active_for = {0};
    }
  }
  genes_.insert(genes_.begin(), Gene{kWrittenGene, "network", {"searched", "as_written"}});
}

void ConfigSpace::choose_baseline() {
  for (const Gene& gene : genes_) baseline_.values.push_back(gene.planned);
  start_ = baseline_ = canonical(baseline_);
  // The first valid combination of choices from there on.
  std::vector<std::size_t> choices;
  for (std::size_t g = written_gene_ ? 1 : 0; g < genes_.size(); ++g) {
    if (!genes_[g].ordered()) choices.push_back(g);
  }
  std::string reason = invalid_reason(start_);
  if (!reason.empty()) {
    Genotype at = start_;
    for (const std::size_t g : choices) at.values[g] = 0;
    std::int64_t looked = 0;
    bool found = false;
    do {
      start_ = canonical(at);
      found = invalid_reason(start_).empty();
    } while (!found && ++looked < kMostListed && advance(genes_, choices, at));
    NAS_CHECK(found,
              "no combination of the searched values is valid; the first is not because of ",
              reason);
    baseline_ = start_;
  }
  if (written_gene_) {
    baseline_.values[0] = 1;
    baseline_ = canonical(baseline_);
  }
}

/// What a choice makes of the description is understood, the same data settings and scoring for all; those
/// combinations that leave no or two alternatives are listed.
void ConfigSpace::check_choices() {
  const auto of_all = [](const ConcreteTraining& training) {
    return std::tuple(training.data, training.validation, training.metric);
  };
  const auto expected = of_all(read(baseline_));
  for (const Genotype& probe : probes()) {
    if (!invalid_reason(probe).empty()) continue;
    const Phenotype built = build(probe);  // throws with the path
    note_files(probe);
    NAS_CHECK(of_all(read(probe)) == expected,
              description_.where,
              ": ",
              short_text(probe),
              ": how images become input (spacing, orientation, intensity) and how trials are "
              "scored (validation) is the same for all trials and cannot be searched");
    try {
      infer_shapes(built.graph, built.patch);
    } catch (const Error& error) {
      fail(ErrorKind::Input,
           description_.where,
           ": ",
           short_text(probe),
           ": the network does not fit a patch of ",
           nas::to_text(built.patch),
           ": ",
           error.what());
    }
  }
  const std::optional<std::int64_t> combinations = product();
  if (!combinations || *combinations > kMostListed) return;
  std::vector<std::size_t> places;
  Genotype at = start_;
  for (std::size_t g = written_gene_ ? 1 : 0; g < genes_.size(); ++g) {
    places.push_back(g);
    at.values[g] = 0;
  }
  std::int64_t repeated = 0, invalid = 0;
  do {
    if (canonical(at) != at) {
      ++repeated;
      continue;
    }
    const std::string reason = invalid_reason(at);
    if (reason.empty()) continue;
    if (++invalid <= 5) notes_.push_back(concat_text("not valid: ", to_text(at), ": ", reason));
  } while (advance(genes_, places, at));
  if (invalid > 5) notes_.push_back(concat_text("not valid: ", invalid - 5, " more combinations"));
  if (repeated > 0)
    notes_.push_back(
        concat_text(repeated,
                    " of ",
                    *combinations,
                    " combinations differ in conditional values only; they are trained "
                    "once"));
}

void ConfigSpace::note_files(const Genotype& genotype) {
  const Json tree = concrete(genotype);
  for (const char* block : {"network", "loss"}) {
    if (!tree.contains(block) || !tree[block].contains("path")) continue;
    const std::string file = tree[block]["path"].get<std::string>();
    files_[file] = hash_file(file);
  }
}

std::vector<std::optional<Json>> ConfigSpace::values(const Genotype& genotype) const {
  const std::vector<Dimension>& dimensions = description_.rules.dimensions;
  std::vector<std::optional<Json>> result(dimensions.size());
  for (std::size_t d = 0; d < dimensions.size(); ++d) {
    const std::size_t g = gene_of(d);
    if (!active(genotype, g)) continue;
    result[d] = dimension_values(dimensions[d], genes_[g], genotype.values[g], written_[d] != 0);
  }
  return result;
}

std::string ConfigSpace::invalid_reason(const Genotype& genotype) const {
  if (std::string reason = malformed_reason(genotype); !reason.empty()) return reason;
  try {
    description_.resolved(values(genotype));
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

Json ConfigSpace::resolved(const Genotype& genotype) const {
  check_form(genotype);
  return without_gaps(description_.resolved(values(genotype)));
}

Json ConfigSpace::concrete(const Genotype& genotype, std::vector<std::string>* notes) const {
  check_form(genotype);
  return without_gaps(description_.concrete(values(genotype), notes));
}

ConcreteTraining ConfigSpace::read(const Genotype& genotype) const {
  return read_concrete(
      description_.concrete(values(genotype)), training_cases_, description_.where);
}

ConcreteTraining ConfigSpace::settings() const { return read(baseline_); }

Phenotype ConfigSpace::build(const Genotype& genotype) const {
  check(genotype);
  ConcreteTraining training = read(genotype);
  Phenotype result;
  result.patch = volume(training.patch) > 0 ? training.patch : planned_.patch;
  result.graph = make_described_network(
      training.network, planned_, result.patch, make_space_, description_.where);
  result.training = std::move(training.options);
  return result;
}

std::vector<Starter> ConfigSpace::portfolio() const {
  std::vector<Starter> starters{{"as written", baseline_}};
  if (start_ != baseline_) starters.push_back({"start", start_});
  return starters;
}

std::optional<std::int64_t> ConfigSpace::product() const {
  std::int64_t product = 1;
  for (std::size_t g = written_gene_ ? 1 : 0; g < genes_.size(); ++g) {
    if (genes_[g].ordered() || product > (std::int64_t{1} << 40)) return std::nullopt;
    product *= genes_[g].count();
  }
  return product;
}

std::vector<Genotype> ConfigSpace::probes() const {
  std::vector<Genotype> result{baseline_, start_};
  for (std::size_t g = 0; g < genes_.size(); ++g) {
    const int last = static_cast<int>(genes_[g].count()) - 1;
    for (int i = 0; i <= last; i += genes_[g].ordered() ? std::max(last, 1) : 1) {
      Genotype probe = start_;
      probe.values[g] = i;
      // A condition is met first.
      for (std::size_t up = g; genes_[up].parent >= 0;) {
        const auto parent = static_cast<std::size_t>(genes_[up].parent);
        const std::vector<int>& wanted = genes_[up].active_for;
        if (std::ranges::find(wanted, probe.values[parent]) == wanted.end())
          probe.values[parent] = wanted.front();
        up = parent;
      }
      result.push_back(canonical(std::move(probe)));
    }
  }
  return result;
}

std::string ConfigSpace::short_text(const Genotype& genotype, const Genotype* from) const {
  check_form(genotype);
  const Genotype& known = from != nullptr ? *from : start_;
  if (written_gene_ && genotype.values[0] == 1) return "as written";
  std::string text;
  for (std::size_t d = 0; d < description_.rules.dimensions.size(); ++d) {
    const std::size_t g = gene_of(d);
    if (genotype.values[g] == known.values[g] || !active(genotype, g)) continue;
    const Dimension& dimension = description_.rules.dimensions[d];
    // The whole key where the short name is another's too.
    std::string name = short_name(dimension);
    for (const Dimension& other : description_.rules.dimensions) {
      if (&other != &dimension && short_name(other) == name) name = dimension.key;
    }
    text += (text.empty() ? "" : " ") + name + "=" + genes_[g].text(genotype.values[g]);
  }
  if (!text.empty()) return text;
  if (from != nullptr) return kAsTheStart;
  return genotype == baseline_ ? "as written" : "start";
}

Json ConfigSpace::describe() const {
  return {{"space", name()},
          {"configuration", to_json(planned_)},
          {"training_cases", training_cases_},
          {"file", description_.where},
          {"folder", description_.folder.string()},
          {"files", files_},
          {"description", description_.root},
          {"environment", description_.environment}};
}

std::unique_ptr<SearchSpace> ConfigSpace::make(const Json& description, MakeSpace make_space) {
  const std::string where = "search space config";
  const JsonReader reader(description, where);
  reader.check_keys({"space",
                     "configuration",
                     "training_cases",
                     "file",
                     "folder",
                     "files",
                     "description",
                     "environment"});
  NAS_CHECK_KIND(Usage,
                 reader.has("description"),
                 where,
                 ": needs a training description; give one to `voxnas automl`");
  TrainingDescription read =
      make_description(reader.at("description").json(),
                       reader.has("environment") ? reader.at("environment").json() : Json::object(),
                       reader.has("file") ? reader.at("file").text() : where);
  if (reader.has("folder")) read.folder = reader.at("folder").text();
  auto space = std::make_unique<ConfigSpace>(
      std::move(read),
      configuration_from_json(reader.at("configuration").json(), where),
      reader.has("training_cases") ? reader.at("training_cases").integer(1, INT64_MAX) : 1,
      make_space);
  if (!reader.has("files")) return space;
  for (const std::string& file : reader.at("files").keys()) {
    const std::string begun = reader.at("files").at(file).text();
    const auto found = space->files_.find(file);
    NAS_CHECK(found != space->files_.end() && found->second == begun,
              file,
              ": is another file than the search began with: expected hash ",
              begun,
              ", found ",
              found == space->files_.end() ? "none" : found->second);
  }
  return space;
}

Json ConfigSpace::example() {
  static const char* const kText = R"({
    "format": "voxnas.training", "version": 1,
    "steps": 20, "batch": 2, "learning_rate": 0.01,
    "search": [{"domain": "lr", "type": "float", "args": "learning_rate", "targets": [1e-4, 0.1],
                "log": true}],
    "network": {"name": "monai-unet",
                "args": {"channels": [4, 8, 16], "strides": [2, 2], "num_res_units": 1,
                         "dropout": 0.0},
                "search": [{"domain": "net", "type": "enum", "args": "channels",
                            "targets": [[[4, 8, 16]], [[8, 8, 16]]]},
                           {"domain": "net", "type": "float", "args": "dropout",
                            "targets": [0, 0.5]}]},
    "loss": {"name": "dice_ce", "args": {}},
    "optimizer": {"name": "sgd", "args": {"lr": "{learning_rate}", "momentum": 0.9, "clip_norm": 1},
                  "search": [{"domain": "lr", "type": "float", "args": "momentum",
                              "targets": [0.5, 0.99]}]},
    "schedule": {"name": "poly", "args": {}}
  })";
  Configuration planned;
  planned.name = "3d_fullres";
  planned.patch = {16, 16, 16};
  planned.median_shape = {16, 16, 16};
  planned.normalization = {"ZScoreNormalization"};
  planned.use_mask_for_norm = {false};
  UnetArchitecture& a = planned.architecture;
  a.features = {4, 8};
  a.strides = {{1, 1, 1}, {2, 2, 2}};
  a.kernels = {{3, 3, 3}, {3, 3, 3}};
  a.blocks = {2, 2};
  a.decoder_convs = {2};
  return {{"space", "config"},
          {"configuration", to_json(planned)},
          {"training_cases", 8},
          {"file", "example"},
          {"description", parse_json(kText, "example")},
          {"environment", Json::object()}};
}

std::string dry_run_text(const ConfigSpace& space) {
  std::string text =
      concat_text(space.description().where,
                  ": ",
                  space.description().mmar ? "Clara Train configuration" : "training description",
                  "\n");
  const std::vector<Dimension>& dimensions = space.description().rules.dimensions;
  text +=
      concat_text(dimensions.size(), dimensions.size() == 1 ? " dimension:\n" : " dimensions:\n");
  const std::size_t shift = space.genes().size() - dimensions.size();
  for (std::size_t d = 0; d < dimensions.size(); ++d) {
    const Gene& gene = space.genes()[d + shift];
    text += concat_text("  ", gene.name, "  ", gene.range_text());
    for (const Apply& apply : space.description().rules.applies) {
      if (apply.dimension == d)
        text +=
            concat_text("; applied to ", apply.path, " ", apply.attribute ? "@" : "", apply.name);
    }
    text += "\n";
  }
  const std::optional<std::int64_t> product = space.product();
  if (dimensions.empty()) {
    text += "nothing is searched: one training as written\n";
  } else if (product) {
    text += concat_text("product: ", *product, *product == 1 ? " point\n" : " points\n");
  } else {
    text += concat_text("product: real numbers among them; about ",
                        format_count(space.count()),
                        " points at their resolution\n");
  }
  text += concat_text("individual 0: ", space.to_text(space.baseline()), "\n");
  for (const std::string& note : space.notes()) text += "note: " + note + "\n";
  return text;
}

Configuration stand_in_configuration(const TrainingDescription& description) {
  Configuration planned =
      configuration_from_json(ConfigSpace::example().at("configuration"), "stand-in configuration");
  planned.patch = {96, 96, 96};
  // Channels and classes as the description says, wherever it does.
  const auto look = [&](const char* pointer, const char* key, std::int64_t& value) {
    const Json::json_pointer at(pointer);
    if (!description.root.contains(at)) return;
    const Json& block = description.root[at];
    const Json& component = block.is_array() && !block.empty() ? block.front() : block;
    if (!component.is_object() || !component.contains("args")) return;
    const Json& args = component["args"];
    if (args.is_object() && args.contains(key) && args[key].is_number_integer())
      value = args[key].get<std::int64_t>();
  };
  for (const char* pointer : {"/train/model", "/network"}) {
    look(pointer, "in_channels", planned.architecture.in_channels);
    look(pointer, "out_channels", planned.architecture.classes);
    const Json::json_pointer path = Json::json_pointer(pointer) / "path";
    if (!description.root.contains(path) || !description.root[path].is_string()) continue;
    const std::string file =
        (description.folder / description.root[path].get<std::string>()).string();
    if (!is_graph_path(file) || !std::filesystem::is_regular_file(file)) continue;
    const NetworkEnds ends = network_ends(read_graph(file));  // a graph says it itself
    planned.architecture.in_channels = ends.channels;
    planned.architecture.classes = ends.classes;
  }
  planned.normalization.assign(static_cast<std::size_t>(planned.architecture.in_channels),
                               "ZScoreNormalization");
  planned.use_mask_for_norm.assign(planned.normalization.size(), false);
  return planned;
}

}  // namespace nas
