// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/config_space/search_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nas/core/error.h"
#include "search_spaces/config_space/resolve.h"
#include "tests/support/support.h"

namespace nas {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Pointer = Json::json_pointer;

/// A description with a loss, an optimizer, two transforms; parts can be replaced.
Json plain() {
  return parse_json(R"({
    "learning_rate": 0.001,
    "train": {
      "loss": {"name": "DiceLoss", "args": {"softmax": true, "gamma": 2.0}},
      "optimizer": {"name": "Adam", "args": {"lr": "{learning_rate}"}},
      "pre_transforms": [
        {"name": "Shift", "args": {"prob": 0.5, "offsets": 0.1}},
        {"name": "Noise", "args": {"prob": 0.1}}]}})",
                    "plain");
}

Json search_of(const char* text) { return parse_json(text, "search"); }

SearchRules rules_of(const Json& root) { return find_search_rules(root, "file.json"); }

std::string error_of_rules(const Json& root) {
  return test::error_of([&] { rules_of(root); });
}

const std::vector<SinglePlace> kSingles{{Pointer("/train/loss"), true},
                                        {Pointer("/train/optimizer"), true}};

/// Resolved with choice or number `values` per dimension; null: as written.
Json resolved(const Json& root,
              const std::vector<Json>& values,
              const Json& environment = Json::object()) {
  const SearchRules rules = rules_of(root);
  std::vector<std::optional<Json>> given;
  for (const Json& value : values) {
    given.push_back(value.is_null() ? std::nullopt : std::optional<Json>(value));
  }
  given.resize(rules.dimensions.size());
  return without_gaps(resolve_description(root, environment, rules, given, kSingles, "file.json"));
}

Json with_loss_search(const char* search) {
  Json root = plain();
  root["train"]["loss"]["search"] = search_of(search);
  return root;
}

TEST(SearchRules, NothingSearchedIsNothingChanged) {
  const SearchRules rules = rules_of(plain());
  EXPECT_THAT(rules.dimensions, IsEmpty());
  EXPECT_EQ(resolved(plain(), {})["train"]["optimizer"]["args"]["lr"], 0.001);
}

TEST(SearchRules, KeysAreClaras) {
  Json root = with_loss_search(
      R"([{"domain": "lr", "type": "float", "args": ["gamma"], "targets": [1, 3]},
          {"domain": "net", "type": "enum", "args": ["softmax"], "targets": [[true], [false]]}])");
  root["search"] = search_of(
      R"([{"domain": "lr", "type": "float", "args": ["learning_rate"], "targets": [1e-4, 1e-2]}])");
  root["train"]["pre_transforms"][1]["search"] = search_of(
      R"([{"domain": "transform", "type": "enum", "args": ["@disabled"], "targets": [[true], [false]]}])");
  std::vector<std::string> keys;
  for (const Dimension& d : rules_of(root).dimensions) keys.push_back(d.key);
  EXPECT_THAT(keys,
              ElementsAre("lr.float$0:learning_rate",
                          "lr.float.train.loss$0:gamma",
                          "net.enum.train.loss$1:softmax",
                          "transform.enum.train.pre_transforms[1]$0:@disabled"));
}

TEST(SearchRules, ArgsMayBeAPlainString) {
  const Json root = with_loss_search(
      R"([{"domain": "lr", "type": "float", "args": "gamma", "targets": [1, 3]}])");
  EXPECT_EQ(resolved(root, {{2.5}})["train"]["loss"]["args"]["gamma"], 2.5);
}

TEST(SearchRules, OneDrawnNumberGoesToAllArgs) {
  Json root = plain();
  root["train"]["pre_transforms"][0]["search"] = search_of(
      R"([{"domain": "transform", "type": "float", "args": ["prob", "offsets"], "targets": [0, 1]}])");
  const SearchRules rules = rules_of(root);
  bool written = true;
  const Gene gene = make_gene(rules.dimensions[0], &written);
  EXPECT_FALSE(written) << "0.5 and 0.1 are two numbers";
  const Json args = resolved(root,
                             {dimension_values(rules.dimensions[0],
                                               gene,
                                               *gene.index("0.25"),
                                               written)})["train"]["pre_transforms"][0]["args"];
  EXPECT_EQ(args, search_of(R"({"prob": 0.25, "offsets": 0.25})"));
}

