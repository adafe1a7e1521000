// SPDX-License-Identifier: Apache-2.0
#include "nas/plugins/space_json.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/text.h"

namespace nas {
namespace {

Json value_of(const Gene& gene, int index) {
  if (gene.kind == Gene::Kind::Choice) return gene.text(index);
  const double number = gene.value(index);
  if (gene.kind == Gene::Kind::Integer) return static_cast<std::int64_t>(number);
  return number;
}

}  // namespace

Json space_to_json(const SearchSpace& space) {
  Json genes = Json::array();
  for (const Gene& gene : space.genes()) {
    Json item{
        {"name", gene.name}, {"group", gene.group}, {"planned", value_of(gene, gene.planned)}};
    if (gene.kind == Gene::Kind::Choice) {
      item["kind"] = "choice";
      item["values"] = gene.values;
    } else {
      item["kind"] = gene.kind == Gene::Kind::Integer ? "integer" : "real";
      item["low"] = gene.lo;
      item["high"] = gene.hi;
      item["log"] = gene.log;
    }
    if (gene.parent >= 0) {
      const Gene& parent = space.genes().at(static_cast<std::size_t>(gene.parent));
      Json values = Json::array();
      for (const int index : gene.active_for) values.push_back(value_of(parent, index));
      item["active_where"] = {{parent.name, values}};
    }
    genes.push_back(std::move(item));
  }
  return {{"name", space.name()}, {"genes", genes}};
}

Json values_to_json(const SearchSpace& space, const Genotype& genotype) {
  Json values = Json::object();
  for (std::size_t g = 0; g < space.genes().size(); ++g) {
    if (!space.active(genotype, g)) continue;
    const Gene& gene = space.genes()[g];
    values[gene.name] = value_of(gene, genotype.values.at(g));
  }
  return values;
}

Genotype values_from_json(const SearchSpace& space, const JsonReader& values) {
  std::vector<std::string> names;
  for (const Gene& gene : space.genes()) names.push_back(gene.name);
  values.check_keys(names);
  Genotype genotype = space.start();
  for (std::size_t g = 0; g < space.genes().size(); ++g) {
    const Gene& gene = space.genes()[g];
    if (!values.has(gene.name)) continue;
    const Json& value = values.at(gene.name).json();
    const auto index = gene.index(value.is_string() ? value.get<std::string>() : value.dump());
    NAS_CHECK(index.has_value(),
              values.at(gene.name).where(),
              ": expected ",
              gene.range_text(),
              ", found ",
              value.dump().substr(0, 64));
    genotype.values[g] = *index;
  }
  return space.canonical(std::move(genotype));
}

}  // namespace nas
