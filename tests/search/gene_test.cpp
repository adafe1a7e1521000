// SPDX-License-Identifier: Apache-2.0
#include "nas/search/gene.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "tests/support/support.h"
#include "tests/support/toy_search.h"

namespace nas {
namespace {

using test::MixedSpace;
using testing::HasSubstr;

Gene number(Gene::Kind kind, double lo, double hi, bool log = false) {
  Gene gene{"g", "training", {}};
  gene.kind = kind;
  gene.lo = lo;
  gene.hi = hi;
  gene.log = log;
  return gene;
}

TEST(Gene, ARealHasLevelsInEqualStepsOrRatios) {
  Gene even = number(Gene::Kind::Real, -1, 3);
  EXPECT_EQ(even.count(), 10'001);
  EXPECT_DOUBLE_EQ(even.value(0), -1);
  EXPECT_DOUBLE_EQ(even.value(2500), 0);
  EXPECT_DOUBLE_EQ(even.value(10'000), 3);
  const Gene log = number(Gene::Kind::Real, 1e-5, 0.1, true);
  EXPECT_NEAR(log.value(5000), 1e-3, 1e-15);
  EXPECT_NEAR(log.value(1) / log.value(0) - 1, 0.00092, 0.00001);  // a step over four decades
  even.levels = 5;
  EXPECT_EQ(even.count(), 5);
  EXPECT_EQ(even.text(1), "0");
}

TEST(Gene, EveryTextGivesItsIndexBackAndIsShort) {
  for (const Gene& gene : {number(Gene::Kind::Real, 1e-5, 0.1, true),
                           number(Gene::Kind::Real, 0, 1),
                           number(Gene::Kind::Real, -0.123456789, 1.0 / 3),
                           number(Gene::Kind::Real, 1e-12, 1e12, true),
                           number(Gene::Kind::Integer, -3, 12),
                           number(Gene::Kind::Integer, 1, 2048, true)}) {
    for (int i = 0; i < gene.count(); ++i) {
      const std::string text = gene.text(i);
      ASSERT_EQ(gene.index(text), i) << text;
      ASSERT_LE(text.size(), 22u) << text;
    }
    EXPECT_NEAR(std::stod(gene.text(0)), gene.lo, 1e-9 * std::abs(gene.lo));
  }
  const Gene unit = number(Gene::Kind::Real, 0, 1);
  EXPECT_EQ(unit.text(5000), "0.5");
  EXPECT_EQ(unit.text(1234), "0.1234");
  EXPECT_EQ(number(Gene::Kind::Real, 1e-5, 0.1, true).text(5000), "0.001");
}

TEST(Gene, ANumberIsTheNearestLevelAndMustLieWithinTheRange) {
  const Gene unit = number(Gene::Kind::Real, 0, 1);
  EXPECT_EQ(unit.index("0.12344"), 1234);
  EXPECT_EQ(unit.index("1e-1"), 1000);
  for (const char* bad : {"-0.1", "1.1", "nan", "inf", "", "0.5x", " 0.5", "half"})
    EXPECT_EQ(unit.index(bad), std::nullopt) << bad;
  const Gene whole = number(Gene::Kind::Integer, 2, 8);
  EXPECT_EQ(whole.index("2"), 0);
  EXPECT_EQ(whole.index("2.5"), std::nullopt);
  EXPECT_EQ(whole.index("9"), std::nullopt);
}

TEST(Gene, UnitsRunFromZeroToOneAndBack) {
  for (const Gene& gene : {number(Gene::Kind::Real, 1e-5, 0.1, true),
                           number(Gene::Kind::Integer, 0, 9),
                           number(Gene::Kind::Integer, 1, 1024, true)}) {
    const int last = static_cast<int>(gene.count()) - 1;
    EXPECT_EQ(gene.unit(0), 0);
    EXPECT_EQ(gene.unit(last), 1);
    for (int i = 0; i <= last; ++i) ASSERT_EQ(gene.index_of_unit(gene.unit(i)), i);
    EXPECT_EQ(gene.index_of_unit(-3), 0);
    EXPECT_EQ(gene.index_of_unit(7), last);
    EXPECT_EQ(gene.index_of_unit(std::numeric_limits<double>::quiet_NaN()), 0);
  }
  // Equal ratios are equal distances.
  const Gene log = number(Gene::Kind::Integer, 1, 1024, true);
  EXPECT_NEAR(log.unit(*log.index("32")), 0.5, 1e-12);
}

TEST(Gene, WholeNumbersOnALogScaleAreDrawnEvenlyOverTheirLogarithm) {
  const Gene gene = number(Gene::Kind::Integer, 1, 1024, true);
  Rng rng("log-integers");
  int below = 0;
  for (int i = 0; i < 4000; ++i) below += gene.value(gene.draw(rng)) <= 32;
  // Of log(1024.5 / 0.5), log(32.5 / 0.5) lies below: 0.547. Four deviations.
  EXPECT_NEAR(below / 4000.0, 0.547, 0.032);
}

TEST(Gene, WhatIsMalformedIsSaid) {
  EXPECT_EQ(number(Gene::Kind::Real, 0, 1).malformed_reason(0), "");
  EXPECT_THAT(number(Gene::Kind::Real, 1, 1).malformed_reason(0), HasSubstr("min < max"));
  EXPECT_THAT(number(Gene::Kind::Real, 2, 1).malformed_reason(0), HasSubstr("got 2 and 1"));
  EXPECT_THAT(number(Gene::Kind::Real, 0, INFINITY).malformed_reason(0), HasSubstr("finite"));
  EXPECT_THAT(number(Gene::Kind::Real, 0, 1, true).malformed_reason(0), HasSubstr("min > 0"));
  EXPECT_THAT(number(Gene::Kind::Integer, 0.5, 3).malformed_reason(0), HasSubstr("whole"));
  EXPECT_THAT(number(Gene::Kind::Integer, 0, 1e12).malformed_reason(0), HasSubstr("too many"));
  EXPECT_THAT((Gene{"g", "x", {}}).malformed_reason(0), HasSubstr("at least one"));
  EXPECT_THAT((Gene{"g", "x", {"a", "a"}}).malformed_reason(0), HasSubstr("twice"));
  EXPECT_THAT((Gene{"g", "x", {"a b"}}).malformed_reason(0), HasSubstr("spaces"));
  EXPECT_THAT((Gene{"g h", "x", {"a"}}).malformed_reason(0), HasSubstr("name"));
  Gene later = number(Gene::Kind::Real, 0, 1);
  later.parent = 2;
  EXPECT_THAT(later.malformed_reason(2), HasSubstr("before"));
  EXPECT_EQ(later.malformed_reason(3), "");
  Gene planned{"g", "x", {"a"}};
  planned.planned = 1;
  EXPECT_THAT(planned.malformed_reason(0), HasSubstr("planned"));
}

TEST(MixedGenes, AreWellFormedAndTenThousandGenotypesRoundTripAsText) {
  const MixedSpace space;
  for (std::size_t g = 0; g < space.genes().size(); ++g)
    EXPECT_EQ(space.genes()[g].malformed_reason(g), "") << space.genes()[g].name;
  Rng rng("mixed-round-trip");
  std::set<std::string> ids;
  for (int i = 0; i < 10'000; ++i) {
    const Genotype genotype = space.sample(rng);
    ASSERT_EQ(space.invalid_reason(genotype), "");
    const std::string text = space.to_text(genotype);
    const Genotype back = space.from_text(text);
    ASSERT_EQ(back, genotype) << text;
    ASSERT_EQ(space.to_text(back), text);
    ids.insert(space.genotype_id(genotype));
  }
  EXPECT_GT(ids.size(), 9'990u);
}

// These are keys in results databases: they must never change.
TEST(MixedGenes, TextsAndIdsStayWhatTheyAre) {
  const MixedSpace space;
  EXPECT_EQ(space.to_text(space.baseline()),
            "optimizer=adamw learning_rate=0.001 dropout=0 layers=1 width=32 momentum=0.9");
  EXPECT_EQ(space.genotype_id(space.baseline()), "e8bb105f628b074b");
  Rng rng("mixed-golden");
  const Genotype drawn = space.sample(rng);
  EXPECT_EQ(
      space.to_text(drawn),
      "optimizer=novograd learning_rate=0.0006457 dropout=0.08685 layers=3 width=290 momentum=0.9");
  EXPECT_EQ(space.genotype_id(drawn), "18ea9d8e85cc6eea");
}

TEST(MixedGenes, AnInactiveGeneHoldsItsPlannedValue) {
  const MixedSpace space;
  Genotype genotype = space.from_text("optimizer=sgd momentum=0.7");
  EXPECT_TRUE(space.active(genotype, 5));
  EXPECT_EQ(space.to_text(genotype).substr(0, 13), "optimizer=sgd");
  genotype.values[0] = 0;
  EXPECT_FALSE(space.active(genotype, 5));
  EXPECT_THAT(space.invalid_reason(genotype), HasSubstr("momentum is not active"));
  EXPECT_THAT(space.invalid_reason(genotype), HasSubstr("expected its planned value 0.9"));
  EXPECT_EQ(space.canonical(genotype), space.baseline());
  EXPECT_THAT(test::error_of([&] { space.from_text("optimizer=adamw momentum=0.7"); }),
              HasSubstr("momentum has no meaning where optimizer=adamw"));
  EXPECT_EQ(space.from_text("optimizer=adamw momentum=0.9"), space.baseline());
  EXPECT_THAT(space.short_text(space.from_text("optimizer=sgd momentum=0.7 dropout=0.2")),
              HasSubstr("optimizer=sgd dropout=0.2 momentum=0.7"));
}

TEST(MixedGenes, MutationStaysValidAndMostlyNear) {
  const MixedSpace space;
  Rng rng("mixed-mutation");
  int near = 0, numbers = 0;
  for (int i = 0; i < 2000; ++i) {
    const Genotype parent = space.sample(rng);
    const Genotype child = space.mutate(parent, rng);
    ASSERT_EQ(space.invalid_reason(child), "");
    ASSERT_NE(child, parent);
    if (child.values[0] != parent.values[0]) continue;
    ++numbers;
    near += space.distance(parent, child) < 0.4;  // two deviations
  }
  EXPECT_GT(numbers, 1200);
  EXPECT_GT(near, numbers * 9 / 10);
}

TEST(MixedGenes, NeighboursAreOneSmallStepAway) {
  const MixedSpace space;
  const Genotype here = space.from_text("optimizer=sgd dropout=0.25 layers=4 momentum=0.7");
  const std::vector<Genotype> near = space.neighbours(here);
  EXPECT_EQ(near.size(), 12u);  // up and down in each
  for (const Genotype& genotype : near) {
    EXPECT_EQ(space.invalid_reason(genotype), "");
    if (genotype.values[0] != here.values[0]) continue;
    EXPECT_LE(space.distance(here, genotype), 1.0 / 7 + 1e-9) << space.to_text(genotype);
  }
  // At the lower ends, and without the inactive gene.
  EXPECT_EQ(space.neighbours(space.baseline()).size(), 1u + 2 + 1 + 1 + 2);
}

TEST(MixedGenes, EncodeIsOneHotForChoicesAndAPlaceForNumbers) {
  const MixedSpace space;
  const std::vector<double> code = space.encode(space.from_text("optimizer=sgd dropout=0.25"));
  ASSERT_EQ(code.size(), 8u);
  EXPECT_EQ((std::vector<double>{code.begin(), code.begin() + 3}), (std::vector<double>{0, 1, 0}));
  EXPECT_NEAR(code[3], 0.5, 1e-9);
  EXPECT_NEAR(code[4], 0.5, 1e-9);
  EXPECT_EQ(code[5], 0);
}

TEST(MixedGenes, DistanceCountsChoicesAndMeasuresNumbers) {
  const MixedSpace space;
  const Genotype a = space.baseline();
  EXPECT_EQ(space.distance(a, a), 0);
  EXPECT_EQ(space.distance(a, space.from_text("optimizer=novograd")), 1);
  EXPECT_NEAR(space.distance(a, space.from_text("optimizer=novograd dropout=0.25")), 1.5, 1e-9);
  EXPECT_EQ(space.steps_between(a, space.from_text("optimizer=novograd layers=3")), 4);
}

TEST(MixedGenes, TextErrorsNameTheRange) {
  const MixedSpace space;
  EXPECT_THAT(test::error_of([&] { space.from_text("learning_rate=2"); }),
              HasSubstr("learning_rate must be one of the 1e-05 to 0.1 (log), got '2'"));
  EXPECT_THAT(test::error_of([&] { space.from_text("layers=2.5"); }),
              HasSubstr("whole numbers from 1 to 8"));
}

TEST(MixedGenes, TheToyHasItsBestWhereItSays) {
  const MixedSpace space;
  const Genotype best = space.from_text(
      "optimizer=sgd learning_rate=0.01 dropout=0.1 layers=5 width=64 momentum=0.95");
  EXPECT_NEAR(test::mixed_quality(space, best), 1, 1e-4);
  Rng rng("mixed-best");
  for (int i = 0; i < 1000; ++i)
    EXPECT_LT(test::mixed_quality(space, space.sample(rng)), test::mixed_quality(space, best));
}

}  // namespace
}  // namespace nas
