// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/planned_unet/unet_space.h"

#include <algorithm>

#include "nas/core/error.h"
#include "search_spaces/planned_unet/unet.h"

namespace nas {
namespace {

constexpr std::int64_t kMinEdge =
    4;  // voxels of the coarsest feature map along a pooled axis: nnU-Net's rule
constexpr const char* kPlannedList = "planned";

/// Stride of a stage below the planned ones: halves every axis that stays at least kMinEdge long
/// and divides evenly.
Extent3 further_stride(const UnetArchitecture& planned, const Extent3& patch) {
  Extent3 stride{1, 1, 1};
  for (std::size_t a = 0; a < 3; ++a) {
    std::int64_t edge = patch[a];
    for (const Extent3& s : planned.strides) edge /= s[a];
    if (edge % 2 == 0 && edge / 2 >= kMinEdge) stride[a] = 2;
  }
  return stride;
}

bool uniform(const std::vector<std::int64_t>& values) {
  return std::ranges::all_of(values, [&](std::int64_t v) { return v == values.front(); });
}

/// The planned count first (or the word for a planned list), then the others.
std::vector<std::string> count_values(const std::vector<std::int64_t>& planned, std::int64_t most) {
  std::vector<std::string> values{uniform(planned) ? std::to_string(planned.front())
                                                   : kPlannedList};
  for (std::int64_t count = 1; count <= most; ++count) {
    if (std::ranges::find(values, std::to_string(count)) == values.end())
      values.push_back(std::to_string(count));
  }
  return values;
}

}  // namespace

UnetSpace::UnetSpace(Configuration planned) : planned_(std::move(planned)) {
  const UnetArchitecture& a = planned_.architecture;
  // Also the proof that the lists fit one another and the patch divides.
  infer_shapes(make_unet(a), planned_.patch);
  const int stages = static_cast<int>(a.features.size());

  genes_.push_back({"kind", "topology", {"plain", "residual"}});
  if (a.residual) std::ranges::reverse(genes_.back().values);

  stage_values_ = {stages};
  for (const int fewer : {stages - 1, stages - 2}) {
    if (fewer >= 2) stage_values_.push_back(fewer);
  }
  if (further_stride(a, planned_.patch) != Extent3{1, 1, 1} && stages < 16)
    stage_values_.push_back(stages + 1);
  Gene stage_gene{"stages", "topology", {}};
  for (const int value : stage_values_) stage_gene.values.push_back(std::to_string(value));
  genes_.push_back(stage_gene);

  genes_.push_back({"blocks", "topology", count_values(a.blocks, 3)});
  genes_.push_back({"decoder_convs", "topology", count_values(a.decoder_convs, 2)});

  feature_values_ = feature_choices(a.features[0], {0.25, 0.5, 0.75, 1.5, 2.0});
  Gene feature_gene{"features", "scale", {}};
  for (const std::int64_t value : feature_values_)
    feature_gene.values.push_back(std::to_string(value));
  genes_.push_back(feature_gene);
}

int UnetSpace::value(const Genotype& genotype, std::string_view gene) const {
  return genotype.values[place_of(gene)];
}

const std::string& UnetSpace::text(const Genotype& genotype, std::string_view gene) const {
  const std::size_t place = place_of(gene);
  return genes_[place].values[static_cast<std::size_t>(genotype.values[place])];
}

std::string UnetSpace::invalid_reason(const Genotype& genotype) const {
  if (std::string reason = malformed_reason(genotype); !reason.empty()) return reason;
  // A list such as ResEnc's 1 3 4 6 6 6 counts blocks of one kind; as plain convolutions it would
  // be another network than anybody planned.
  if (text(genotype, "blocks") == kPlannedList && value(genotype, "kind") != 0) {
    return "the planned list of blocks per stage belongs to kind=" +
           genes_[place_of("kind")].values[0];
  }
  return "";
}

UnetArchitecture UnetSpace::architecture(const Genotype& genotype) const {
  check(genotype);
  UnetArchitecture a = planned_.architecture;
  a.residual = text(genotype, "kind") == "residual";

  set_first_features(a, feature_values_[static_cast<std::size_t>(value(genotype, "features"))]);

  const auto stages =
      static_cast<std::size_t>(stage_values_[static_cast<std::size_t>(value(genotype, "stages"))]);
  if (stages > a.features.size()) {
    a.strides.push_back(further_stride(planned_.architecture, planned_.patch));
    a.kernels.push_back(a.kernels.back());
    // The planned widths double up to a cap: go on doubling unless the last planned step already
    // stood at the cap.
    const std::vector<std::int64_t>& planned = planned_.architecture.features;
    const bool capped = planned.back() < 2 * planned[planned.size() - 2];
    a.features.push_back(capped ? a.features.back() : 2 * a.features.back());
    a.blocks.push_back(a.blocks.back());
    a.decoder_convs.insert(a.decoder_convs.begin(), a.decoder_convs.front());
  } else if (stages < a.features.size()) {
    // Decoder stages are listed coarsest first: those of the dropped levels are at the front.
    a.decoder_convs.erase(
        a.decoder_convs.begin(),
        a.decoder_convs.begin() + static_cast<std::ptrdiff_t>(a.features.size() - stages));
    a.features.resize(stages);
    a.strides.resize(stages);
    a.kernels.resize(stages);
    a.blocks.resize(stages);
  }

  const auto set_counts = [&](std::vector<std::int64_t>& counts, const Gene& gene, int index) {
    const std::string& text = gene.values[static_cast<std::size_t>(index)];
    if (text != kPlannedList) std::ranges::fill(counts, std::stoll(text));
  };
  set_counts(a.blocks, genes_[2], value(genotype, "blocks"));
  set_counts(a.decoder_convs, genes_[3], value(genotype, "decoder_convs"));
  return a;
}

Phenotype UnetSpace::build(const Genotype& genotype) const {
  return {make_unet(architecture(genotype)), planned_.patch, Json::object()};
}

Genotype UnetSpace::baseline() const { return Genotype{std::vector<int>(genes_.size(), 0)}; }

std::vector<Starter> UnetSpace::portfolio() const {
  struct Row {
    const char* name;
    double width;  // of the plan's
    bool other_kind;
    int fewer_stages;
  };
  // Cheap ones early: a small budget sees the beginning of the list only.
  constexpr Row kRows[] = {{"plan", 1, false, 0},
                           {"half width", 0.5, false, 0},
                           {"quarter width", 0.25, false, 0},
                           {"residual", 1, true, 0},
                           {"residual, half width", 0.5, true, 0},
                           {"a stage less", 1, false, 1},
                           {"double width", 2, false, 0}};
  std::vector<Starter> starters;
  for (const Row& row : kRows) {
    Starter starter{row.name, baseline()};
    std::vector<int>& values = starter.genotype.values;
    const std::int64_t planned = planned_.architecture.features[0];
    // The row of that factor, rounded as the gene's values are.
    const std::int64_t wanted = feature_choices(planned, {row.width}).back();
    const auto width = std::ranges::find(feature_values_, wanted);
    values[place_of("features")] = static_cast<int>(width - feature_values_.begin());
    const int stages = stage_values_[0] - row.fewer_stages;
    const auto depth = std::ranges::find(stage_values_, stages);
    values[place_of("stages")] = static_cast<int>(depth - stage_values_.begin());
    if (row.other_kind) {
      const Gene& kind = genes_[place_of("kind")];
      values[place_of("kind")] = 1;
      if (kind.values[1] == "plain")
        starter.name.replace(0, std::string("residual").size(), "plain");
      // A planned list of blocks belongs to the planned kind.
      const std::vector<std::string>& blocks = genes_[place_of("blocks")].values;
      if (blocks[0] == kPlannedList) {
        values[place_of("blocks")] =
            static_cast<int>(std::ranges::find(blocks, "2") - blocks.begin());
      }
    }
    if (width == feature_values_.end() || (row.width != 1 && wanted == planned)) {
      starter.missing = concat_text("the planned width of ", planned, " leaves no such width");
    } else if (depth == stage_values_.end()) {
      starter.missing = concat_text("the plan has ", stage_values_[0], " stages only");
    }
    if (!starter.missing.empty()) starter.genotype = {};
    starters.push_back(std::move(starter));
  }
  for (const char* other : {"c2fnas", "mixed-unet"}) {
    starters.push_back({concat_text(other, " start"),
                        {},
                        concat_text("space unet has no networks of space ", other)});
  }
  return starters;
}

Json UnetSpace::describe() const {
  return {{"space", name()}, {"configuration", to_json(planned_)}};
}

std::unique_ptr<SearchSpace> UnetSpace::make(const Json& description) {
  const JsonReader reader(description, "search space unet");
  reader.check_keys({"space", "configuration"});
  return std::make_unique<UnetSpace>(configuration_from_json(reader.at("configuration").json(),
                                                             "search space unet: configuration"));
}

Json UnetSpace::example() {
  Configuration c;
  c.name = "3d_fullres";
  c.patch = {16, 32, 32};
  c.median_shape = {16, 32, 32};
  c.normalization = {"ZScoreNormalization"};
  c.use_mask_for_norm = {false};
  UnetArchitecture& a = c.architecture;
  a.in_channels = 1;
  a.classes = 3;
  a.features = {8, 16, 32};
  a.strides = {{1, 1, 1}, {1, 2, 2}, {2, 2, 2}};
  a.kernels = {{1, 3, 3}, {3, 3, 3}, {3, 3, 3}};
  a.blocks = {2, 2, 2};
  a.decoder_convs = {2, 2};
  return UnetSpace(c).describe();
}

}  // namespace nas
