// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/config_space/config_space.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "nas/core/error.h"
#include "nas/core/rng.h"
#include "nas/network/file_nodes.h"
#include "nas/network/operations.h"
#include "search_spaces/config_space/mmar_mapping.h"
#include "search_spaces/reference_networks/networks.h"
#include "search_spaces/spaces.h"
#include "tests/support/support.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr std::int64_t kCases = 10;
const fs::path kMmar = NAS_MMAR;

TrainingDescription clara(const std::string& name) {
  return read_automl_files(kMmar, name + ".json").description;
}

ConfigSpace space_of(TrainingDescription description) {
  const Configuration planned = stand_in_configuration(description);
  return {std::move(description), planned, kCases, make_space};
}

ConfigSpace space_of(const Json& root) { return space_of(make_description(root, {}, "file.json")); }

Json own(const std::string& more) {
  return parse_json(std::string(R"({"format": "voxnas.training", "version": 1)") +
                        (more.empty() ? "" : ", ") + more + "}",
                    "own");
}

std::vector<std::string> keys(const ConfigSpace& space) {
  std::vector<std::string> result;
  for (const Dimension& d : space.description().rules.dimensions) result.push_back(d.key);
  return result;
}

/// All valid genotypes of a space of choices.
std::vector<Genotype> all(const ConfigSpace& space) {
  std::vector<Genotype> result{{}};
  for (const Gene& gene : space.genes()) {
    std::vector<Genotype> longer;
    for (const Genotype& start : result) {
      for (int i = 0; i < gene.count(); ++i) {
        longer.push_back(start);
        longer.back().values.push_back(i);
      }
    }
    result = std::move(longer);
  }
  std::erase_if(result, [&](const Genotype& g) { return !space.invalid_reason(g).empty(); });
  return result;
}

// ---- Clara's five examples, in files of the same structure

TEST(ClaraConfig, EnumHasEightPoints) {
  const ConfigSpace space = space_of(clara("enum"));
  EXPECT_THAT(keys(space),
              ElementsAre("lr.enum.train.lr_scheduler$0:step_size",
                          "net.enum.train.model$0:channels",
                          "net.enum.train.model$1:norm"));
  EXPECT_EQ(space.product(), 8);
  EXPECT_EQ(space.count(), 8);
  std::set<std::string> networks, trainings;
  for (const Genotype& genotype : all(space)) {
    const Phenotype built = space.build(genotype);
    networks.insert(graph_id(built.graph));
    trainings.insert(built.training.dump());
  }
  EXPECT_EQ(networks.size(), 4u);
  EXPECT_EQ(trainings.size(), 2u);
}

TEST(ClaraConfig, LossAndOptimizerHaveFourPoints) {
  const ConfigSpace space = space_of(clara("loss_optimizer"));
  EXPECT_EQ(space.product(), 4);
  std::set<std::string> pairs;
  for (const Genotype& genotype : all(space)) {
    const Json options = space.build(genotype).training;
    pairs.insert(options["loss"].get<std::string>() + " " +
                 options["optimizer"].get<std::string>());
  }
  EXPECT_THAT(pairs, ElementsAre("dice adam", "dice novograd", "focal adam", "focal novograd"));
  // [true, false]: the first is disabled.
  EXPECT_EQ(space.build(space.baseline()).training["loss"], "focal");
}

TEST(ClaraConfig, TransformHasFourPoints) {
  const ConfigSpace space = space_of(clara("transform"));
  EXPECT_EQ(space.product(), 4);
  std::multiset<std::size_t> rows;
  for (const Genotype& genotype : all(space))
    rows.insert(space.build(genotype).training["augmentations"].size());
  EXPECT_THAT(rows, ElementsAre(0, 1, 2, 3));
}

TEST(ClaraConfig, RatesAreThreeRealsOfWhichOneGoesToASecondTransform) {
  const ConfigSpace space = space_of(clara("lr_lp"));
  EXPECT_THAT(keys(space),
              ElementsAre("lr.float$0:learning_rate",
                          "lr.float.train.lr_scheduler$0:gamma",
                          "transform.float.train.pre_transforms[6]$0:prob"));
  EXPECT_EQ(space.product(), std::nullopt);
  const Json options =
      space
          .build(space.from_text("lr.float$0:learning_rate=0.005 "
                                 "transform.float.train.pre_transforms[6]$0:prob=0.25"))
          .training;
  EXPECT_EQ(options["learning_rate"], 0.005);
  EXPECT_EQ(options["augmentations"],
            parse_json(R"([{"name": "shift_intensity", "prob": 0.25, "args": {"offset": 0.1}},
                           {"name": "noise", "prob": 0.25, "args": {"low": 0, "high": 0.1}}])",
                       "list"));
}

