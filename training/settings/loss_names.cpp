// SPDX-License-Identifier: Apache-2.0
#include "training/settings/loss_names.h"

#include "nas/core/open_table.h"

namespace nas {
namespace {

OpenTable<std::string>& table() {
  static OpenTable<std::string> names("loss",
                                      [](const std::string& name) { return name; },
                                      {"dice_ce", "dice_focal", "ce", "dice", "focal"});
  return names;
}

}  // namespace

const std::vector<std::string>& loss_names() { return table().rows(); }
void add_loss_name(const std::string& name) { table().add(name); }

}  // namespace nas