TEST(SearchRules, AnEnumChoiceHasAValuePerArgOfAnyKind) {
  Json root = with_loss_search(
      R"([{"domain": "net", "type": "enum", "args": ["softmax", "gamma"],
           "targets": [[true, 2.0], [false, [[1, 2], "x"]]]}])");
  const SearchRules rules = rules_of(root);
  bool written = false;
  const Gene gene = make_gene(rules.dimensions[0], &written);
  EXPECT_TRUE(written);
  EXPECT_THAT(gene.values, ElementsAre("true,2.0", "false,[[1,2],\"x\"]"));
  const Json args = resolved(
      root, {dimension_values(rules.dimensions[0], gene, 1, written)})["train"]["loss"]["args"];
  EXPECT_EQ(args, search_of(R"({"softmax": false, "gamma": [[1, 2], "x"]})"));
}

TEST(SearchRules, TheValueAsWrittenIsThePlannedOne) {
  const SearchRules rules = rules_of(with_loss_search(
      R"([{"domain": "lr", "type": "float", "args": ["gamma"], "targets": [0, 3]},
          {"domain": "net", "type": "enum", "args": ["softmax"], "targets": [[false], [true]]}])"));
  bool written = false;
  const Gene number = make_gene(rules.dimensions[0], &written);
  EXPECT_TRUE(written);
  EXPECT_EQ(number.text(number.planned), "2");
  EXPECT_EQ(dimension_values(rules.dimensions[0], number, number.planned, true), Json({2.0}));
  EXPECT_EQ(make_gene(rules.dimensions[1], &written).planned, 1);
}

TEST(SearchRules, DisabledIsAnAttributeAndTrueDisables) {
  Json root = plain();
  root["train"]["pre_transforms"][1]["search"] = search_of(
      R"([{"domain": "transform", "type": "enum", "args": ["@disabled"], "targets": [[true], [false]]}])");
  EXPECT_EQ(resolved(root, {{true}})["train"]["pre_transforms"].size(), 1u);
  EXPECT_EQ(resolved(root, {{false}})["train"]["pre_transforms"].size(), 2u);
  EXPECT_EQ(resolved(root, {nullptr})["train"]["pre_transforms"].size(), 2u);
  root["train"]["pre_transforms"][1]["search"][0]["args"] = {"@enabled"};
  EXPECT_THAT(error_of_rules(root), HasSubstr("the only attribute is @disabled"));
}

TEST(SearchRules, AnAliasCarriesAValueToAnotherComponent) {
  Json root = plain();
  root["train"]["pre_transforms"][0]["search"] = search_of(
      R"([{"domain": "transform", "type": "float", "args": ["prob#p"], "targets": [0, 1]}])");
  root["train"]["pre_transforms"][1]["apply"] = {{"prob", "p"}};
  const Json list = resolved(root, {{0.3}})["train"]["pre_transforms"];
  EXPECT_EQ(list[0]["args"]["prob"], 0.3);
  EXPECT_EQ(list[1]["args"]["prob"], 0.3);
  EXPECT_FALSE(list[1].contains("apply"));
  // As written nothing is applied.
  EXPECT_EQ(resolved(root, {nullptr})["train"]["pre_transforms"][1]["args"]["prob"], 0.1);
}

TEST(SearchRules, VirtualArgsChooseBetweenAlternatives) {
  Json root = plain();
  root["search"] = search_of(
      R"([{"domain": "net", "type": "enum", "args": ["first", "second"],
           "targets": [[true, false], [false, true]]}])");
  root["train"]["loss"] = search_of(
      R"([{"name": "A", "args": {}, "apply": {"@disabled": "first"}},
          {"name": "B", "args": {}, "apply": {"@disabled": "second"}}])");
  // true disables.
  EXPECT_EQ(resolved(root, {{true, false}})["train"]["loss"]["name"], "B");
  EXPECT_EQ(resolved(root, {{false, true}})["train"]["loss"]["name"], "A");
  const auto error = [&](const Json& value) {
    return test::error_of([&] { resolved(root, {value}); });
  };
  EXPECT_THAT(error({true, true}),
              HasSubstr("file.json: train.loss: expected one enabled alternative, found none"));
  EXPECT_THAT(error({false, false}),
              HasSubstr("train.loss: expected one enabled alternative, found 2 (A, B)"));
  EXPECT_THAT(error(nullptr), HasSubstr("found 2 (A, B)"));  // as written
}