TEST(ClaraConfig, IndividualZeroIsTheConfigurationAsWritten) {
  const ConfigSpace plain = space_of(clara("config_train"));
  EXPECT_TRUE(plain.genes().empty());
  const Phenotype written = plain.build(plain.baseline());
  for (const char* name : {"enum", "lr_lp", "transform_prob"}) {
    const ConfigSpace space = space_of(clara(name));
    const Phenotype built = space.build(space.baseline());
    EXPECT_EQ(built.graph, written.graph) << name;
    EXPECT_EQ(built.training["learning_rate"], 0.002) << name;
    EXPECT_EQ(built.training["schedule_gamma"], 0.1) << name;
  }
  // The alias gives the second transform another probability as soon as it is searched.
  const ConfigSpace space = space_of(clara("transform_prob"));
  EXPECT_EQ(space.build(space.baseline()).training["augmentations"][0]["prob"], 0.5);
}

TEST(ClaraConfig, BecomesTrainingOptions) {
  const ConfigSpace space = space_of(clara("config_train"));
  const Phenotype built = space.build(space.baseline());
  const Json expected = parse_json(R"({
    "loss": "dice", "include_background": false, "squared_dice": false, "batch_dice": false,
    "dice_smooth": 1e-5,
    "optimizer": "adam", "learning_rate": 0.002, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8,
    "weight_decay": 0.0, "clip_norm": 0, "average_decay": 0,
    "schedule": "step", "schedule_every": 500, "schedule_gamma": 0.1, "warmup_fraction": 0,
    "warmup_steps": 0, "batch": 2, "precision": "auto",
    "foreground_fraction": 0.6666666666666666,
    "augmentations": [{"name": "shift_intensity", "prob": 0.5, "args": {"offset": 0.1}}]})",
                                   "expected");
  EXPECT_EQ(Json::diff(expected, built.training), Json::array()) << built.training.dump(1);
  EXPECT_EQ(built.patch, (Extent3{8, 16, 16}));  // x y z -> D H W
  const ConcreteTraining training = space.settings();
  EXPECT_EQ(training.steps, 20);  // two epochs of ten cases
  EXPECT_EQ(training.seed, 7);
  EXPECT_EQ(*training.data.spacing, (Vec3{1.5, 1, 1}));
  EXPECT_EQ(training.data.intensity, "clip");
}

TEST(ClaraConfig, NotesSayWhatIsNotRead) {
  const ConfigSpace space = space_of(clara("config_train"));
  EXPECT_THAT(space.notes(),
              Contains(AllOf(HasSubstr("train.handlers"), HasSubstr("VoxNAS has its own"))));
  EXPECT_THAT(space.notes(), Contains(HasSubstr("roi_size: windows are as large")));
  EXPECT_THAT(space.notes(), Contains(HasSubstr("train.pre_transforms[4] (CropForegroundd): ")));
}

TEST(ClaraConfig, TheTensorFlowFormIsRefusedInOneSentence) {
  for (const char* key : {"image_pipeline", "aux_ops"}) {
    Json root = clara("config_train").root;
    root["train"][key] = Json::object();
    EXPECT_THAT(test::error_of([&] { make_description(root, {}, "f.json"); }),
                HasSubstr("f.json: this is the TensorFlow form of Clara Train 3"));
  }
}

TEST(ClaraConfig, PythonCodeIsNotRun) {
  Json root = clara("config_train").root;
  root["train"]["handlers"].push_back({{"name", "Mine"}, {"path", "my_code.Handler"}});
  const auto error = [&] {
    return test::error_of(
        [&] { space_of(make_description(root, clara("enum").environment, "f.json")); });
  };
  EXPECT_THAT(
      error(),
      AllOf(HasSubstr("f.json: train.handlers[4].path: 'my_code.Handler' brings Python code, "
                      "which is not run"),
            HasSubstr("JSON lines")));
  root["train"]["handlers"][4]["disabled"] = true;
  EXPECT_EQ(error(), "");
}

