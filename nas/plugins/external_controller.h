// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/search/strategy_kind.h"

namespace nas {

/// Kind "external": a program of the user decides what to try (docs/formats.md, "Plug-ins"). Option
/// `command`: program and arguments; `seconds`: for each of its answers; `trials`. Individual 0 is
/// tried first, whatever the program says. A genotype that is not valid, not admissible or was
/// proposed before is told back as failed with the reason, and is no trial.
const StrategyKind& external_kind();

}  // namespace nas
