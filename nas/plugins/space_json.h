// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "nas/core/json.h"
#include "nas/search/search_space.h"

namespace nas {

/// A space for a program: {"name", "genes": [{"name", "group", "kind": "choice", "values": [...],
/// "planned": text} or {"kind": "integer"|"real", "low", "high", "log", "planned"}]}; genes of a
/// condition have "active_where": {gene: [texts]}.
Json space_to_json(const SearchSpace& space);

/// The genes that count, by name; choices as texts, numbers as numbers.
Json values_to_json(const SearchSpace& space, const Genotype& genotype);

/// Genes that are left out keep their planned value; numbers go to the nearest value of the gene.
/// \throws Error(Input) naming the gene, what was expected and found.
Genotype values_from_json(const SearchSpace& space, const JsonReader& values);

}  // namespace nas