TEST(ClaraConfig, UnknownEnabledComponentsAreRefusedWithTheirPath) {
  const Json environment = clara("enum").environment;
  const auto error = [&](const char* at, const Json& value) {
    Json root = clara("config_train").root;
    root[Json::json_pointer(at)] = value;
    return test::error_of([&] { space_of(make_description(root, environment, "f.json")); });
  };
  EXPECT_THAT(
      error("/train/pre_transforms/6", {{"name", "RandShiftIntensity"}, {"args", Json::object()}}),
      AllOf(HasSubstr("f.json: train.pre_transforms[6]: VoxNAS has nothing for transform"),
            HasSubstr("did you mean 'RandShiftIntensityd'")));
  EXPECT_THAT(error("/train/pre_transforms/6/disabled", true), "");
  EXPECT_THAT(error("/train/pre_transforms/6/args/ofsets", 1),
              AllOf(HasSubstr("train.pre_transforms[6]: args.ofsets: VoxNAS has no such argument"),
                    HasSubstr("did you mean 'offsets'")));
  EXPECT_THAT(
      error("/train/loss/args/jaccard", true),
      HasSubstr("train.loss: args.jaccard: expected false (VoxNAS has nothing else), found true"));
  EXPECT_THAT(error("/train/loss/args/softmax", false), HasSubstr("args.softmax: expected true"));
  EXPECT_THAT(error("/train/model/name", "Unet"), HasSubstr("did you mean 'UNet'"));
  EXPECT_THAT(error("/train/model/args/dimensions", 2), HasSubstr("args.dimensions: expected 3"));
  EXPECT_THAT(error("/train/model/args/in_channels", 0), HasSubstr("f.json"));
  EXPECT_THAT(error("/train/lr_scheduler/name", "ReduceLROnPlateau"),
              HasSubstr("needs validation while training"));
  EXPECT_THAT(error("/validate/key_metric/name", "MeanDise"),
              AllOf(HasSubstr("f.json: validate.key_metric: VoxNAS has nothing for key_metric"),
                    HasSubstr("did you mean 'MeanDice'")));
  EXPECT_THAT(error("/train/optimizer/disabled", true),
              HasSubstr("train.optimizer: expected a component"));
}

TEST(ClaraConfig, TheKeyMetricIsWhatTrialsAreScoredBy) {
  TrainingDescription description = clara("config_train");
  EXPECT_EQ(space_of(description).settings().metric, "dice");
  const auto metric = [&](const Json& component) {
    description.root["validate"]["key_metric"] = component;
    return space_of(description).settings().metric;
  };
  EXPECT_EQ(metric({{"name", "HausdorffDistance"}, {"args", {{"percentile", 95}}}}), "hd95_mm");
  EXPECT_EQ(metric({{"name", "HausdorffDistance"}}), "hd_mm");
  EXPECT_EQ(metric({{"name", "SurfaceDistance"}, {"args", {{"symmetric", true}}}}), "assd_mm");
  EXPECT_EQ(metric({{"name", "HausdorffDistance"}, {"disabled", true}}), "dice");
  EXPECT_THAT(test::error_of([&] {
                metric({{"name", "HausdorffDistance"}, {"args", {{"percentile", 90}}}});
              }),
              HasSubstr("validate.key_metric: args.percentile: expected 95"));
}

TEST(ClaraConfig, AHandlerSaysWhetherTheScheduleCountsStepsOrEpochs) {
  TrainingDescription description = clara("config_train");
  description.root["train"]["handlers"][1]["args"]["epoch_level"] = false;
  EXPECT_EQ(space_of(description).build({}).training["schedule_every"], 50);
  description.root["train"]["handlers"].erase(1);
  EXPECT_EQ(space_of(description).build({}).training["schedule"], "constant");
}

TEST(ClaraConfig, ASettingOfThePreprocessingCannotBeSearched) {
  Json root = clara("config_train").root;
  root["train"]["pre_transforms"][2]["search"] = parse_json(
      R"([{"domain": "transform", "type": "enum", "args": ["pixdim"],
           "targets": [[[1.0, 1.0, 1.5]], [[2.0, 2.0, 2.0]]]}])",
      "search");
  EXPECT_THAT(
      test::error_of([&] { space_of(make_description(root, clara("enum").environment, "f")); }),
      HasSubstr("cannot be searched"));
}

TEST(ClaraConfig, FlipsAlongSeveralAxesAreOneMirror) {
  TrainingDescription description = clara("config_train");
  Json& list = description.root["train"]["pre_transforms"];
  for (const auto& [axis, prob] : {std::pair(0, 0.5), std::pair(2, 0.25)}) {
    list.push_back({{"name", "RandFlipd"}, {"args", {{"prob", prob}, {"spatial_axis", axis}}}});
  }
  const Json rows = space_of(description).build({}).training["augmentations"];
  EXPECT_EQ(rows[1],
            parse_json(R"({"name": "mirror", "prob": 0.5, "args": {"w": 1.0, "h": 0.0, "d": 0.5}})",
                       "row"));
  list.push_back({{"name", "RandGaussianNoised"}, {"args", {{"prob", 0.1}}}});
  list.push_back({{"name", "RandGaussianNoised"}, {"args", {{"prob", 0.2}}}});
  EXPECT_THAT(test::error_of([&] { space_of(description); }),
              AllOf(HasSubstr("train.pre_transforms[11]: becomes \"noise\""), HasSubstr("[10]")));
}

