// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "nas/core/json.h"
#include "search_spaces/config_space/resolve.h"

namespace nas {

// Clara Train 4.x's training configuration (config_train.json of an MMAR). Its components are
// MONAI's; mmar_mapping.cpp says what each is here.

/// Whether this is such a configuration: it has a block "train". \throws Error(Input) in one
/// sentence for the TensorFlow form of Clara Train 3 and before.
bool is_mmar(const Json& root, const std::string& where);

/// The places of single components.
const std::vector<SinglePlace>& mmar_singles();

/// The concrete configuration in our own form. What has no effect here is noted; enabled components
/// and args that we do not have are refused with their path. \throws Error(Input).
Json from_mmar(const Json& concrete, const std::string& where, std::vector<std::string>& notes);

}  // namespace nas