TEST(SearchRules, TheMarkOfAVirtualArgIsNoPartOfItsName) {
  Json root = plain();
  root["search"] = search_of(
      R"([{"domain": "transform", "type": "enum", "args": ["@off"], "targets": [[true], [false]]}])");
  root["train"]["pre_transforms"][0]["apply"] = {{"@disabled", "off"}};
  EXPECT_EQ(resolved(root, {{true}})["train"]["pre_transforms"].size(), 1u);
  EXPECT_EQ(resolved(root, {{false}})["train"]["pre_transforms"].size(), 2u);
}

TEST(SearchRules, AVirtualArgThatNobodyAppliesIsAWarning) {
  Json root = plain();
  root["search"] = search_of(
      R"([{"domain": "lr", "type": "float", "args": ["learning_rat"], "targets": [0, 1]}])");
  EXPECT_THAT(rules_of(root).notes,
              ElementsAre(AllOf(HasSubstr("warning"),
                                HasSubstr("learning_rat"),
                                HasSubstr("did you mean 'learning_rate'"))));
}

TEST(SearchRules, FirstLevelParametersReachComponentsByTheirName) {
  Json root = plain();
  root["search"] = search_of(
      R"([{"domain": "lr", "type": "float", "args": ["learning_rate"], "targets": [1e-4, 1e-2]}])");
  EXPECT_EQ(resolved(root, {{0.005}})["train"]["optimizer"]["args"]["lr"], 0.005);
}

TEST(SearchRules, NamesInBracesComeFromFirstLevelThenEnvironment) {
  Json root = plain();
  root["data"] = "{DATA_ROOT}";
  root["train"]["dataset"] = {
      {"args", {{"file", "{data}/list.json"}, {"rate", "{learning_rate}"}}}};
  const Json args = resolved(
      root, {}, {{"DATA_ROOT", "/data"}, {"learning_rate", 7}})["train"]["dataset"]["args"];
  EXPECT_EQ(args["file"], "/data/list.json");
  EXPECT_EQ(args["rate"], 0.001)
      << "the first level comes before the environment; a number stays one";
  EXPECT_THAT(test::error_of([&] { resolved(root, {}); }),
              HasSubstr("file.json: data: {DATA_ROOT} is neither"));
  root = plain();
  root["train"]["loss"]["args"]["gamma"] = "{learning_rat}";
  EXPECT_THAT(test::error_of([&] { resolved(root, {}); }),
              AllOf(HasSubstr("train.loss.args.gamma"), HasSubstr("did you mean 'learning_rate'")));
}

TEST(SearchRules, ARefIsTheComponentWithItsSearchedValue) {
  Json root = plain();
  root["train"]["pre_transforms"][0]["search"] = search_of(
      R"([{"domain": "transform", "type": "float", "args": ["prob"], "targets": [0, 1]}])");
  root["train"]["pre_transforms"][1]["name"] = "Shift#second";
  root["validate"] = {{"pre_transforms", {{{"ref", "Shift"}}, {{"ref", "second"}}}}};
  const Json list = resolved(root, {{0.3}})["validate"]["pre_transforms"];
  EXPECT_EQ(list[0]["args"]["prob"], 0.3);
  EXPECT_EQ(list[1]["args"]["prob"], 0.1);
  root["validate"]["pre_transforms"][0]["ref"] = "Shft";
  EXPECT_THAT(
      test::error_of([&] { resolved(root, {}); }),
      AllOf(HasSubstr("validate.pre_transforms[0].ref"), HasSubstr("did you mean 'Shift'")));
}

TEST(SearchRules, ARefToADisabledComponentGoesWithIt) {
  Json root = plain();
  root["train"]["pre_transforms"][0]["disabled"] = true;
  root["validate"] = {{"pre_transforms", {{{"ref", "Shift"}}}}};
  EXPECT_THAT(resolved(root, {})["validate"]["pre_transforms"], IsEmpty());
}