/// Every row of the table, with the args that MONAI's class needs at least.
TEST(ClaraMapping, EveryRowMapsOrRefuses) {
  const std::map<std::string, const char*> needs{
      {"UNet", R"({"channels": [4, 8], "strides": [2]})"},
      {"DynUNet", R"({"filters": [4, 8], "kernel_size": [3, 3], "strides": [1, 2]})"},
      {"AHNet", R"({"upsample_mode": "trilinear"})"},
      {"DiceLoss", R"({"softmax": true})"},
      {"DiceCELoss", R"({"softmax": true})"},
      {"DiceFocalLoss", R"({"softmax": true})"},
      {"GeneralizedDiceLoss", R"({"softmax": true})"},
      {"SGD", R"({"lr": 0.1})"},
      {"StepLR", R"({"step_size": 3})"},
      {"MultiStepLR", R"({"milestones": [3, 5]})"},
      {"ExponentialLR", R"({"gamma": 0.9})"},
      {"Spacingd", R"({"pixdim": [1, 1, 2]})"},
      {"ScaleIntensityRanged", R"({"a_min": 0, "a_max": 1, "b_min": 0, "b_max": 1, "clip": true})"},
      {"RandCropByPosNegLabeld", R"({"spatial_size": [8, 8, 8]})"},
      {"RandSpatialCropd", R"({"roi_size": 8, "random_size": false})"},
      {"RandAffined", R"({"prob": 0.3, "rotate_range": [0.1, 0.1, 0.1], "scale_range": [0.1]})"}};
  for (const ClaraClass& row : clara_classes()) {
    OwnDescription own;
    own.root["augmentation"] = Json::array();
    std::vector<std::string> notes;
    const auto found = needs.find(row.name);
    const Json args = found == needs.end() ? Json::object() : parse_json(found->second, row.name);
    ClaraArgs reader({{"name", row.name}, {"args", args}}, "f", row.name, notes);
    const std::string error = test::error_of([&] {
      row.map(reader, own);
      reader.finish();
    });
    if (std::string(row.ours) == "refused") {
      EXPECT_THAT(error, HasSubstr(row.name));
    } else {
      EXPECT_EQ(error, "") << row.name;
      EXPECT_EQ(own.root.size() > 1 || !own.root["augmentation"].empty(), *row.ours != '\0')
          << row.name << own.root.dump();
    }
  }
}

// ---- our own form

TEST(OwnDescription, NothingSaidIsThePlan) {
  const ConfigSpace space = space_of(own(""));
  EXPECT_TRUE(space.build({}).training.empty());
  EXPECT_EQ(space.build({}).patch, stand_in_configuration(space.description()).patch);
}

TEST(OwnDescription, ErrorsNameThePathAndTheNearestWord) {
  const auto error = [](const std::string& more) {
    return test::error_of([&] { space_of(own(more)); });
  };
  EXPECT_THAT(error(R"("optimiser": {"name": "sgd"})"),
              AllOf(HasSubstr("file.json"), HasSubstr("optimiser"), HasSubstr("optimizer")));
  EXPECT_THAT(error(R"("learning_rat": 1)"), HasSubstr("learning_rate"));
  EXPECT_THAT(error(R"("loss": {"name": "dice_ce", "args": {"batch_dise": true}})"),
              AllOf(HasSubstr("loss.args"), HasSubstr("batch_dice")));
  EXPECT_THAT(error(R"("network": {"name": "v-nett"})"), HasSubstr("did you mean 'v-net'"));
  EXPECT_THAT(error(R"("network": {"name": "unet", "args": {"stage": 2}})"), HasSubstr("stages"));
  TrainingDescription four = make_description(
      own(R"("network": {"name": "planned", "args": {"in_channels": 4}})"), {}, "f");
  Configuration planned = stand_in_configuration(four);
  planned.architecture.in_channels = 1;
  EXPECT_THAT(test::error_of([&] { ConfigSpace(four, planned, kCases, make_space); }),
              HasSubstr("f: network.args.in_channels: the data set has 1, found 4"));
  EXPECT_THAT(error(R"("steps": 10, "epochs": 2)"), HasSubstr("one of steps and epochs"));
  EXPECT_THAT(error(R"("sampling": {"args": {"patch": [1, 2]}})"),
              HasSubstr("sampling.args.patch"));
  EXPECT_THAT(error(R"("data": {"args": {"intensity": "clp"}})"), HasSubstr("did you mean 'clip'"));
  EXPECT_THAT(test::error_of([] {
                space_of(Json{{"format", "voxnas.recipe"}});
              }),
              HasSubstr("file.json: format: expected voxnas.training, found 'voxnas.recipe'"));
  EXPECT_THAT(test::error_of([] { space_of(Json{{"stages", 1}}); }), HasSubstr("found neither"));
}

