// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "nas/listeners/audience.h"
#include "nas/search/run_search.h"

namespace nas {

/// What `voxnas lead` was asked for.
struct LeadJob {
  std::filesystem::path run_folder;
  std::string workers = {};  // devices of worker processes (parse_workers); "": as the run, and
                             // where it has none, those that are started by hand
  std::string code_version;
  SearchAudience audience = {};
};

/// Goes on with a run whose leader was stopped or died. This process decides, workers train: it
/// opens no data and loads no LibTorch. \throws Error(Usage) where the leader has to measure or to
/// start a program of the user (a budget in time, a limit on step time, `--controller`,
/// `--executor`): `voxnas search --resume` does.
SearchEnd lead_run(const LeadJob& job);

}  // namespace nas
