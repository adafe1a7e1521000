// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/config_space/mmar.h"

#include <algorithm>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "search_spaces/config_space/mmar_mapping.h"

namespace nas {
namespace {

using Pointer = Json::json_pointer;

class Translation {
 public:
  Translation(const Json& tree, std::string where, std::vector<std::string>& notes)
      : tree_(tree), where_(std::move(where)), notes_(notes) {
    own_.root = {{"format", "voxnas.training"}, {"version", 1}, {"augmentation", Json::array()}};
  }

  Json run() {
    first_level();
    map("model", Pointer("/train/model"));
    map("loss", Pointer("/train/loss"));
    map("optimizer", Pointer("/train/optimizer"));
    if (tree_.contains(Pointer("/train/lr_scheduler"))) {
      map("lr_scheduler", Pointer("/train/lr_scheduler"));
      schedule_unit();
    } else {
      own_.root["schedule"] = {{"name", "constant"}, {"args", Json::object()}};
    }
    const Pointer transforms("/train/pre_transforms");
    if (tree_.contains(transforms)) {
      const Json& list = tree_[transforms];
      if (!list.is_array())
        fail(ErrorKind::Input, where_, ": train.pre_transforms: expected a list");
      for (std::size_t i = 0; i < list.size(); ++i) map("transform", transforms / i);
    }
    batch();
    others();
    if (!own_.root.contains("data"))
      note("train.pre_transforms", "no spacing and no intensity range: as planned for the data");
    return std::move(own_.root);
  }

 private:
  void note(const std::string& path, const std::string& text) {
    notes_.push_back(path + ": " + text);
  }

  void first_level() {
    const JsonReader reader(tree_, where_);
    if (reader.has("epochs")) own_.root["epochs"] = reader.at("epochs").number();
    if (reader.has("amp")) own_.root["amp"] = reader.at("amp").boolean();
    if (reader.has("determinism")) {
      const JsonReader determinism = reader.at("determinism");
      if (determinism.json().is_object() && determinism.has("random_seed"))
        own_.root["seed"] = determinism.at("random_seed").integer(0, INT64_MAX);
    }
    const std::vector<std::string> read{"epochs",
                                        "amp",
                                        "determinism",
                                        "learning_rate",
                                        "train",
                                        "validate",
                                        "CLARA_TRAIN_VERSION"};
    std::vector<std::string> rest;
    for (const auto& item : tree_.items()) {
      if (std::ranges::find(read, item.key()) == read.end()) rest.push_back(item.key());
    }
    if (!rest.empty()) notes_.push_back("only used where \"{name}\" names it: " + joined(rest));
  }

  void map(const std::string& block, const Pointer& at) {
    const std::string here = where_ + ": " + path_text(at);
    const Json& component = tree_[at];
    if (component.is_null()) return;  // disabled
    if (component.is_object() && component.contains("path")) return map_file(block, at);
    if (!component.is_object() || !component.contains("name") || !component["name"].is_string())
      fail(ErrorKind::Input,
           here,
           ": expected a component with a name, found ",
           component.dump().substr(0, 60));
    std::string name = component["name"].get<std::string>();
    name.resize(std::min(name.find('#'), name.size()));
    const ClaraClass& row = clara_class(block, name, here);
    ClaraArgs args(component, where_, path_text(at), notes_);
    row.map(args, own_);
    args.finish();
  }

  /// A network or loss that is a file: its args are those of ours.
  void map_file(const std::string& block, const Pointer& at) {
    Json own{{"path", tree_[at]["path"]}};
    Json args = tree_[at].value("args", Json::object());
    if (!args.is_object())
      fail(ErrorKind::Input, where_, ": ", path_text(at / "args"), ": expected an object");
    for (const char* key : {"dimensions", "spatial_dims"}) {
      if (block != "model" || !args.contains(key)) continue;
      if (args[key] != 3)
        fail(ErrorKind::Input,
             where_,
             ": ",
             path_text(at / "args" / key),
             ": expected 3, found ",
             args[key].dump());
      args.erase(key);
    }
    if (!args.empty()) own["args"] = std::move(args);
    own_.root[block == "model" ? "network" : block] = std::move(own);
  }

