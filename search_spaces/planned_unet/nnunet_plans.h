// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "nas/core/json.h"
#include "search_spaces/planned_unet/plan.h"

namespace nas {

/// A configuration of nnU-Net's plans.json (2.2 and later; `inherits_from` is followed), checked to
/// be one that `make_unet` builds: a plain or residual-encoder U-Net in 3D with instance norm,
/// leaky ReLU and convolutions with bias. \param classes labels, background included: a plans.json
/// does not say. \throws Error(Usage) if there is no such configuration, Error(Input) naming
/// `where`, the key, what was expected and found.
Configuration nnunet_configuration(const Json& plans,
                                   const std::string& where,
                                   const std::string& name,
                                   std::int64_t classes);

/// Checks what decides how images are prepared and results brought back: nnU-Net's default
/// preprocessor and resampling, the only ones that `preprocess_case` knows. \throws Error(Input).
void check_nnunet_preprocessing(const Json& plans,
                                const std::string& where,
                                const std::string& name);

/// The structure of nnU-Net's plans.json with the 3D configurations and the cascade (2D is not
/// planned), and our "orientation" where it is known.
Json nnunet_plans_json(const Plan& plan);

}  // namespace nas