TEST(OwnDescription, TrialsAreScoredByAnyMetricTheSameForAll) {
  EXPECT_EQ(space_of(own("")).settings().metric, "dice");
  const ConfigSpace space = space_of(own(R"("validation": {"args": {"metric": "nsd"}})"));
  EXPECT_EQ(space.settings().metric, "nsd");
  EXPECT_THAT(
      test::error_of([] { space_of(own(R"("validation": {"args": {"metric": "hd95mm"}})")); }),
      AllOf(HasSubstr("file.json: validation.args.metric: expected a metric"),
            HasSubstr("did you mean 'hd95_mm'")));
  EXPECT_THAT(test::error_of([] {
                space_of(own(R"("validation": {"args": {"metric": "nsd"}, "search":
                    [{"type": "enum", "args": "metric", "targets": [["nsd"], ["dice"]]}]})"));
              }),
              HasSubstr("cannot be searched"));
}

TEST(OwnDescription, OnlyNumbersMayBeOnesOwnFirstLevelWords) {
  const ConfigSpace space =
      space_of(own(R"("speed": 0.25, "optimizer": {"name": "sgd", "args": {"lr": "{speed}"}})"));
  EXPECT_EQ(space.build({}).training["learning_rate"], 0.25);
}

TEST(OwnDescription, ANetworkMayBeAPointOfASpaceOrAPublishedOne) {
  const ConfigSpace space = space_of(own(
      R"("network": [{"name": "unet", "args": {"features": "8"}, "apply": {"@disabled": "a"}},
                     {"name": "v-net", "apply": {"@disabled": "b"}}],
         "search": [{"type": "enum", "args": ["a", "b"], "targets": [[false, true], [true, false]]}])"));
  EXPECT_EQ(space.product(), 2);
  const std::vector<Genotype> both = all(space);
  EXPECT_NE(space.build(both[0]).graph.name, space.build(both[1]).graph.name);
}

/// A description in a folder, with files of the user's own beside it.
class OwnFiles : public testing::Test {
 protected:
  void SetUp() override {
    std::ofstream(temp_ / "mine.ts") << "not opened here";
    std::ofstream(temp_ / "dice.ts") << "nor this";
    write_graph((temp_ / "mine.json").string(),
                make_basic_unet({1, 2, {32, 32, 32}}, {4, 4, 8, 8, 8, 4}));
  }
  ConfigSpace space(const std::string& text) const {
    return space_of(make_description(own(text), {}, (temp_ / "d.json").string()));
  }
  std::string error(const std::string& text) const {
    return test::error_of([&] { space(text); });
  }
  test::TempFolder temp_;
};

TEST_F(OwnFiles, AreFoundBesideTheDescriptionAndTheirArgsAreSettings) {
  const ConfigSpace space = this->space(
      R"("network": {"path": "mine.ts", "args": {"in_channels": 1, "slope": 0.2}},
         "loss": {"name": "my Dice", "path": "dice.ts", "args": {"smooth": 0.5, "hard": true},
                  "search": [{"type": "float", "args": ["smooth"], "targets": [0, 1]}]})");
  const Phenotype built = space.build(space.baseline());
  const Node& node = *file_node(built.graph);
  EXPECT_EQ(attribute_text(node, kScriptFile), (temp_ / "mine.ts").string());
  EXPECT_EQ(attribute_text(node, "settings"), R"({"slope":0.2})");
  EXPECT_EQ(built.training.at("loss"), (temp_ / "dice.ts").string());
  EXPECT_EQ(built.training.at("loss_settings"), (Json{{"smooth", 0.5}, {"hard", true}}));
  // What was trained is a description itself, wherever it lies.
  const ConfigSpace again =
      space_of(make_description(space.concrete(space.baseline()), {}, "/elsewhere/training.json"));
  EXPECT_EQ(graph_id(again.build(again.baseline()).graph), graph_id(built.graph));
}