  /// LrScheduleHandler says whether the scheduler counts epochs (its default) or steps.
  void schedule_unit() {
    const Pointer handlers("/train/handlers");
    const Json none = Json::array();
    const Json& list = tree_.contains(handlers) ? tree_[handlers] : none;
    const auto handler = std::ranges::find_if(list, [](const Json& each) {
      return each.is_object() && each.value("name", "") == "LrScheduleHandler";
    });
    if (handler == list.end()) {
      note("train.lr_scheduler", "no LrScheduleHandler steps it: the rate is constant");
      own_.root["schedule"] = {{"name", "constant"}, {"args", Json::object()}};
      return;
    }
    const Json args = handler->value("args", Json::object());
    if (args.value("epoch_level", Json(true)) != false) return;
    Json& mine = own_.root["schedule"]["args"];
    for (const auto& [epochs, steps] :
         {std::pair("every_epochs", "every"), std::pair("milestones_epochs", "milestones")}) {
      if (!mine.contains(epochs)) continue;
      mine[steps] = mine[epochs];
      mine.erase(epochs);
    }
  }

  /// Cases of a step times patches of a case.
  void batch() {
    const Pointer at("/train/dataloader/args/batch_size");
    std::int64_t cases = 1;
    if (tree_.contains(at)) {
      cases =
          JsonReader(tree_[at], where_ + ": train.dataloader.args.batch_size").integer(1, 1 << 12);
    }
    own_.root["batch"] = cases * own_.root.value("patches_per_case", std::int64_t{1});
  }

  void others() {
    const Pointer metric("/validate/key_metric");
    if (tree_.contains(metric)) map("key_metric", metric);
    const Pointer inferer("/validate/inferer/args");
    if (tree_.contains(inferer)) {
      const Json& args = tree_[inferer];
      if (args.contains("roi_size"))
        note("validate.inferer.args.roi_size", "windows are as large as the training's patch");
      if (args.contains("overlap") && args["overlap"] != 0.5)
        note("validate.inferer.args.overlap", "windows overlap by half");
    }
    std::vector<std::string> ours;
    for (const char* block : {"dataset", "handlers", "trainer", "inferer", "post_transforms"}) {
      if (tree_["train"].contains(block)) ours.push_back(concat_text("train.", block));
    }
    if (!ours.empty()) note(joined(ours), "not read, VoxNAS has its own");
    if (tree_.contains("validate"))
      note("validate",
           "trials are scored on cases held out of training; its data lists are not read");
  }

  const Json& tree_;
  std::string where_;
  std::vector<std::string>& notes_;
  OwnDescription own_;
};

}  // namespace

bool is_mmar(const Json& root, const std::string& where) {
  if (!root.is_object() || !root.contains("train") || !root["train"].is_object()) return false;
  const auto has = [&](const char* block, const char* key) {
    return root.contains(block) && root[block].is_object() && root[block].contains(key);
  };
  NAS_CHECK(
      !has("train", "image_pipeline") && !has("train", "aux_ops") &&
          !has("validate", "image_pipeline"),
      where,
      ": this is the TensorFlow form of Clara Train 3 (it has image_pipeline or aux_ops); only "
      "the PyTorch form of Clara Train 4 is read");
  return true;
}

const std::vector<SinglePlace>& mmar_singles() {
  static const std::vector<SinglePlace> places{{Pointer("/train/model"), true},
                                               {Pointer("/train/loss"), true},
                                               {Pointer("/train/optimizer"), true},
                                               {Pointer("/train/lr_scheduler"), false}};
  return places;
}

Json from_mmar(const Json& concrete, const std::string& where, std::vector<std::string>& notes) {
  return Translation(concrete, where, notes).run();
}

}  // namespace nas
