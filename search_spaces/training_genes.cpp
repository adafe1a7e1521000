// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/training_genes.h"

#include <algorithm>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "nas/network/operations.h"

namespace nas {
namespace {

constexpr const char* kPlanned = "planned";
constexpr const char* kMirror = "mirror";

bool is_activation(const Node& node) {
  if (node.op == "choice" || node.op == "sigmoid") return false;
  return operation(node).kind == OperationKind::Activation;
}

/// The activation of a graph, or "" if it has none or several.
std::string activation_of(const Graph& graph) {
  std::string found;
  for (const Node& node : graph.nodes) {
    if (!is_activation(node)) continue;
    if (!found.empty() && found != node.op) return "";
    found = node.op;
  }
  return found;
}

/// Whether `node` is a convolution, or a choice between graphs that end in one.
bool is_convolution(const Node& node) {
  if (node.op != "choice") return operation(node).kind == OperationKind::Convolution;
  return std::ranges::all_of(node.alternatives, [](const Graph& graph) {
    const auto result = static_cast<std::size_t>(graph.output_nodes().front());
    const auto last = static_cast<std::size_t>(graph.nodes[result].inputs[0]);
    return is_convolution(graph.nodes[last]);
  });
}

double number_of(const std::string& text) {
  return std::stod(text[0] == 'x' ? text.substr(1) : text);
}

}  // namespace

TrainingGenesSpace::TrainingGenesSpace(std::unique_ptr<SearchSpace> inner,
                                       const std::vector<std::string>& names)
    : inner_(std::move(inner)), genes_(inner_->genes()) {
  Gene activation{"activation", "training", {kPlanned}};
  const std::string planned = activation_of(inner_->build(inner_->baseline()).graph);
  for (const char* op : {"relu", "leaky_relu", "elu", "prelu"}) {
    if (op != planned) activation.values.emplace_back(op);
  }
  // Beside others a strong augmentation is one setting of many; in a race, which is short, far ones
  // would only show how little a short training needs of it.
  std::vector<std::string> strengths{"x1", "x0", "x0.5", "x1.5", "x2"};
  if (names == kRaceGenes) strengths = {"x1", "x0.5", "x1.5"};
  const std::vector<Gene> all{
      Gene{"optimizer", "training", {kPlanned, "adamw", "sgd", "muon"}},
      Gene{"learning_rate", "training", {"x1", "x0.5", "x2", "x0.25", "x4"}},
      Gene{"schedule", "training", {kPlanned, "cosine", "poly", "constant"}},
      Gene{"weight_decay", "training", {"x1", "x0.1", "x10", "x0"}},
      Gene{"loss", "training", {kPlanned, "dice_focal", "ce"}},
      Gene{"foreground", "training", {kPlanned, "0.1", "0.5", "0.67"}},
      Gene{"augmentation", "training", strengths},
      Gene{"dropout", "training", {"0", "0.1", "0.2", "0.3"}},
      activation,
      Gene{kMirror, "training", {"no", "rule"}}};
  std::vector<std::string> known;
  for (const Gene& gene : all) known.push_back(gene.name);
  for (const std::string& name : names) {
    NAS_CHECK_KIND(Usage,
                   std::ranges::find(known, name) != known.end(),
                   "search space training_genes: genes: expected names out of ",
                   joined(known),
                   ", found \"",
                   name.substr(0, 64),
                   "\"",
                   did_you_mean(name, known));
  }
  for (const Gene& gene : all) {
    const bool wanted =
        names.empty() ? gene.name != kMirror : std::ranges::find(names, gene.name) != names.end();
    if (!wanted) continue;
    NAS_CHECK(std::ranges::find(genes_, gene.name, &Gene::name) == genes_.end(),
              "training genes: space ",
              inner_->name(),
              " has a gene ",
              gene.name,
              " already");
    genes_.push_back(gene);
  }
}

bool TrainingGenesSpace::has(std::string_view gene) const {
  return std::ranges::find(genes_, gene, &Gene::name) != genes_.end();
}

Genotype TrainingGenesSpace::inner_part(const Genotype& genotype) const {
  Genotype part = genotype;
  part.values.resize(inner_->genes().size());
  return part;
}

Genotype TrainingGenesSpace::with_planned(Genotype inner) const {
  inner.values.resize(genes_.size(), 0);
  return inner;
}

std::vector<Starter> TrainingGenesSpace::portfolio() const {
  std::vector<Starter> starters = inner_->portfolio();
  for (Starter& starter : starters) {
    if (starter.missing.empty()) starter.genotype = with_planned(starter.genotype);
  }
  if (!has(kMirror)) return starters;
  // Twins of one network tell settings apart; of a cheap one, so that it costs little.
  const Genotype plan = baseline();
  const auto first = std::ranges::find_if(starters, [&](const Starter& starter) {
    return starter.missing.empty() && starter.genotype != plan;
  });
  const Starter origin = first == starters.end() ? Starter{"plan", plan} : *first;
  for (std::size_t g = inner_->genes().size(); g < genes_.size(); ++g) {
    for (int value = 1; value < genes_[g].count(); ++value) {
      Starter twin = origin;
      twin.genotype.values[g] = value;
      twin.name += concat_text(", ", genes_[g].name, " ", genes_[g].text(value));
      starters.push_back(std::move(twin));
    }
  }
  return starters;
}

std::string TrainingGenesSpace::invalid_reason(const Genotype& genotype) const {
  if (std::string reason = malformed_reason(genotype); !reason.empty()) return reason;
  return inner_->invalid_reason(inner_part(genotype));
}

std::string TrainingGenesSpace::text(const Genotype& genotype,
                                     std::string_view gene,
                                     const std::string& planned) const {
  if (!has(gene)) return planned;
  const std::size_t place = place_of(gene);
  return genes_[place].values[static_cast<std::size_t>(genotype.values[place])];
}

Phenotype TrainingGenesSpace::build(const Genotype& genotype) const {
  check(genotype);
  Phenotype result = inner_->build(inner_part(genotype));
  if (!result.training.is_object()) result.training = Json::object();
  for (const char* option : {"optimizer", "schedule", "loss"}) {
    if (const std::string word = text(genotype, option, kPlanned); word != kPlanned) {
      result.training[option] = word;
    }
  }
  for (const char* option : {"learning_rate", "weight_decay", "augmentation"}) {
    if (const std::string factor = text(genotype, option, "x1"); factor != "x1") {
      result.training[std::string(option) + "_factor"] = number_of(factor);
    }
  }
  if (const std::string share = text(genotype, "foreground", kPlanned); share != kPlanned) {
    result.training["foreground_fraction"] = number_of(share);
  }
  if (text(genotype, kMirror, "rule") == "no") result.training["mirror"] = false;
  result.graph = changed(result.graph, genotype);
  return result;
}

Graph TrainingGenesSpace::changed(const Graph& graph, const Genotype& genotype) const {
  const std::string op = text(genotype, "activation", kPlanned);
  const double p = number_of(text(genotype, "dropout", "0"));
  Graph result = op == kPlanned ? graph : with_activation(graph, op);
  return p > 0 ? with_dropout(result, p) : result;
}

SuperNetwork TrainingGenesSpace::super_network(const Genotype& fixed) const {
  if (!has_super_network()) return SearchSpace::super_network(fixed);  // the error, with our name
  // Genes of the inner space keep their places.
  SuperNetwork network = inner_->super_network(inner_part(fixed));
  network.graph = changed(network.graph, fixed);
  return network;
}

std::string TrainingGenesSpace::short_text(const Genotype& genotype, const Genotype* from) const {
  const std::string own = short_genes(genotype, from, inner_->genes().size());
  const Genotype network = inner_part(genotype);
  if (from == nullptr) return inner_->short_text(network) + (own.empty() ? "" : " " + own);
  const Genotype known = inner_part(*from);
  if (network == known) return own.empty() ? kAsTheStart : own;
  return inner_->short_text(network, &known) + (own.empty() ? "" : " " + own);
}

double TrainingGenesSpace::count() const {
  double product = inner_->count();
  for (std::size_t g = inner_->genes().size(); g < genes_.size(); ++g) {
    product *= static_cast<double>(genes_[g].count());
  }
  return product;
}

Json TrainingGenesSpace::describe() const {
  Json inner = inner_->describe();
  Json description{{"space", name()}};
  if (inner.contains("configuration")) {
    description["configuration"] = inner["configuration"];
    inner.erase("configuration");
  }
  description["inner"] = std::move(inner);
  // As before this list could be given, where nobody gave one.
  if (has(kMirror) || !has("optimizer")) {
    description["genes"] = Json::array();
    for (std::size_t g = inner_->genes().size(); g < genes_.size(); ++g) {
      description["genes"].push_back(genes_[g].name);
    }
  }
  return description;
}

std::unique_ptr<SearchSpace> TrainingGenesSpace::make(
    const Json& description, std::unique_ptr<SearchSpace> (*make_inner)(const Json&)) {
  const JsonReader reader(description, "search space training_genes");
  reader.check_keys({"space", "configuration", "inner", "genes"});
  Json inner{{"space", "unet"}};
  if (reader.has("inner")) {
    reader.at("inner").keys();  // must be an object; the inner space checks the rest
    inner = reader.at("inner").json();
  }
  if (reader.has("configuration")) inner["configuration"] = reader.at("configuration").json();
  const auto names = reader.has("genes") ? reader.at("genes").texts() : std::vector<std::string>{};
  return with_training_genes(make_inner(inner), names);
}

std::unique_ptr<SearchSpace> with_training_genes(std::unique_ptr<SearchSpace> space,
                                                 const std::vector<std::string>& names) {
  return std::make_unique<TrainingGenesSpace>(std::move(space), names);
}

bool mirroring_is_searched(const SearchSpace& space) {
  return dynamic_cast<const TrainingGenesSpace*>(&space) != nullptr &&
         std::ranges::find(space.genes(), kMirror, &Gene::name) != space.genes().end();
}

Graph with_activation(const Graph& graph, const std::string& op) {
  Graph result = graph;
  for (Node& node : result.nodes) {
    for (Graph& alternative : node.alternatives) alternative = with_activation(alternative, op);
    if (!is_activation(node) || node.op == op) continue;
    node.op = op;
    node.attributes.clear();
  }
  return result;
}

Graph with_dropout(const Graph& graph, double p) {
  Graph result;
  result.name = graph.name;
  std::vector<int> place(graph.nodes.size());  // of each old node in the result
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    Node node = graph.nodes[i];
    for (Graph& alternative : node.alternatives) alternative = with_dropout(alternative, p);
    const bool norm = node.op != "choice" && operation(node).kind == OperationKind::Norm;
    const Node* input = norm ? &graph.nodes[static_cast<std::size_t>(node.inputs[0])] : nullptr;
    for (int& from : node.inputs) from = place[static_cast<std::size_t>(from)];
    if (input && is_convolution(*input)) {
      node.inputs[0] = result.add("dropout", node.name + ".dropout", {node.inputs[0]}, {{"p", p}});
    }
    place[i] = static_cast<int>(result.nodes.size());
    result.nodes.push_back(std::move(node));
  }
  return result;
}

}  // namespace nas
