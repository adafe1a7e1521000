// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "search_spaces/config_space/mmar_args.h"

namespace nas {

/// What one class of MONAI's (or Clara's) is here.
struct ClaraClass {
  const char* block;  // "model", "loss", "optimizer", "lr_scheduler", "transform",
                      // "key_metric"
  const char* name;   // "DiceLoss"
  const char* ours;   // "loss dice", "" where there is nothing to do
  void (*map)(ClaraArgs& args, OwnDescription& own);
};
/// The mapping table: one row per class.
const std::vector<ClaraClass>& clara_classes();
/// \throws Error(Input) naming the path, the class, the known ones and the nearest.
const ClaraClass& clara_class(std::string_view block,
                              const std::string& name,
                              const std::string& where);

}  // namespace nas
