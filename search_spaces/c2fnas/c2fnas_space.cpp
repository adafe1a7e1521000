// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/c2fnas/c2fnas_space.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "nas/core/error.h"
#include "search_spaces/alternatives.h"
#include "search_spaces/planned_unet/unet_space.h"

namespace nas {
namespace {

constexpr std::int64_t kCellCounts[] = {12, 14, 16};
constexpr std::int64_t kBaseFilters[] = {32, 24, 16, 12, 8, 6, 4, 2};
constexpr const char* kPatchFactors[] = {"1", "0.75", "1.25"};
constexpr const char* kFilterFactors[] = {"1", "0.5", "0.75", "1.5"};

/// Strides of stem and levels from those of the planned stages, and a sentence about them.
void adapt(const UnetArchitecture& planned, C2fnasNetwork& network) {
  const std::vector<Extent3>& strides = planned.strides;
  const std::size_t stages = strides.size();
  const std::size_t first = stages >= 5 ? 1 : 0;  // the stage that is level 0
  network.stem_stride = first ? strides[1] : Extent3{1, 1, 1};
  network.name = first ? "c2fnas: level 0 is the plan's stage 1 (stem stride " +
                             to_text(strides[1]) + ", as published)"
                       : "c2fnas: level 0 is at full resolution (the plan has only " +
                             std::to_string(stages) + " stages)";
  network.name += "; strides to levels 1, 2, 3:";
  for (std::size_t l = 0; l < network.strides.size(); ++l) {
    const std::size_t stage = first + l + 1;
    network.strides[l] = stage < stages ? strides[stage] : Extent3{1, 1, 1};
    network.name += (l ? ", " : " ") + to_text(network.strides[l]);
    if (stage >= stages) network.name += " (deeper than the plan)";
  }
}

/// `edges` times `factor`, each rounded to the nearest multiple of `unit`, at least one.
Extent3 scaled_patch(const Extent3& edges, double factor, const Extent3& unit) {
  Extent3 result{};
  for (std::size_t a = 0; a < 3; ++a) {
    const double units = factor * static_cast<double>(edges[a]) / static_cast<double>(unit[a]);
    result[a] = unit[a] * std::max<std::int64_t>(1, std::llround(units));
  }
  return result;
}

template <class T>
bool add_new(std::vector<T>& known, const T& value) {
  if (std::ranges::find(known, value) != known.end()) return false;
  known.push_back(value);
  return true;
}

}  // namespace

C2fnasSpace::C2fnasSpace(Configuration given, const C2fnasOptions& options)
    : BesidePlan(std::move(given)) {
  const UnetArchitecture& a = planned().architecture;
  base_.in_channels = a.in_channels;
  base_.classes = a.classes;
  base_.set = options.operations;
  base_.through_plane = through_plane_axis(planned().spacing);
  base_.deep_supervision =
      options.deep_supervision < 0 ? a.deep_supervision : options.deep_supervision != 0;
  base_.levels = c2fnas_panc(1, 2).levels;
  base_.operations = {};
  adapt(a, base_);

  Extent3 unit = base_.stem_stride;
  for (const Extent3& stride : base_.strides) {
    for (std::size_t axis = 0; axis < 3; ++axis) unit[axis] *= stride[axis];
  }
  NAS_CHECK_KIND(Shape,
                 scaled_patch(planned().patch, 1, unit) == planned().patch,
                 "space c2fnas: expected a planned patch that the strides (",
                 nas::to_text(unit),
                 " in all) divide, got ",
                 nas::to_text(planned().patch));
  NAS_CHECK(options.base_filters >= 0 && options.base_filters <= 1024,
            "space c2fnas: base_filters: expected 1 to 1024 (0: from the plan), got ",
            options.base_filters);
  base_.base_filters = options.base_filters;
  for (const std::int64_t filters : kBaseFilters) {
    if (options.base_filters > 0) break;
    base_.base_filters = filters;
    const Cost cost = total_cost(make_c2fnas(base_), planned().patch);
    if (2 * cost.parameters <= planned_parameters()) break;
  }

  std::vector<Gene> genes;
  std::vector<int> start;
  for (int cell = 1; cell <= 12; ++cell) {
    genes.push_back({"level" + std::to_string(cell), "topology", {"0", "1", "2", "3"}});
    start.push_back(base_.levels[static_cast<std::size_t>(cell - 1)]);
  }
  for (int cell = 1; cell <= 12; ++cell)
    genes.push_back({"op" + std::to_string(cell), "operations", cell_operations(base_.set)});
  // Small patches and widths: two factors may give the same, which is then one value.
  Gene patch_gene{"patch", "scale", {}}, filter_gene{"filters", "scale", {}};
  for (const char* factor : kPatchFactors) {
    const Extent3 patch = scaled_patch(planned().patch, std::stod(factor), unit);
    const Extent3 deepest{patch[0] / unit[0], patch[1] / unit[1], patch[2] / unit[2]};
    if (volume(deepest) < 2 && !patches_.empty()) continue;  // nothing to normalise over
    if (add_new(patches_, patch)) patch_gene.values.emplace_back(factor);
  }
  for (const char* factor : kFilterFactors) {
    const double filters = std::stod(factor) * static_cast<double>(base_.base_filters);
    if (add_new(filters_, std::max<std::int64_t>(1, std::llround(filters))))
      filter_gene.values.emplace_back(factor);
  }
  Gene cells_gene{"cells", "scale", {}};
  for (const std::int64_t cells : kCellCounts) cells_gene.values.push_back(std::to_string(cells));
  genes.push_back(std::move(patch_gene));
  genes.push_back(std::move(cells_gene));
  genes.push_back(std::move(filter_gene));
  start.resize(genes.size(), 0);
  set_genes("c2fnas", std::move(genes), std::move(start));

  levels_.first = place_of("level1");
  for (const CellLevels& levels : macro_candidates())
    levels_.combinations.emplace_back(levels.begin(), levels.end());
  infer_shapes(make_c2fnas(base_), planned().patch);  // proof that it can be built
}

std::string C2fnasSpace::invalid_network(const Genotype& genotype) const {
  return is_macro_candidate(std::span(genotype.values).subspan(levels_.first).first<12>())
             ? ""
             : "the levels of the cells must walk from level 0 to level 3 or 2 and back to 0, or "
               "twice to level 2 and back, one level at most per cell";
}

C2fnasNetwork C2fnasSpace::describe_network(const Genotype& genotype) const {
  C2fnasNetwork network = base_;
  for (std::size_t c = 0; c < network.levels.size(); ++c) {
    network.levels[c] = genotype.values[levels_.first + c];
    network.operations[c] = genotype.values[place_of("op1") + c];
  }
  network.cells = kCellCounts[genotype.values[place_of("cells")]];
  network.base_filters = filters_[static_cast<std::size_t>(genotype.values[place_of("filters")])];
  return network;
}

Extent3 C2fnasSpace::patch(const Genotype& genotype) const {
  return patches_[static_cast<std::size_t>(genotype.values[place_of("patch")])];
}

Phenotype C2fnasSpace::network(const Genotype& genotype) const {
  return {make_c2fnas(describe_network(genotype)), patch(genotype), Json::object()};
}

SuperNetwork C2fnasSpace::open_network(const Genotype& fixed) const {
  C2fnasNetwork network = describe_network(fixed);
  network.operations.fill(kOpen);
  SuperNetwork open{make_c2fnas(network), {}, patch(fixed)};
  for (const CellPlace& place : cell_places(network.cells))
    open.genes.push_back(place_of("op1") + static_cast<std::size_t>(place.cell));
  return open;
}

std::string C2fnasSpace::short_word(const std::string& name) const {
  return name == "level" ? "" : "ops";
}

Json C2fnasSpace::describe() const {
  return {{"space", name()},
          {"configuration", to_json(planned())},
          {"operations", base_.set},
          {"base_filters", base_.base_filters},
          {"deep_supervision", base_.deep_supervision},
          {"adaptation", adaptation()}};
}

std::unique_ptr<SearchSpace> C2fnasSpace::make(const Json& description) {
  const std::string where = "search space c2fnas";
  const JsonReader reader(description, where);
  reader.check_keys({"space",
                     "configuration",
                     "operations",
                     "base_filters",
                     "deep_supervision",
                     "adaptation"});  // the last one is told, not read
  C2fnasOptions options;
  if (reader.has("operations")) options.operations = reader.at("operations").text();
  if (reader.has("base_filters")) options.base_filters = reader.at("base_filters").integer(1, 1024);
  if (reader.has("deep_supervision"))
    options.deep_supervision = reader.at("deep_supervision").boolean();
  return std::make_unique<C2fnasSpace>(
      configuration_from_json(reader.at("configuration").json(), where + ": configuration"),
      options);
}

Json C2fnasSpace::example() {
  Json description{{"space", "c2fnas"}, {"base_filters", 4}};
  description["configuration"] = UnetSpace::example()["configuration"];
  return make(description)->describe();
}

}  // namespace nas