TEST_F(OwnFiles, AnotherFileThanTheSearchBeganWithIsRefused) {
  const Json begun =
      space(R"("network": {"path": "mine.ts"}, "loss": {"path": "dice.ts"})").describe();
  EXPECT_EQ(make_space(begun)->describe(), begun);
  std::ofstream(temp_ / "dice.ts") << "changed";
  EXPECT_THAT(test::error_of([&] { make_space(begun); }),
              AllOf(HasSubstr("dice.ts"), HasSubstr("another file than the search began with")));
}

TEST_F(OwnFiles, ANetworkMayBeAGraph) {
  const ConfigSpace space = this->space(R"("network": {"path": "mine.json"})");
  EXPECT_EQ(graph_id(space.build(space.baseline()).graph),
            graph_id(read_graph((temp_ / "mine.json").string())));
  write_graph((temp_ / "mine.json").string(),
              make_basic_unet({2, 5, {32, 32, 32}}, {4, 4, 8, 8, 8, 4}));
  EXPECT_EQ(error(R"("network": {"path": "mine.json"})"), "")
      << "the stand-in is as the graph says";
  EXPECT_THAT(test::error_of([&] {
                ConfigSpace(make_description(own(R"("network": {"path": "mine.json"})"),
                                             {},
                                             (temp_ / "d.json").string()),
                            stand_in_configuration(make_description(own(""), {}, "d.json")),
                            kCases,
                            make_space);
              }),
              AllOf(HasSubstr("reads 2 channels and gives 5 classes"), HasSubstr("has 1 and 2")));
}

TEST_F(OwnFiles, ErrorsNameThePathAndTheFile) {
  EXPECT_THAT(error(R"("network": {"path": "none.ts"})"),
              AllOf(HasSubstr("network: path: there is no file"), HasSubstr("none.ts")));
  EXPECT_THAT(error(R"("loss": {"path": "none.ts"})"), HasSubstr("loss.path: there is no file"));
  EXPECT_THAT(error(R"("network": {"path": "code.Net"})"),
              AllOf(HasSubstr("network.path: 'code.Net' brings Python code, which is not run"),
                    HasSubstr("my_network.ts")));
  EXPECT_THAT(error(R"("optimizer": {"path": "mine.ts"})"),
              AllOf(HasSubstr("optimizer.path"), HasSubstr("as network (network) and loss")));
  EXPECT_THAT(error(R"("loss": {"path": "mine.json"})"), HasSubstr("expected a TorchScript file"));
  EXPECT_THAT(error(R"("network": {"path": "mine.ts", "args": {"out_channels": 7}})"), "");
  EXPECT_THAT(error(R"("network": {"path": "mine.ts", "args": {"channels": [4, 8]}})"),
              AllOf(HasSubstr("network.args: channels"), HasSubstr("attribute of its module")));
  EXPECT_THAT(error(R"("network": {"path": "mine.json", "args": {"width": 4}})"),
              HasSubstr("width"));
  // Of two alternatives only the enabled one has to be there.
  EXPECT_EQ(error(R"("network": [{"path": "mine.ts"}, {"path": "none.ts", "disabled": true}])"),
            "");
}

TEST_F(OwnFiles, AnMmarNamesThemByPath) {
  Json root = clara("config_train").root;
  root["train"]["model"] = {{"path", "mine.ts"}, {"args", {{"spatial_dims", 3}, {"slope", 1}}}};
  root["train"]["loss"] = {{"path", "dice.ts"}};
  const auto described = [&] {
    return space_of(
        make_description(root, clara("enum").environment, (temp_ / "config_train.json").string()));
  };
  const ConfigSpace space = described();
  const Json own = space.concrete(space.baseline());
  EXPECT_EQ(own.at("network"),
            (Json{{"path", (temp_ / "mine.ts").string()}, {"args", {{"slope", 1}}}}));
  EXPECT_EQ(own.at("loss"), (Json{{"path", (temp_ / "dice.ts").string()}}));
  root["train"]["model"]["args"]["spatial_dims"] = 2;
  EXPECT_THAT(test::error_of(described), HasSubstr("train.model.args.spatial_dims: expected 3"));
  root["train"]["optimizer"] = {{"path", "mine.ts"}};
  EXPECT_THAT(test::error_of(described),
              HasSubstr("train.optimizer.path: 'mine.ts': files take part as network"));
}

