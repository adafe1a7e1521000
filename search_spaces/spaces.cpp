// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/spaces.h"

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "search_spaces/c2fnas/c2fnas_space.h"
#include "search_spaces/config_space/config_space.h"
#include "search_spaces/planned_unet/mixed_unet_space.h"
#include "search_spaces/planned_unet/plan.h"
#include "search_spaces/planned_unet/unet_space.h"
#include "search_spaces/training_genes.h"
#include "search_spaces/vnas/vnas_space.h"

namespace nas {
namespace {

struct SpaceRow {
  const char* name;
  std::unique_ptr<SearchSpace> (*make)(const Json& description);
  Json (*example)();
};

/// The table of spaces: a new space is one row here.
const SpaceRow kSpaces[] = {
    {"unet", UnetSpace::make, UnetSpace::example},
    {"c2fnas", C2fnasSpace::make, C2fnasSpace::example},
    {"vnas", VnasSpace::make, VnasSpace::example},
    {"mixed-unet", MixedUnetSpace::make, MixedUnetSpace::example},
    {"training_genes",
     [](const Json& description) { return TrainingGenesSpace::make(description, make_space); },
     [] { return TrainingGenesSpace(make_space(UnetSpace::example())).describe(); }},
    {"config",
     [](const Json& description) { return ConfigSpace::make(description, make_space); },
     ConfigSpace::example},
};

const SpaceRow& row_of(const std::string& name) {
  for (const SpaceRow& row : kSpaces) {
    if (name == row.name) return row;
  }
  fail(ErrorKind::Usage,
       "unknown search space '",
       name.substr(0, 64),
       "'; expected one of ",
       joined(space_names()),
       did_you_mean(name, space_names()));
}

}  // namespace

std::unique_ptr<SearchSpace> make_space(const Json& description) {
  return row_of(JsonReader(description, "search space").at("space").text()).make(description);
}

std::unique_ptr<SearchSpace> space_for_plan(const std::string& name,
                                            const Configuration& planned,
                                            const Json& options) {
  const SpaceRow& row = row_of(name);
  NAS_CHECK(options.is_null() || options.is_object(),
            "options of search space ",
            name,
            ": expected an object, found ",
            options.dump().substr(0, 64));
  Json description = options.is_null() ? Json::object() : options;
  for (const char* key : {"space", "configuration"}) {
    NAS_CHECK_KIND(Usage,
                   !description.contains(key),
                   "options of search space ",
                   name,
                   ": \"",
                   key,
                   "\" comes from the recipe and the plan");
  }
  description["space"] = name;
  description["configuration"] = to_json(planned);
  return row.make(description);
}

std::vector<std::string> space_names() {
  std::vector<std::string> names;
  for (const SpaceRow& row : kSpaces) names.emplace_back(row.name);
  return names;
}

Json example_description(const std::string& name) { return row_of(name).example(); }

}  // namespace nas
