// SPDX-License-Identifier: Apache-2.0
#include "training/fit/own_losses.h"

#include "nas/core/open_table.h"
#include "training/settings/loss_names.h"

namespace nas {
namespace {

OpenTable<OwnLoss>& table() {
  static OpenTable<OwnLoss> losses("loss", [](const OwnLoss& row) { return row.name; }, {});
  return losses;
}

}  // namespace

void add_loss(OwnLoss loss) {
  add_loss_name(loss.name);
  table().add(std::move(loss));
}
const OwnLoss* own_loss(const std::string& name) { return table().find(name); }

}  // namespace nas
