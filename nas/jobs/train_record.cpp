// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/train_record.h"

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"

namespace nas {

Json to_json(const TrainRun& run) {
  Json json{{"format", "voxnas.training"},
            {"version", 1},
            {"data", run.data},
            {"fold", run.fold},
            {"configuration", run.configuration},
            {"budget_seconds", run.budget_seconds},
            {"options", to_json(run.options)},
            {"transfer", run.transfer},
            {"mirroring", run.mirroring},
            {"data_record", run.data_record}};
  add_data_options(json, run.how);
  return json;
}

TrainRun read_train_run(const std::filesystem::path& file) {
  const Json json = read_json(file);
  const JsonReader reader(json, file.string());
  NAS_CHECK(reader.at("version").integer() == 1,
            file.string(),
            ": expected version 1, found ",
            reader.at("version").integer());
  TrainRun run;
  run.data = reader.at("data").text();
  run.fold = static_cast<int>(reader.at("fold").integer(-1, 1 << 20));
  run.configuration = reader.at("configuration").text();
  run.how = data_options_from_json(reader);
  run.budget_seconds = reader.at("budget_seconds").number();
  run.options = train_options_from_json(reader.at("options").json(), file.string() + ": options");
  if (reader.has("transfer")) run.transfer = reader.at("transfer").json();
  if (reader.has("mirroring")) run.mirroring = reader.at("mirroring").json();
  if (reader.has("data_record")) run.data_record = reader.at("data_record").json();
  return run;
}

}  // namespace nas