TEST(OwnDescription, CombinationsThatLeaveNothingAreListedBefore) {
  const std::string two = R"("loss": [{"name": "ce", "apply": {"@disabled": "a"}},
                                      {"name": "dice", "apply": {"@disabled": "b"}}], )";
  const ConfigSpace space = space_of(
      own(two + R"("search": [{"type": "enum", "args": ["a"], "targets": [[true], [false]]},
                          {"type": "enum", "args": ["b"], "targets": [[true], [false]]}])"));
  EXPECT_EQ(all(space).size(), 2u);
  EXPECT_THAT(space.notes(),
              Contains(AllOf(HasSubstr("not valid"),
                             HasSubstr("loss: expected one enabled alternative, found none"))));
  EXPECT_THAT(space.notes(), Contains(HasSubstr("found 2 (ce, dice)")));
  EXPECT_EQ(space.invalid_reason(space.baseline()), "");
  EXPECT_THAT(
      test::error_of([&] {
        space_of(
            own(two +
                R"("search": [{"type": "enum", "args": ["a", "b"], "targets": [[true, true]]}])"));
      }),
      AllOf(HasSubstr("no combination of the searched values is valid"), HasSubstr("loss")));
}

TEST(OwnDescription, ValuesAsWrittenThatAreNotSearchedStayIndividualZero) {
  const ConfigSpace space = space_of(own(
      R"("loss": {"name": "dice_ce", "args": {"ce_weight": 3}, "search":
          [{"type": "float", "args": "ce_weight", "targets": [0.1, 1]}]})"));
  EXPECT_EQ(space.genes()[0].name, "configuration");
  EXPECT_EQ(space.build(space.baseline()).training["ce_weight"], 3);
  EXPECT_EQ(space.short_text(space.baseline()), "as written");
  EXPECT_LE(space.build(space.start()).training["ce_weight"], 1);
  Rng rng("as-written");
  for (int i = 0; i < 50; ++i)
    EXPECT_LE(space.build(space.sample(rng, {"training"})).training["ce_weight"], 1);
}

TEST(OwnDescription, ConditionalGenesAreInactiveWhereTheirConditionIsNot) {
  const ConfigSpace space = space_of(own(
      R"("optimizer": {"name": "sgd", "args": {"lr": 0.1, "momentum": 0.9},
          "search": [{"type": "enum", "args": ["lr#rate"], "targets": [[0.1], [0.01]]},
                     {"type": "float", "args": "momentum", "targets": [0.5, 0.95], "when": {"rate": [0.01]}}]})"));
  const Genotype written = space.baseline();
  EXPECT_FALSE(space.active(written, 1));
  EXPECT_EQ(space.build(written).training["momentum"], 0.9);
  EXPECT_THAT(test::error_of([&] { space.from_text("training.float.optimizer$1:momentum=0.7"); }),
              HasSubstr("has no meaning where"));
}

TEST(OwnDescription, TenThousandGenotypesRoundTripAsTextAndIdsStay) {
  const auto space = make_space(ConfigSpace::example());
  const auto again = make_space(space->describe());
  Rng rng("config-round-trip");
  for (int i = 0; i < 10'000; ++i) {
    const Genotype genotype = space->sample(rng);
    const std::string text = space->to_text(genotype);
    ASSERT_EQ(again->from_text(text), genotype) << text;
    ASSERT_EQ(again->genotype_id(genotype), space->genotype_id(genotype));
  }
  EXPECT_EQ(space->genotype_id(space->baseline()), "a00edc99ec61057b");
}

TEST(DataSetup, ScaleIntensityRangeIsCtNormalization) {
  Plan plan;
  Configuration c;
  c.name = "3d_fullres";
  c.spacing = {2, 1, 1};
  c.median_shape = {10, 20, 30};
  c.normalization = {"ZScoreNormalization"};
  plan.transpose_forward = {2, 0, 1};
  plan.configurations = {c};
  plan.intensity.resize(1);
  DataSetup setup;
  setup.spacing = Vec3{4, 3, 2};
  setup.intensity = "clip";
  setup.low = -100;
  setup.high = 300;
  setup.to_low = -1;
  setup.to_high = 1;
  apply_data_setup(setup, plan, "3d_fullres");
  EXPECT_EQ(plan.configurations[0].spacing, (Vec3{2, 4, 3}));
  EXPECT_EQ(plan.configurations[0].normalization[0], "CTNormalization");
  const IntensityProperties& p = plan.intensity[0];
  EXPECT_DOUBLE_EQ((-100 - p.mean) / p.std, -1);
  EXPECT_DOUBLE_EQ((300 - p.mean) / p.std, 1);
  EXPECT_EQ(p.percentile_00_5, -100);
  EXPECT_EQ(p.percentile_99_5, 300);
}

// ---- files

