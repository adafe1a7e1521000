// SPDX-License-Identifier: Apache-2.0
#include "nas/results/run_list.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/core/log.h"
#include "nas/core/run_folder.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

ListedRun listed(const RunEntry& entry, const fs::path& file, const std::string& folder) {
  ListedRun run;
  run.entry = entry;
  run.file = file;
  run.folder = entry.run.folder.empty() ? folder : entry.run.folder;
  const Json recipe = parse_json(entry.run.recipe_json, file.string());
  run.recipe = recipe.value("name", "?");
  const Json setup = parse_json(entry.run.setup_json, file.string());
  if (setup.contains("data")) run.data = setup.at("data").value("name", "");
  return run;
}

}  // namespace

std::vector<ListedRun> runs_of_database(const fs::path& file) {
  std::vector<ListedRun> runs;
  // A run of its own folder may have been moved with it; of a shared file only the record knows.
  const std::string here =
      file.filename() == RunFolder::kDatabase ? file.parent_path().string() : std::string{};
  for (const RunEntry& entry : ResultsDb::runs(file)) runs.push_back(listed(entry, file, here));
  return runs;
}

std::vector<ListedRun> runs_below(const fs::path& folder) {
  NAS_CHECK_KIND(
      Usage, fs::is_directory(folder), folder.string(), ": expected a folder, found none");
  std::vector<fs::path> found;
  if (fs::exists(RunFolder(folder).database())) found.push_back(RunFolder(folder).database());
  for (auto entry =
           fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied);
       entry != fs::recursive_directory_iterator();
       ++entry) {
    if (entry.depth() > 4) entry.disable_recursion_pending();
    if (entry->path().filename() == RunFolder::kDatabase && entry->is_regular_file()) {
      found.push_back(entry->path());
    }
  }
  std::ranges::sort(found);
  found.erase(std::unique(found.begin(), found.end()), found.end());
  std::vector<ListedRun> runs;
  for (const fs::path& file : found) {
    try {
      for (ListedRun& run : runs_of_database(file)) runs.push_back(std::move(run));
    } catch (const Error& error) {
      log_warning(error.what());  // one damaged run does not hide the others
    }
  }
  return runs;
}

}  // namespace nas
