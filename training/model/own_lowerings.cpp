// SPDX-License-Identifier: Apache-2.0
#include "training/model/own_lowerings.h"

#include "nas/core/open_table.h"

namespace nas {
namespace {

OpenTable<OwnLowering>& table() {
  static OpenTable<OwnLowering> lowerings(
      "lowering of operation", [](const OwnLowering& row) { return row.op; }, {});
  return lowerings;
}

}  // namespace

void add_lowering(OwnLowering lowering) { table().add(std::move(lowering)); }
const OwnLowering* own_lowering(const std::string& op) { return table().find(op); }

}  // namespace nas
