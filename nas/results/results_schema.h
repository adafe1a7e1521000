// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "nas/results/sqlite.h"

/// The tables of results.sqlite (docs/formats.md), and whether a file is a database with them. For
/// results_db.h alone.
namespace nas::results {

inline constexpr const char* kRunColumns =
    "folder, host, command, data_folder, fold, recipe, plan, space, setup, budget_seconds, "
    "budget_steps, seed, code_version, created_unix, budget_effort";
inline constexpr const char* kStageColumns =
    "name, status, seconds, steps, trials, rungs, ends_at, cost_limit, "
    "candidates, started, ended, winner, story, effort, horizon";
inline constexpr const char* kTrialColumns =
    "id, stage, purpose, label, proposal, rung, share, genotype, genotype_values, genotype_id, "
    "graph_id, parameters, macs, memory_bytes, request, source, steps, seconds_limit, "
    "settings, seed, attempt, status, score, how, steps_done, seconds, metrics, details, decoded, "
    "message, checkpoint, created, "
    "started, ended, owner, token, told_order, asked_by, folder_state, "
    "wish = 'alone'";
// The same, without what is long.
inline constexpr const char* kShortTrialColumns =
    "id, stage, purpose, label, proposal, rung, share, genotype, genotype_values, genotype_id, "
    "graph_id, parameters, macs, memory_bytes, request, source, steps, seconds_limit, "
    "'', seed, attempt, status, score, how, steps_done, seconds, metrics, '', '[]', "
    "message, checkpoint, created, "
    "started, ended, owner, token, told_order, asked_by, folder_state, "
    "wish = 'alone'";
inline constexpr const char* kWorkerColumns =
    "name, host, process, devices, state, wish, heartbeat, trials_done, code_version";

/// "SELECT columns rest".
std::string select(const char* columns, const char* rest);

/// Makes the empty tables, and marks the file as ours in this version.
void create_tables(sqlite::Connection& connection);

/// \throws Error(Input) naming the file: none there, not SQLite's; another program's, another version's, damaged.
void check_is_sqlite(const std::filesystem::path& file);
/// A database of version 2 to 4 becomes one of this version, or where nothing may be written is
/// shown as one. \param may_write the caller holds the file's lock.
void check_is_ours(sqlite::Connection& connection, bool may_write);

}  // namespace nas::results