TEST(SearchRules, DisabledMayBeAReference) {
  Json root = plain();
  root["skip_noise"] = true;
  root["train"]["pre_transforms"][1]["disabled"] = "{skip_noise}";
  EXPECT_EQ(resolved(root, {})["train"]["pre_transforms"].size(), 1u);
  root["skip_noise"] = "yes";
  EXPECT_THAT(test::error_of([&] { resolved(root, {}); }),
              HasSubstr("train.pre_transforms[1].disabled: expected true or false"));
}

TEST(SearchRules, ParkedKeysAreIgnoredWithANote) {
  Json root = plain();
  root["train"]["__model"] = {{"name", "Old"}, {"search", 7}};
  root["train"]["loss"]["___search"] = 3;
  const SearchRules rules = rules_of(root);
  EXPECT_THAT(rules.dimensions, IsEmpty());
  EXPECT_THAT(
      rules.notes,
      testing::UnorderedElementsAre("train.__model: ignored", "train.loss.___search: ignored"));
  EXPECT_FALSE(resolved(root, {})["train"].contains("__model"));
}

TEST(SearchRules, TheOldSearchOfTheLearningRateIsOneToo) {
  Json root = plain();
  root["lr_search"] = {1e-4, 1e-2};
  const SearchRules rules = rules_of(root);
  ASSERT_EQ(rules.dimensions.size(), 1u);
  EXPECT_EQ(rules.dimensions[0].key, "lr.float$0:learning_rate");
  EXPECT_EQ(resolved(root, {{0.003}})["train"]["optimizer"]["args"]["lr"], 0.003);
  root.erase("learning_rate");
  EXPECT_THAT(error_of_rules(root), HasSubstr("lr_search: expected the first-level number"));
}

TEST(SearchRules, OursAddWholeNumbersLogarithmsAndDefaults) {
  const SearchRules rules = rules_of(with_loss_search(
      R"([{"type": "int", "args": "gamma", "targets": [1, 64], "log": true, "default": 8}])"));
  bool written = false;
  const Gene gene = make_gene(rules.dimensions[0], &written);
  EXPECT_TRUE(written);
  EXPECT_EQ(gene.kind, Gene::Kind::Integer);
  EXPECT_TRUE(gene.log);
  EXPECT_EQ(gene.text(gene.planned), "8");
  EXPECT_EQ(dimension_values(rules.dimensions[0], gene, 2, true), Json({3}));
  EXPECT_THAT(error_of_rules(with_loss_search(
                  R"([{"type": "int", "args": "gamma", "targets": [1, 64], "default": 65}])")),
              HasSubstr("default: expected whole numbers from 1 to 64, found 65"));
}