TEST(AutomlFiles, JsonWithCommentsIsAnErrorWithLineAndColumn) {
  const test::TempFolder folder;
  for (const char* text : {"{\n  // comment\n  \"format\": 1}", "{\n  \"format\": 1,\n}"}) {
    std::ofstream(folder / "t.json") << text;
    EXPECT_THAT(test::error_of([&] { read_automl_files(folder / "t.json", ""); }),
                AllOf(HasSubstr("t.json"), HasSubstr("line"), HasSubstr("column")));
  }
}

TEST(AutomlFiles, AnMmarIsAFolderAndAMissingFileNamesItsNeighbours) {
  const AutomlFiles files = read_automl_files(kMmar, "");
  EXPECT_TRUE(files.description.mmar);
  ASSERT_TRUE(files.automl);
  EXPECT_EQ(files.automl->controller, "rl");
  EXPECT_EQ(files.automl->max_rounds, 8);
  EXPECT_EQ(files.automl->keep, 30);
  EXPECT_EQ(files.automl->stop_at, 0) << "a score of 1 is never reached";
  EXPECT_THAT(test::error_of([] { read_automl_files(kMmar, "enumm.json"); }),
              AllOf(HasSubstr("no such file"), HasSubstr("did you mean 'enum.json'")));
  EXPECT_FALSE(read_automl_files(kMmar / "config" / "enum.json", "").automl);
  EXPECT_EQ(
      read_automl_files(kMmar / "config" / "enum.json", "").description.environment["DATA_ROOT"],
      "/data");
  EXPECT_THAT(test::error_of([] { read_automl_files(kMmar / "config" / "enum.json", "x.json"); }),
              HasSubstr("--config names a file within an MMAR"));
  EXPECT_THAT(test::error_of([] { read_automl_files(kMmar / "config", ""); }),
              HasSubstr("folder \"config\""));
}

TEST(AutomlFiles, AControllerInPythonIsRefused) {
  const Json own =
      parse_json(R"({"controller": {"name": "mine", "path": "code.Controller"}})", "own");
  EXPECT_THAT(test::error_of([&] { read_automl_settings(own, "config_automl.json"); }),
              AllOf(HasSubstr("config_automl.json: controller: controller"),
                    HasSubstr("brings Python code, which is not run")));
  const Json unknown = parse_json(R"({"controller": {"name": "ReinforcmentController"}})", "own");
  EXPECT_THAT(test::error_of([&] { read_automl_settings(unknown, "a.json"); }),
              HasSubstr("did you mean 'ReinforcementController'"));
}

TEST(DryRun, TellsDimensionsProductAndNotes) {
  const std::string text = dry_run_text(space_of(clara("enum")));
  EXPECT_THAT(text, HasSubstr("3 dimensions:"));
  EXPECT_THAT(text, HasSubstr("net.enum.train.model$1:norm  batch, INSTANCE"));
  EXPECT_THAT(text, HasSubstr("product: 8 points"));
  EXPECT_THAT(text, HasSubstr("note: "));
  const std::string rates = dry_run_text(space_of(clara("lr_lp")));
  EXPECT_THAT(rates, HasSubstr("applied to train.pre_transforms[7] prob"));
  EXPECT_THAT(rates, HasSubstr("real numbers"));
}

// ---- MONAI's UNet

TEST(MonaiUnet, HasTheSizeOfTheSpleenExample) {
  // Total parameters that MONAI's summary prints for this network.
  const Graph graph = make_monai_unet({1, 2, {96, 96, 96}},
                                      {.channels = {16, 32, 64, 128, 256},
                                       .strides = {2, 2, 2, 2},
                                       .num_res_units = 2,
                                       .norm = "batch_norm"});
  EXPECT_EQ(total_cost(graph, {96, 96, 96}).parameters, 4808917);
  EXPECT_EQ(infer_shapes(graph, {96, 96, 96}).back().space, (Extent3{96, 96, 96}));
}

TEST(MonaiUnet, WithoutUnitsAndWithWideKernels) {
  for (const std::int64_t kernel : {3, 5}) {
    const Graph graph = make_monai_unet({2, 3, {16, 16, 16}},
                                        {.channels = {4, 8, 8},
                                         .strides = {2, (kernel + 1) / 2},
                                         .kernel_size = kernel,
                                         .up_kernel_size = kernel,
                                         .dropout = 0.1});
    EXPECT_EQ(infer_shapes(graph, {12, 24, 36}).back().space, (Extent3{12, 24, 36}));
  }
  EXPECT_THAT(test::error_of([] {
                make_monai_unet({}, {.channels = {4, 8}, .strides = {2, 2}});
              }),
              HasSubstr("strides: expected 1 numbers"));
}

}  // namespace
}  // namespace nas
