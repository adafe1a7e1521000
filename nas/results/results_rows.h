// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "nas/results/sqlite.h"
#include "nas/search/evaluator.h"
#include "nas/search/results_records.h"

/// Rows of results.sqlite as values. What stands in a file from elsewhere is checked: names of
/// folders above all. For results_db.h alone.
namespace nas::results {

/// Of a row with kRunColumns, kStageColumns, kTrialColumns. \throws Error(Input) naming file and row.
RunRecord read_run(sqlite::Statement& row);
StageRecord read_stage(sqlite::Statement& row, const std::filesystem::path& file);
Trial read_trial(sqlite::Statement& row, const std::filesystem::path& file);

std::string winner_text(const Winner& winner);

/// Folders are named by the label of a final training: only the known roles;
/// those of other trials name a contestant for people. \throws Error(Input).
void check_label(const Trial& trial, const std::string& where);

}  // namespace nas::results