TEST(SearchRules, AConditionComesBehindWhatItAsksFor) {
  Json root = with_loss_search(
      R"([{"type": "float", "args": ["gamma"], "targets": [1, 3], "when": {"which": ["b"]}}])");
  root["train"]["optimizer"]["args"]["kind"] = "a";
  root["train"]["optimizer"]["search"] =
      search_of(R"([{"type": "enum", "args": ["kind#which"], "targets": [["a"], ["b"]]}])");
  const SearchRules rules = rules_of(root);
  EXPECT_EQ(rules.dimensions[0].path, "train.optimizer");
  EXPECT_EQ(rules.dimensions[1].when, 0);
  EXPECT_THAT(rules.dimensions[1].when_choices, ElementsAre(1));
  root["train"]["loss"]["search"][0]["when"] = {{"which", {"c"}}};
  EXPECT_THAT(error_of_rules(root), HasSubstr("when: 'which' is never \"c\""));
}

// ---- what is wrong, with its path

TEST(SearchRulesErrors, AnArgThatTheComponentLacks) {
  EXPECT_THAT(
      error_of_rules(with_loss_search(
          R"([{"domain": "lr", "type": "float", "args": ["gama"], "targets": [1, 3]}])")),
      AllOf(HasSubstr("file.json: train.loss.search[0].args: 'gama' is no arg of train.loss"),
            HasSubstr("gamma, softmax"),
            HasSubstr("did you mean 'gamma'")));
}

TEST(SearchRulesErrors, AChoiceOfAnotherLength) {
  EXPECT_THAT(
      error_of_rules(with_loss_search(
          R"([{"type": "enum", "args": ["gamma", "softmax"], "targets": [[1, true], [2]]}])")),
      HasSubstr("train.loss.search[0].targets[1]: expected a list of 2 values, one per arg, "
                "found 1: [2]"));
  EXPECT_THAT(error_of_rules(
                  with_loss_search(R"([{"type": "enum", "args": ["gamma"], "targets": [1, 2]}])")),
              HasSubstr("targets[0]: expected a list of 1 value, one per arg, found 1"));
}

TEST(SearchRulesErrors, ARangeWithoutRoom) {
  const auto error = [](const char* targets, const char* more = "") {
    return error_of_rules(with_loss_search(
        concat_text(R"([{"type": "float", "args": "gamma", "targets": )", targets, more, "}]")
            .c_str()));
  };
  EXPECT_THAT(error("[3, 1]"), HasSubstr("targets: expected finite min < max, got 3 and 1"));
  EXPECT_THAT(error("[1, 1]"), HasSubstr("min < max"));
  EXPECT_THAT(error("[0, 1]", R"(, "log": true)"), HasSubstr("log needs min > 0, got 0"));
  EXPECT_THAT(error("[1]"), HasSubstr("expected [min, max], found 1 numbers"));
  EXPECT_THAT(error("[[1], [2]]"), HasSubstr("targets[0]: expected a number"));
}

TEST(SearchRulesErrors, Aliases) {
  Json root = plain();
  Json& list = root["train"]["pre_transforms"];
  list[1]["apply"] = {{"prob", "p"}};
  EXPECT_THAT(error_of_rules(root),
              HasSubstr("train.pre_transforms[1].apply: takes 'p', which no search declares"));
  const Json search = search_of(R"([{"type": "float", "args": ["prob#p"], "targets": [0, 1]}])");
  list[0]["search"] = search;
  EXPECT_EQ(error_of_rules(root), "");
  list[1]["apply"] = {{"probb", "p"}};
  EXPECT_THAT(error_of_rules(root), HasSubstr("'probb' is no arg of train.pre_transforms[1]"));
  list[1].erase("apply");
  list[1]["search"] = search;
  EXPECT_THAT(error_of_rules(root),
              AllOf(HasSubstr("train.pre_transforms[1].search[0]: declares 'p'"),
                    HasSubstr("train.pre_transforms[0].search[0] declares too")));
  list[1].erase("search");
  list[0]["apply"] = {{"offsets", "p"}};
  EXPECT_THAT(error_of_rules(root), HasSubstr("which the component itself declares"));
  list[0].erase("apply");
  list[1]["apply"] = {{"@disabled", "p"}};
  EXPECT_THAT(error_of_rules(root), HasSubstr("@disabled is true or false, but 'p' is a number"));
}

TEST(SearchRulesErrors, OneThingSearchedTwice) {
  EXPECT_THAT(
      error_of_rules(with_loss_search(
          R"([{"type": "float", "args": "gamma", "targets": [0, 1]},
                      {"type": "float", "args": "gamma", "targets": [0, 2]}])")),
      AllOf(HasSubstr("'gamma' is searched by"), HasSubstr("$0:gamma"), HasSubstr("$1:gamma")));
}

TEST(SearchRulesErrors, UnknownWords) {
  EXPECT_THAT(error_of_rules(
                  with_loss_search(R"([{"type": "flaot", "args": "gamma", "targets": [0, 1]}])")),
              AllOf(HasSubstr("search[0].type"), HasSubstr("did you mean 'float'")));
  EXPECT_THAT(
      error_of_rules(with_loss_search(R"([{"type": "float", "args": "gamma", "target": [0, 1]}])")),
      HasSubstr("target"));
  EXPECT_THAT(error_of_rules(with_loss_search(R"({"type": "float"})")),
              HasSubstr("train.loss.search: expected a list"));
  Json root = plain();
  root["steps"] = 100;
  root["search"] = search_of(R"([{"type": "int", "args": "steps", "targets": [1, 100]}])");
  EXPECT_THAT(error_of_rules(root), HasSubstr("'steps' is the budget"));
}

}  // namespace
}  // namespace nas
