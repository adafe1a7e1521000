// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "nas/cli/command.h"
#include "nas/core/error.h"
#include "nas/core/log.h"
#include "training/exchange/nnunet.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

struct ImportArguments {
  std::string format, folder, out, checkpoint = "checkpoint_final.pth";
  bool json = false;
};

int run_import(const ImportArguments& a) {
  const fs::path out = a.out;
  NAS_CHECK_KIND(Usage,
                 !fs::exists(out) || (fs::is_directory(out) && fs::is_empty(out)),
                 out.string(),
                 ": exists already; choose another name");
  const NnunetImport found = read_nnunet_folder(a.folder, a.checkpoint);
  Json models = Json::array();
  for (std::size_t i = 0; i < found.models.size(); ++i) {
    const fs::path folder =
        found.models.size() == 1 ? out : out / ("fold_" + std::to_string(i)) / "model";
    save_model(folder, found.models[i]);
    models.push_back(folder.string());
  }
  log_info("nnU-Net model ",
           found.trainer,
           ", ",
           found.configuration,
           ": ",
           found.models.size(),
           found.models.size() == 1 ? " model" : " folds, which voxnas predict averages",
           " in ",
           out.string());
  if (found.models.front().mirrored == true) {
    log_info("nnU-Net mirrors this model unless told --disable_tta; here that is predict --mirror");
  }
  if (a.json) {
    std::cout << Json{{"models", models}, {"configuration", found.configuration}}.dump(2) << "\n";
  }
  return 0;
}

}  // namespace

Command import_command() {
  return {
      .name = "import", .setup = [](CLI::App& app) -> std::function<int()> {
        auto a = std::make_shared<ImportArguments>();
        app.add_option("FORMAT", a->format, "What the model was trained with: nnunet (nnU-Net 2)")
            ->required()
            ->check(CLI::IsMember({"nnunet"}));
        app.add_option(
               "FOLDER",
               a->folder,
               "Folder of nnU-Net's results, TRAINER__PLANS__CONFIGURATION, with plans.json, "
               "dataset.json and fold_0, ...")
            ->required()
            ->check(CLI::ExistingDirectory);
        app.add_option(
               "-o,--out",
               a->out,
               "Model folder to write. Several folds become OUT/fold_0/model, ..., which voxnas "
               "predict OUT averages")
            ->required();
        app.add_option("--checkpoint", a->checkpoint, "Name of the weights file in each fold")
            ->capture_default_str();
        app.add_flag("--json", a->json, "Also print what was written as JSON on stdout");
        return [a] { return run_import(*a); };
      }};
}

}  // namespace nas
