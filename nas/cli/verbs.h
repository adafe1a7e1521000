// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

namespace nas {

/// A row of the table of verbs: what both programs know of each.
struct Verb {
  const char* name;
  const char* summary;  // one line of --help
  const char* example;  // one runnable line for the verb's --help
  bool needs_torch;     // carried out by voxnas-torch
};

/// All verbs, in the order of --help.
std::span<const Verb> verbs();

}  // namespace nas
