// SPDX-License-Identifier: Apache-2.0
// Super-networks: the module of an open graph, training, merging, scores with inherited weights.
#include <gtest/gtest.h>
#include <torch/torch.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/core/rng.h"
#include "supernet/differentiable.h"
#include "supernet/inherited_scores.h"
#include "supernet/search/uniform_path.h"
#include "supernet/super_training.h"
#include "tests/support/small_training.h"
#include "tests/support/support.h"
#include "training/fit/losses.h"
#include "training/model/device.h"
#include "training/model/weights.h"
#include "training/settings/schedule.h"

namespace nas {
namespace {

using Picks = std::vector<int>;

at::Tensor random_tensor(at::IntArrayRef shape,
                         std::uint64_t seed,
                         at::ScalarType type = at::kFloat) {
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU).clone();
  generator.set_current_seed(seed);
  return at::randn(shape, generator, at::kDouble).to(type);
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

Attributes conv3(std::int64_t channels) {
  return {{"out_channels", channels}, {"kernel", std::vector<std::int64_t>{3, 3, 3}}};
}

/// V-NAS's three pairs: 2D (3x3x1 then 1x1x1), 3D (3x3x3 then 1x1x1), P3D (3x3x1 then 1x1x3), D
/// first. `norm`: "" (convolutions alone), or the norm that follows, with its activation.
Graph pair(int kind, std::int64_t in, std::int64_t out, const std::string& norm, bool bias) {
  static const std::vector<std::int64_t> first[] = {{1, 3, 3}, {3, 3, 3}, {1, 3, 3}},
                                         second[] = {{1, 1, 1}, {1, 1, 1}, {3, 1, 1}};
  Graph graph;
  int x = graph.add("input", "x", {}, {{"channels", in}});
  x = graph.add(
      "conv", "a", {x}, {{"out_channels", out}, {"kernel", first[kind]}, {"bias", false}});
  x = graph.add(
      "conv", "b", {x}, {{"out_channels", out}, {"kernel", second[kind]}, {"bias", bias}});
  if (!norm.empty()) x = graph.add("leaky_relu", "act", {graph.add(norm, "norm", {x})});
  graph.add("output", "y", {x});
  return graph;
}

std::vector<Graph> pairs(std::int64_t in, std::int64_t out, const std::string& norm, bool bias) {
  return {pair(0, in, out, norm, bias), pair(1, in, out, norm, bias), pair(2, in, out, norm, bias)};
}

/// A small U-net of choices: norms inside, after (fused with what comes before it in the closed
/// graph), a choice with two inputs of which one alternative uses one, a nested choice, two
/// outputs.
Graph open_network(const std::string& norm = "instance_norm", bool nested = true) {
  Graph g;
  g.name = "open";
  const int x = g.add("input", "image", {}, {{"channels", std::int64_t{1}}});
  const int stem = g.add("leaky_relu",
                         "stem.act",
                         {g.add(norm, "stem.norm", {g.add("conv", "stem.conv", {x}, conv3(4))})});
  const int c0 = g.add_choice("enc0", {stem}, pairs(4, 4, norm, true));
  const int linear = g.add_choice("enc1", {c0}, pairs(4, 4, "", true));
  const int n1 = g.add("leaky_relu", "enc1.act", {g.add(norm, "enc1.norm", {linear})});
  const int down = g.add("conv",
                         "down",
                         {n1},
                         {{"out_channels", std::int64_t{6}},
                          {"kernel", std::vector<std::int64_t>{2, 2, 2}},
                          {"stride", std::vector<std::int64_t>{2, 2, 2}},
                          {"padding", std::vector<std::int64_t>{0, 0, 0}}});
  int low = down;
  if (nested) {
    Graph inner;
    const int i = inner.add("input", "x", {}, {{"channels", std::int64_t{6}}});
    const int j = inner.add_choice("deep", {i}, pairs(6, 6, norm, false));
    inner.add("output", "y", {inner.add("add", "sum", {i, j})});
    Graph plain = pair(1, 6, 6, norm, false);
    low = g.add_choice("bottom", {down}, {plain, inner});
  }
  const int up = g.add("conv_transpose",
                       "up",
                       {low},
                       {{"out_channels", std::int64_t{4}},
                        {"kernel", std::vector<std::int64_t>{2, 2, 2}},
                        {"stride", std::vector<std::int64_t>{2, 2, 2}}});
  Graph both, one;
  for (Graph* graph : {&both, &one}) {
    const int a = graph->add("input", "a", {}, {{"channels", std::int64_t{4}}});
    const int b = graph->add("input", "b", {}, {{"channels", std::int64_t{4}}});
    const int merged = graph == &both ? graph->add("add", "sum", {a, b}) : b;
    graph->add("output", "y", {graph->add("conv", "conv", {merged}, conv3(4))});
  }
  const int joined = g.add_choice("join", {n1, up}, {both, one});
  const int act = g.add("leaky_relu", "join.act", {g.add(norm, "join.norm", {joined})});
  g.add(
      "output",
      "main",
      {g.add("conv",
             "head",
             {act},
             {{"out_channels", std::int64_t{3}}, {"kernel", std::vector<std::int64_t>{1, 1, 1}}})});
  g.add(
      "output",
      "deep_supervision",
      {g.add("conv",
             "head1",
             {low},
             {{"out_channels", std::int64_t{3}}, {"kernel", std::vector<std::int64_t>{1, 1, 1}}})});
  return g;
}

/// The same network with another activation in place of every leaky ReLU.
Graph with_activation(Graph graph, const std::string& activation) {
  for (Node& node : graph.nodes) {
    if (node.op == "leaky_relu") node = {activation, node.name, node.inputs, {}, {}};
    for (Graph& alternative : node.alternatives) {
      alternative = with_activation(alternative, activation);
    }
  }
  return graph;
}

/// Every closed path of a graph with a few choices.
std::vector<Picks> all_picks(const Graph& graph) {
  std::vector<Picks> all{{}};
  for (const int size : choice_sizes(graph)) {
    std::vector<Picks> longer;
    for (const Picks& picks : all) {
      for (int k = 0; k < size; ++k) {
        longer.push_back(picks);
        longer.back().push_back(k);
      }
    }
    all = std::move(longer);
  }
  return all;
}

at::Tensor weighted_sum_of(const std::vector<at::Tensor>& outputs, std::uint64_t seed) {
  at::Tensor sum = at::zeros({}, outputs[0].options());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    sum =
        sum +
        (outputs[i] * random_tensor(outputs[i].sizes(), seed + i, outputs[i].scalar_type())).sum();
  }
  return sum;
}

std::vector<at::Tensor> one_hot(const Graph& graph, const Picks& picks, at::ScalarType type) {
  std::vector<at::Tensor> weights;
  const std::vector<int> sizes = choice_sizes(graph);
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    weights.push_back(at::zeros({sizes[i]}, type));
    weights.back()[picks[i]] = 1;
  }
  return weights;
}

void zero_gradients(GraphModule& network) {
  for (const at::Tensor& p : network->parameters()) p.mutable_grad().reset();
}

// ---------------------------------------------------------------- paths

double chi_square(const std::map<Picks, int>& counts, double expected, std::size_t cells) {
  double sum = static_cast<double>(cells - counts.size()) * expected;
  for (const auto& [picks, count] : counts)
    sum += (count - expected) * (count - expected) / expected;
  return sum;
}

TEST(Paths, AreDrawnUniformlyOverClosedGraphsAlsoNestedAndTiedOnes) {
  // 3 x 3 x (1 + 3) x 2 closed graphs although the nested choice is there only under one
  // alternative.
  const Graph graph = open_network();
  const PathSampler sampler(graph, free_decisions(graph));
  EXPECT_EQ(sampler.count(), 72);
  std::map<Picks, int> counts;
  constexpr int kDraws = 14400;
  for (int step = 0; step < kDraws; ++step) {
    Picks picks = sampler.draw(11, step);
    EXPECT_EQ(picks, sampler.draw(11, step));
    if (picks[2] == 0) picks[3] = -1;  // closed away
    ++counts[picks];
  }
  EXPECT_EQ(counts.size(), 72u);
  EXPECT_LT(chi_square(counts, kDraws / 72.0, 72), 112.3);  // 0.999 quantile at 71 degrees

  // Two choices that one gene decides are one draw.
  const Graph flat = open_network("instance_norm", false);
  std::vector<Decision> tied = free_decisions(flat);
  ASSERT_EQ(tied.size(), 3u);
  tied[0].choices = {0, 1};
  for (int o = 0; o < 3; ++o) tied[0].picks[static_cast<std::size_t>(o)] = {o, o};
  tied.erase(tied.begin() + 1);
  const PathSampler pairwise(flat, tied);
  EXPECT_EQ(pairwise.count(), 6);
  counts.clear();
  for (int step = 0; step < 6000; ++step) ++counts[pairwise.draw(12, step)];
  EXPECT_EQ(counts.size(), 6u);
  for (const auto& [picks, count] : counts) EXPECT_EQ(picks[0], picks[1]);
  EXPECT_LT(chi_square(counts, 1000, 6), 20.5);  // 0.999 quantile at 5 degrees

  // What the space refuses is never drawn, the rest stays uniform.
  counts.clear();
  for (int step = 0; step < 4000; ++step) {
    ++counts[pairwise.draw(13, step, [](const Picks& p) { return p[0] != 1; })];
  }
  EXPECT_EQ(counts.size(), 4u);
  EXPECT_LT(chi_square(counts, 1000, 4), 16.3);
  EXPECT_THROW(pairwise.draw(1, 1, [](const Picks&) { return false; }), Error);
  std::vector<Decision> wrong = free_decisions(graph);
  wrong[0].choices = {0, 3};
  for (std::vector<int>& option : wrong[0].picks) option.push_back(0);
  EXPECT_THROW(PathSampler(graph, wrong), Error);
}

TEST(Paths, TheMostProbableWithinAParameterLimitEqualsBruteForce) {
  const Graph graph = open_network("instance_norm", false);
  const std::vector<Decision> decisions = free_decisions(graph);
  const Extent3 patch{8, 8, 8};
  const ParameterCosts costs = parameter_costs(graph, decisions, patch);
  Rng rng("limits");
  for (int round = 0; round < 30; ++round) {
    std::vector<std::vector<double>> logs;
    for (const Decision& d : decisions) {
      logs.emplace_back();
      for (int o = 0; o < d.options(); ++o) logs.back().push_back(rng.uniform(-3, 0));
    }
    double best = -std::numeric_limits<double>::infinity();
    Picks expected;
    std::int64_t limit = rng.integer(900, 4200);
    if (round == 0) limit = 10;
    for (const Picks& picks : all_picks(graph)) {
      const std::int64_t parameters = total_cost(close_choices(graph, picks), patch).parameters;
      std::int64_t sum = costs.base;
      double value = 0;
      for (std::size_t d = 0; d < picks.size(); ++d) {
        sum += costs.cost[d][static_cast<std::size_t>(picks[d])];
        value += logs[d][static_cast<std::size_t>(picks[d])];
      }
      ASSERT_EQ(sum, parameters);
      if (parameters <= limit && value > best) {
        best = value;
        expected = picks;
      }
    }
    const auto found = most_probable_path(logs, costs, limit);
    ASSERT_EQ(found.has_value(), !expected.empty()) << limit;
    if (found) {
      EXPECT_EQ(*found, expected) << limit;
    }
  }
  EXPECT_EQ(*most_probable_path({{-1, -0.5, -2}, {-0.1, -3}}), (Picks{1, 0}));
}

// ---------------------------------------------------------------- the module

TEST(SuperModule, EveryPathIsTheClosedGraphsModuleBitForBit) {
  at::set_num_threads(2);
  for (const std::string norm : {"instance_norm", "batch_norm"}) {
    const Graph graph = open_network(norm);
    GraphModule super(graph, 7);
    EXPECT_THROW(super->forward(random_tensor({1, 1, 8, 8, 8}, 1)), Error);
    const auto shared = super->named_parameters();
    Rng rng("paths");
    std::vector<Picks> paths = all_picks(graph);
    rng.shuffle(paths);
    paths.resize(4);
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      for (const bool fused : {true, false}) {
        for (const Picks& picks : paths) {
          GraphModule closed(close_choices(graph, picks), 7);
          const auto statistics = super->named_buffers();
          for (const auto& item : closed->named_buffers()) {
            item.value().copy_(statistics[item.key()]);
          }
          closed->set_fused(fused);
          super->set_fused(fused);
          super->select_path(picks);
          for (const bool training : {false, true}) {
            for (GraphModule* network : {&closed, &super}) (*network)->train(training);
            zero_gradients(super);
            zero_gradients(closed);
            const at::Tensor x = random_tensor({2, 1, 8, 8, 6}, 3);
            std::vector<at::Tensor> expected, found;
            {
              const Autocast autocast(at::kCPU, type);
              expected = closed->forward(x);
              found = super->forward(x);
            }
            ASSERT_EQ(found.size(), expected.size());
            for (std::size_t i = 0; i < found.size(); ++i) {
              ASSERT_TRUE(at::equal(found[i], expected[i])) << norm << fused << training << i;
            }
            weighted_sum_of(expected, 5).backward();
            weighted_sum_of(found, 5).backward();
            std::set<std::string> on_path;
            for (const auto& item : closed->named_parameters()) {
              ASSERT_TRUE(shared.contains(item.key())) << item.key();
              const at::Tensor& twin = shared[item.key()];
              ASSERT_TRUE(at::equal(twin, item.value())) << item.key() << ": first values";
              ASSERT_EQ(twin.grad().defined(), item.value().grad().defined()) << item.key();
              if (twin.grad().defined()) {
                ASSERT_TRUE(at::equal(twin.grad(), item.value().grad())) << item.key();
              }
              on_path.insert(item.key());
            }
            for (const auto& item : shared) {
              if (!on_path.contains(item.key())) {
                ASSERT_FALSE(item.value().grad().defined()) << item.key();
              }
            }
          }
        }
      }
    }
  }
}

TEST(SuperModule, AOneHotMixtureIsThePathAndWeightGradientsEqualFiniteDifferences) {
  const Graph graph = open_network();
  GraphModule super(graph, 3);
  super->to(at::kDouble);
  super->eval();
  const at::Tensor x = random_tensor({2, 1, 8, 6, 6}, 1, at::kDouble);
  for (const Picks& picks : {Picks{0, 1, 0, 0, 0}, Picks{2, 0, 1, 2, 1}, Picks{1, 2, 1, 0, 0}}) {
    super->select_path(picks);
    const std::vector<at::Tensor> path = super->forward(x);
    super->mix(one_hot(graph, picks, at::kDouble));
    const std::vector<at::Tensor> mixed = super->forward(x);
    for (std::size_t i = 0; i < path.size(); ++i) {
      EXPECT_LT(largest_difference(path[i], mixed[i]), 1e-11);
    }
  }

  std::vector<at::Tensor> weights;
  for (const int size : choice_sizes(graph)) {
    weights.push_back(random_tensor({size}, 20 + weights.size(), at::kDouble).requires_grad_(true));
  }
  const auto value = [&] {
    super->mix(weights);
    return weighted_sum_of(super->forward(x), 9);
  };
  value().backward();
  const at::NoGradGuard no_grad;
  const auto check = [&](at::Tensor tensor, const at::Tensor& gradient, std::int64_t i) {
    const double at = tensor.view(-1)[i].item<double>(), h = 1e-5;
    tensor.view(-1)[i] = at + h;
    const double up = value().item<double>();
    tensor.view(-1)[i] = at - h;
    const double down = value().item<double>();
    tensor.view(-1)[i] = at;
    const double expected = (up - down) / (2 * h);
    EXPECT_NEAR(gradient.reshape(-1)[i].item<double>(), expected, 1e-6 * (1 + std::abs(expected)));
  };
  for (const at::Tensor& w : weights) {
    for (std::int64_t i = 0; i < w.numel(); ++i) check(w, w.grad(), i);
  }
  for (const auto& item : super->named_parameters()) {
    if (item.key().find(".alt") == std::string::npos) continue;
    if (!item.value().grad().defined()) continue;  // a bias in front of an instance norm
    check(item.value(), item.value().grad(), item.value().numel() / 2);
  }
  EXPECT_THROW(super->mix({weights[0]}), Error);
}

// ---------------------------------------------------------------- merging

TEST(Merging, IsExactInValuesAndGradientsAndSaysWhatItMerged) {
  const Graph graph = open_network();
  const at::Tensor x = random_tensor({2, 1, 8, 6, 6}, 1, at::kDouble);
  std::map<std::string, at::Tensor> gradients;
  std::vector<at::Tensor> outputs, weight_gradients;
  for (const Merge merge : {Merge::None, Merge::Exact, Merge::Mixed}) {
    GraphModule super(graph, 5);
    super->to(at::kDouble);
    super->set_merge(merge);
    std::vector<at::Tensor> weights;
    for (const int size : choice_sizes(graph)) {
      weights.push_back(random_tensor({size}, 30 + weights.size(), at::kDouble)
                            .softmax(0)
                            .detach()
                            .requires_grad_(true));
    }
    const Program& program = super->mix(weights);
    EXPECT_EQ(program.choices, 5);
    // Pairs 2D and 3D of four choices and the plain 3D at the bottom; in Mixed one choice ("enc1")
    // is a single convolution.
    EXPECT_EQ(program.merged_pairs, merge == Merge::None ? 0 : merge == Merge::Exact ? 7 : 5);
    EXPECT_EQ(program.merged_choices, merge == Merge::Mixed ? 1 : 0);
    const std::vector<at::Tensor> found = super->forward(x);
    weighted_sum_of(found, 8).backward();
    if (merge == Merge::None) {
      outputs = found;
      for (const auto& item : super->named_parameters())
        gradients[item.key()] = item.value().grad();
      for (const at::Tensor& w : weights) weight_gradients.push_back(w.grad());
      continue;
    }
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_LT(largest_difference(found[i], outputs[i]), 1e-11);
    }
    for (const auto& item : super->named_parameters()) {
      const at::Tensor& expected = gradients.at(item.key());
      ASSERT_EQ(item.value().grad().defined(), expected.defined()) << item.key();
      if (!expected.defined()) continue;
      EXPECT_LT(largest_difference(item.value().grad(), expected),
                1e-10 * (1 + expected.abs().max().item<double>()))
          << item.key();
    }
    for (std::size_t i = 0; i < weights.size(); ++i) {
      EXPECT_LT(largest_difference(weights[i].grad(), weight_gradients[i]),
                1e-9 * (1 + weight_gradients[i].abs().max().item<double>()));
    }

    // A closed path merges its pairs too.
    const Picks picks{0, 1, 0, 0, 1};
    GraphModule plain(graph, 5);
    plain->to(at::kDouble);
    plain->select_path(picks);
    super->select_path(picks);
    EXPECT_LT(largest_difference(plain->forward(x)[0], super->forward(x)[0]), 1e-11);
  }

  // P3D stays factorised (12 taps against 27); strides of the first convolution carry over; a bias
  // in between forbids merging.
  Graph chain;
  int y = chain.add("input", "x", {}, {{"channels", std::int64_t{2}}});
  y = chain.add("conv",
                "a",
                {y},
                {{"out_channels", std::int64_t{3}},
                 {"kernel", std::vector<std::int64_t>{3, 3, 3}},
                 {"stride", std::vector<std::int64_t>{2, 1, 2}},
                 {"bias", false}});
  const std::vector<std::int64_t> point{1, 1, 1};
  y = chain.add("conv", "b", {y}, {{"out_channels", std::int64_t{3}}, {"kernel", point}});
  y = chain.add("conv", "c", {y}, {{"out_channels", std::int64_t{3}}, {"kernel", point}});
  chain.add("output", "y", {y});
  GraphModule merged(chain, 2), plain(chain, 2);
  for (GraphModule* network : {&merged, &plain}) {
    (*network)->to(at::kDouble);
    const at::NoGradGuard no_grad;
    for (const auto& item : (*network)->named_parameters()) item.value().add_(0.1);
  }
  merged->set_merge(Merge::Exact);
  EXPECT_EQ(merged->path({})->merged_pairs, 1);
  const at::Tensor input = random_tensor({1, 2, 7, 6, 5}, 4, at::kDouble);
  EXPECT_LT(largest_difference(merged->forward(input)[0], plain->forward(input)[0]), 1e-12);

  GraphModule inside(open_network("instance_norm", false), 1);
  Graph only_inside;
  const int i = only_inside.add("input", "x", {}, {{"channels", std::int64_t{4}}});
  only_inside.add(
      "output", "y", {only_inside.add_choice("c", {i}, pairs(4, 4, "instance_norm", true))});
  GraphModule refused(only_inside, 1);
  refused->set_merge(Merge::Mixed);
  EXPECT_THROW(refused->mix({at::ones({3})}), Error) << "nothing to merge must not pass silently";
}

// ---------------------------------------------------------------- training

TrainOptions small_training(std::int64_t steps) {
  TrainOptions options = test::small_options(steps);
  options.weight_decay = 0.1;
  return options;
}

std::map<std::string, at::Tensor> copy_of_weights(GraphModule& network) {
  std::map<std::string, at::Tensor> copy;
  for (const auto& item : network->named_parameters())
    copy[item.key()] = item.value().detach().clone();
  return copy;
}

bool same_weights(GraphModule& a, GraphModule& b) {
  const auto x = copy_of_weights(a), y = copy_of_weights(b);
  return std::all_of(x.begin(), x.end(), [&](const auto& item) {
    return at::equal(item.second, y.at(item.first));
  });
}

TEST(SinglePath, TrainsThePathAloneAndLeavesTheRestUntouchedByDecayAndMomentum) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path());
  const Graph graph = open_network();
  for (const std::string optimizer : {"adamw", "sgd"}) {
    TrainOptions options = small_training(6);
    options.optimizer = optimizer;
    if (optimizer == "sgd") options.momentum = 0.9;
    GraphModule super(graph, 1);
    const auto before = copy_of_weights(super);
    // Alternative 0 of enc0 is drawn in the first steps only: from then on it must stay, bit for
    // bit, although it has momentum.
    std::map<std::string, at::Tensor> after_three;
    FitHooks hooks;
    hooks.after_step = [&](const StepInfo& info) {
      if (info.step == 3) after_three = copy_of_weights(super);
    };
    std::int64_t drawn = 0;
    const auto accept = [&](const Picks& picks) {
      const bool good = picks[0] == (drawn < 3 ? 0 : 1) && picks[4] == 0;
      drawn += good;
      return good;
    };
    const SuperReport report = train_super_network(super,
                                                   free_decisions(graph),
                                                   phantom.cache,
                                                   phantom.ids,
                                                   options,
                                                   {},
                                                   test::quiet_files({}),
                                                   hooks,
                                                   accept);
    EXPECT_EQ(report.fit.status, "done");
    EXPECT_EQ(report.alpha_steps, 0);
    int moved = 0, kept = 0;
    for (const auto& [name, now] : copy_of_weights(super)) {
      if (name.starts_with("join.alt1.") || name.starts_with("enc0.alt2.")) {
        EXPECT_TRUE(at::equal(now, before.at(name))) << name << " was never on the path";
        ++kept;
      }
      if (name.starts_with("enc0.alt0.")) {
        EXPECT_TRUE(at::equal(now, after_three.at(name))) << name << " was left after step 3";
        moved += !at::equal(now, before.at(name));
      }
      if (name.starts_with("stem.conv.weight")) {
        EXPECT_FALSE(at::equal(now, after_three.at(name)));
      }
    }
    EXPECT_GE(kept, 6);
    EXPECT_GE(moved, 3);
  }
}

TEST(SinglePath, StoppedAndResumedEqualsTheStraightRunAndLearns) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path());
  const Graph graph = open_network();
  TrainOptions options = small_training(40);
  options.augmentation = 0;
  options.average_decay = 0.9;
  const auto decisions = free_decisions(graph);
  GraphModule straight(graph, 1), first(graph, 1), second(graph, 99);
  const SuperReport whole = train_super_network(
      straight, decisions, phantom.cache, phantom.ids, options, {}, test::quiet_files({}));
  double early = 0, late = 0;
  for (std::size_t i = 0; i < 10; ++i) {
    early += whole.fit.losses[i];
    late += whole.fit.losses[whole.fit.losses.size() - 1 - i];
  }
  EXPECT_LT(late, early - 1.5);

  int polls = 0;
  FitHooks hooks;
  hooks.should_stop = [&] { return ++polls > 21; };
  EXPECT_EQ(train_super_network(first,
                                decisions,
                                phantom.cache,
                                phantom.ids,
                                options,
                                {},
                                test::quiet_files(folder / "run"),
                                hooks)
                .fit.status,
            "stopped");
  const SuperReport rest = train_super_network(second,
                                               decisions,
                                               phantom.cache,
                                               phantom.ids,
                                               options,
                                               {},
                                               test::quiet_files(folder / "run"));
  EXPECT_EQ(rest.fit.losses, whole.fit.losses);
  EXPECT_TRUE(same_weights(second, straight));
}

/// As a trial of a search: warm-up, stable, decay, with averaged weights.
TrainOptions super_schedule(std::int64_t steps) {
  TrainOptions options = small_training(steps);
  options.optimizer = "muon";
  options.average_decay = kAverageDecay;
  set_wsd(options);
  return options;
}

TEST(SinglePath, PausedAndContinuedItEqualsTheStraightRunBitForBit) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path());
  const Graph graph = open_network();
  const auto decisions = free_decisions(graph);
  const TrainOptions whole = super_schedule(16);
  GraphModule straight(graph, 1);
  const SuperReport expected = train_super_network(
      straight, decisions, phantom.cache, phantom.ids, whole, {}, test::quiet_files({}));
  EXPECT_NEAR(expected.fit.learning_rate, 0, 1e-12);

  std::filesystem::path last;
  GraphModule network(graph, 99);
  for (const std::int64_t step : {3, 7, 12, 16}) {
    FitFiles files = test::quiet_files(folder / std::to_string(step));
    files.continues = last.empty() ? last : last / "checkpoint.pt";
    network = GraphModule(graph, last.empty() ? 1 : 99);
    const TrainOptions part = step == 16 ? whole : paused_at(whole, step);
    const SuperReport report =
        train_super_network(network, decisions, phantom.cache, phantom.ids, part, {}, files);
    EXPECT_EQ(report.fit.steps, step);
    last = files.folder;
  }
  EXPECT_TRUE(same_weights(network, straight));
}

TEST(SuperClock, EndsBothMethodsWithTheRateAtZero) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path());
  const Graph graph = open_network();
  for (const char* method : {"single_path", "differentiable"}) {
    SuperOptions super;
    super.method = method;
    super.order = 2;
    super.merge = "exact";
    double now = 0;
    FitHooks hooks;
    hooks.seconds_left = [&] { return 1e3 - now; };
    hooks.after_step = [&](const StepInfo& info) { now = info.step >= 6 ? 1e3 - 1e-3 : 0; };
    GraphModule network(graph, 1);
    const SuperReport report = train_super_network(network,
                                                   free_decisions(graph),
                                                   phantom.cache,
                                                   phantom.ids,
                                                   paused_at(super_schedule(12), 12),
                                                   super,
                                                   test::quiet_files({}),
                                                   hooks);
    EXPECT_EQ(report.fit.status, "done") << method;
    EXPECT_LT(report.fit.steps, 12) << "the machine was slower than expected";
    EXPECT_EQ(report.fit.steps, report.fit.planned_steps);
    EXPECT_NEAR(report.fit.learning_rate, 0, 1e-12) << method;
    EXPECT_EQ(report.alpha_steps > 0, super.method == "differentiable");
  }
}

TEST(Differentiable, AlphaGradientsEqualFiniteDifferencesInBothOrders) {
  // A smooth activation: second derivatives of a leaky ReLU network are jumps between its pieces.
  const Graph graph = with_activation(open_network(), "sigmoid");
  GraphModule super(graph, 2);
  super->to(at::kDouble);
  super->set_fused(false);
  super->eval();
  const std::vector<Decision> decisions = free_decisions(graph);
  std::vector<at::Tensor> alphas;
  for (const Decision& d : decisions) {
    alphas.push_back(
        (0.3 * random_tensor({d.options()}, 40 + alphas.size(), at::kDouble)).requires_grad_(true));
  }
  const auto batch = [](std::uint64_t seed) {
    at::Generator generator = at::globalContext().defaultGenerator(at::kCPU).clone();
    generator.set_current_seed(seed);
    return Batch{random_tensor({2, 1, 8, 8, 6}, seed, at::kDouble),
                 at::randint(0, 3, {2, 8, 8, 6}, generator, at::kLong)};
  };
  const Batch training = batch(50), validation = batch(51);
  const auto loss = [&](const Batch& b) {
    return segmentation_loss(super->forward(b.image), b.target);
  };
  const auto mix = [&] {
    std::vector<at::Tensor> p;
    for (const at::Tensor& a : alphas) p.push_back(a.detach().softmax(0));
    super->mix(mixture_weights(graph, decisions, p));
  };
  constexpr double kRate = 0.5;
  std::vector<at::Tensor> first_order;
  const auto before = copy_of_weights(super);
  for (const int order : {1, 2}) {
    // L(validation) at the weights as they are, or after one step of gradient descent.
    const auto value = [&] {
      mix();
      if (order == 2) {
        std::vector<at::Tensor> weights;
        for (const at::Tensor& p : super->parameters()) weights.push_back(p);
        const auto gradients = torch::autograd::grad(
            {loss(training)}, weights, {}, std::nullopt, false, /*allow_unused=*/true);
        const at::NoGradGuard no_grad;
        for (std::size_t i = 0; i < weights.size(); ++i) {
          if (gradients[i].defined()) weights[i].sub_(gradients[i], kRate);
        }
      }
      const at::NoGradGuard no_grad;
      const double result = loss(validation).item<double>();
      for (const auto& item : super->named_parameters()) item.value().copy_(before.at(item.key()));
      return result;
    };
    const std::vector<at::Tensor> gradients = alpha_gradients(super,
                                                              decisions,
                                                              alphas,
                                                              loss,
                                                              validation,
                                                              order == 2 ? &training : nullptr,
                                                              order == 2 ? kRate : 0);
    for (const auto& item : super->named_parameters()) {
      ASSERT_TRUE(at::equal(item.value(), before.at(item.key()))) << "weights must be put back";
    }
    double largest = 0;
    for (std::size_t d = 0; d < alphas.size(); ++d) {
      for (std::int64_t i = 0; i < alphas[d].numel(); ++i) {
        const auto shifted = [&](double h) {
          {
            const at::NoGradGuard no_grad;
            alphas[d][i] += h;
          }
          const double result = value();
          const at::NoGradGuard no_grad;
          alphas[d][i] -= h;
          return result;
        };
        const double expected = (shifted(1e-4) - shifted(-1e-4)) / 2e-4;
        largest = std::max(largest, std::abs(expected));
        // Order 2 takes the mixed derivative itself by a difference.
        EXPECT_NEAR(gradients[d][i].item<double>(), expected, order == 1 ? 1e-7 : 1e-5)
            << "order " << order << ", decision " << d << ", option " << i;
      }
    }
    EXPECT_GT(largest, 1e-3) << "a check on nothing";
    if (order == 1) first_order = gradients;
    double correction = 0;
    for (std::size_t d = 0; d < alphas.size(); ++d) {
      correction = std::max(correction, largest_difference(gradients[d], first_order[d]));
    }
    if (order == 2) {
      EXPECT_GT(correction, 1e-3) << "the second order must matter here";
    }
  }
}

/// One choice between a convolution and the mean of everything, which knows nothing of the place.
Graph sighted_or_blind() {
  Graph g;
  g.name = "sighted or blind";
  const int x = g.add("input", "image", {}, {{"channels", std::int64_t{1}}});
  const auto stem = [&](const std::string& name, int from) {
    return g.add(
        "leaky_relu",
        name + ".act",
        {g.add(
            "instance_norm", name + ".norm", {g.add("conv", name + ".conv", {from}, conv3(6))})});
  };
  const int first = stem("stem", x);
  Graph blind;
  {
    const int i = blind.add("input", "x", {}, {{"channels", std::int64_t{6}}});
    const int pooled = blind.add("avg_pool",
                                 "pool",
                                 {i},
                                 {{"kernel", std::vector<std::int64_t>{16, 16, 16}},
                                  {"stride", std::vector<std::int64_t>{16, 16, 16}}});
    const int wide = blind.add("resize",
                               "up",
                               {pooled},
                               {{"scale", std::vector<double>{16, 16, 16}}, {"mode", "nearest"}});
    blind.add("output", "y", {blind.add("conv", "conv", {wide}, conv3(6))});
  }
  Graph sighted;
  {
    const int i = sighted.add("input", "x", {}, {{"channels", std::int64_t{6}}});
    sighted.add("output", "y", {sighted.add("conv", "conv", {i}, conv3(6))});
  }
  const int chosen = g.add_choice("eye", {first}, {blind, sighted});
  g.add(
      "output",
      "main",
      {g.add("conv",
             "head",
             {g.add("leaky_relu", "act", {chosen})},
             {{"out_channels", std::int64_t{3}}, {"kernel", std::vector<std::int64_t>{1, 1, 1}}})});
  return g;
}

TEST(Differentiable, FindsTheAlternativeThatSeesAndRecordsHowItCameAbout) {
  const test::TempFolder folder;
  PhantomOptions alike;  // brightness tells organs apart without looking around
  alike.cases = 6;
  alike.test_cases = 0;
  alike.size = {16, 20, 16};
  alike.seed = 3;
  alike.alike = true;
  write_phantom(folder / "data", alike);
  const test::SmallPhantom phantom(folder.path());
  const Graph graph = sighted_or_blind();
  const std::vector<Decision> decisions = free_decisions(graph);
  TrainOptions options = small_training(40);
  options.augmentation = 0;
  SuperOptions super;
  super.method = "differentiable";
  super.warmup = 0.25;
  super.alpha_learning_rate = 0.05;
  GraphModule network(graph, 4);
  const SuperReport report = train_super_network(
      network, decisions, phantom.cache, phantom.ids, options, super, test::quiet_files({}));
  EXPECT_EQ(report.alpha_steps, 30);
  EXPECT_EQ(report.alpha_skipped, 0);
  EXPECT_GT(report.probabilities[0][1], 0.6);
  EXPECT_EQ(report.history.at("decisions")[0].at("name"), "eye");
  EXPECT_EQ(report.history.at("warmup_steps"), 10);
  const Json& points = report.history.at("history");
  ASSERT_EQ(points.size(), 41u);
  EXPECT_EQ(points[0].at("entropy"), 1.0);
  EXPECT_EQ(points[10 - 1].at("probabilities")[0][0], 0.5) << "alpha rests during the warm-up";
  EXPECT_LT(points.back().at("entropy").get<double>(), 0.98);
  EXPECT_EQ(points.back().at("step"), 40);

  const CaseHalves halves = split_cases(phantom.ids, 1);
  EXPECT_EQ(halves.weights.size() + halves.alpha.size(), phantom.ids.size());
  for (const std::string& id : halves.alpha) {
    EXPECT_EQ(std::count(halves.weights.begin(), halves.weights.end(), id), 0);
  }
  EXPECT_THROW(split_cases({"one"}, 1), Error);
}

TEST(Differentiable, StoppedAndResumedEqualsTheStraightRunBitForBit) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path());
  const Graph graph = open_network();
  const std::vector<Decision> decisions = free_decisions(graph);
  for (const int order : {1, 2}) {
    TrainOptions options = small_training(order == 1 ? 10 : 7);
    options.precision = order == 1 ? "auto" : "fp32";
    SuperOptions super;
    super.method = "differentiable";
    super.order = order;
    super.warmup = 0.25;
    super.merge = order == 1 ? "mixed" : "exact";
    GraphModule straight(graph, 1), first(graph, 1), second(graph, 99);
    const SuperReport whole = train_super_network(
        straight, decisions, phantom.cache, phantom.ids, options, super, test::quiet_files({}));
    EXPECT_EQ(whole.fit.status, "done");
    EXPECT_NE(whole.probabilities[0][0], whole.probabilities[0][1]);
    const std::filesystem::path run = folder / ("order" + std::to_string(order));
    int polls = 0;
    FitHooks hooks;
    hooks.should_stop = [&] { return ++polls > 5; };
    train_super_network(first,
                        decisions,
                        phantom.cache,
                        phantom.ids,
                        options,
                        super,
                        test::quiet_files(run),
                        hooks);
    const SuperReport rest = train_super_network(
        second, decisions, phantom.cache, phantom.ids, options, super, test::quiet_files(run));
    EXPECT_EQ(rest.fit.losses, whole.fit.losses);
    EXPECT_EQ(rest.probabilities, whole.probabilities);
    EXPECT_EQ(rest.history, whole.history);
    EXPECT_EQ(rest.alpha_steps, whole.alpha_steps);
    EXPECT_TRUE(same_weights(second, straight));
  }
}

/// Order 1, alpha and weights in turn, a checkpoint after every step.
SuperReport train_for_the_kill(GraphModule& network,
                               const test::SmallPhantom& phantom,
                               const std::filesystem::path& run) {
  SuperOptions super;
  super.method = "differentiable";
  super.warmup = 0.2;
  FitFiles files = test::quiet_files(run);
  files.checkpoint_seconds = 0;
  return train_super_network(network,
                             free_decisions(network->graph()),
                             phantom.cache,
                             phantom.ids,
                             small_training(14),
                             super,
                             files);
}

/// Not a test of its own: the process that the next test kills.
TEST(SuperKill, Child) {
  const char* folder = test::child_folder();
  if (folder == nullptr) GTEST_SKIP() << "runs in a process of its own";
  const test::SmallPhantom phantom(folder);
  GraphModule network(open_network(), 1);
  const std::filesystem::path place(folder);
  const SuperReport report = train_for_the_kill(network, phantom, place / "run");
  write_json(place / "history.json", report.history);
  save_weights((place / "done.safetensors").string(), *network);
}

TEST(SuperKill, KilledInsideTheSuperNetworkAndResumedEqualsTheStraightRunBitForBit) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path());
  GraphModule straight(open_network(), 1);
  const SuperReport whole = train_for_the_kill(straight, phantom, {});

  const std::filesystem::path done = folder / "done.safetensors";
  EXPECT_GE(test::run_killed_child("SuperKill.Child", folder.path()), 1);
  ASSERT_TRUE(std::filesystem::exists(done));
  EXPECT_EQ(read_json(folder / "history.json"), whole.history);
  GraphModule resumed(open_network(), 2);
  load_weights(done.string(), *resumed);
  EXPECT_TRUE(same_weights(resumed, straight));
}

TEST(Differentiable, OptionsRoundTripAndBadOnesAreNamed) {
  SuperOptions options;
  options.method = "differentiable";
  options.order = 2;
  options.warmup = 0.5;
  options.merge = "mixed";
  options.max_parameters = 1000;
  EXPECT_EQ(super_options_from_json(to_json(options), "test"), options);
  EXPECT_EQ(super_options_from_json(Json::object(), "test"), SuperOptions{});
  for (const char* bad : {R"({"method": "other"})",
                          R"({"order": 3})",
                          R"({"warmup": 1})",
                          R"({"warmup": -0.1})",
                          R"({"merge": "all"})",
                          R"({"merge": "mixed"})",
                          R"({"surprise": 1})"}) {
    EXPECT_THROW(super_options_from_json(Json::parse(bad), "test"), Error) << bad;
  }
  EXPECT_DOUBLE_EQ(alpha_learning_rate_for(100), 0.03);
  EXPECT_DOUBLE_EQ(alpha_learning_rate_for(10), 0.05);
  EXPECT_DOUBLE_EQ(alpha_learning_rate_for(1000000), 3e-4);
}

// ---------------------------------------------------------------- scores

TEST(InheritedScores, SharedPrefixesGiveTheNaiveScoresExactlyAndCostLess) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path());
  for (const std::string norm : {"instance_norm", "batch_norm"}) {
    const Graph graph = open_network(norm);
    GraphModule super(graph, 6);
    train_super_network(super,
                        free_decisions(graph),
                        phantom.cache,
                        phantom.ids,
                        small_training(12),
                        {},
                        test::quiet_files({}));
    std::vector<Picks> paths = all_picks(graph);
    Rng rng("score order");
    rng.shuffle(paths);
    paths.resize(30);
    paths.push_back(paths[3]);  // the same network twice
    const Batch windows =
        make_windows(phantom.cases, {.count = 4, .patch = {16, 16, 16}, .seed = 2});
    EXPECT_TRUE(at::equal(
        windows.image,
        make_windows(phantom.cases, {.count = 4, .patch = {16, 16, 16}, .seed = 2}).image));
    ScoringOptions options;
    options.device = "cpu";
    options.threads = 2;
    if (norm == "batch_norm") {
      EXPECT_THROW(score_paths(super, paths, windows, options), Error) << "needs statistics";
      for (int step = 0; step < 2; ++step)
        options.statistics.push_back(make_batch(phantom.cases, small_training(1), step));
    }
    const ScoringReport shared = score_paths(super, paths, windows, options);
    options.share_prefixes = false;
    const ScoringReport naive = score_paths(super, paths, windows, options);
    options.share_prefixes = true;
    options.keep_bytes = 1 << 16;
    const ScoringReport tight = score_paths(super, paths, windows, options);
    ASSERT_EQ(shared.scores.size(), paths.size());
    std::set<double> different;
    for (std::size_t i = 0; i < paths.size(); ++i) {
      EXPECT_EQ(shared.scores[i].score, naive.scores[i].score);
      EXPECT_EQ(shared.scores[i].dice, naive.scores[i].dice);
      EXPECT_EQ(tight.scores[i].dice, naive.scores[i].dice);
      different.insert(naive.scores[i].score);
    }
    EXPECT_GT(different.size(), 15u) << "a check on nothing";
    EXPECT_EQ(shared.scores[3].dice, shared.scores.back().dice);
    EXPECT_EQ(naive.saving(), 1);
    EXPECT_EQ(naive.steps, shared.naive_steps);
    EXPECT_GT(shared.saving(), 1.5);
    EXPECT_LT(tight.saving(), shared.saving());
    EXPECT_LE(tight.kept_bytes, options.keep_bytes);
    EXPECT_GT(shared.kept_bytes, options.keep_bytes);
    RecordProperty(norm + " multiply-adds naive / shared", std::to_string(shared.saving()));
    std::printf("[ %s ] %zu paths: multiply-adds naive / shared %.2f, seconds %.2f / %.2f\n",
                norm.c_str(),
                paths.size(),
                shared.saving(),
                naive.seconds,
                shared.seconds);
  }
}

TEST(InheritedScores, DiceIsThatOfTheClosedNetworkAndStatisticsAreTheBatchesOwn) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path());
  const Graph graph = open_network("batch_norm");
  GraphModule super(graph, 6);
  EXPECT_EQ(scoring_windows({40, 56, 40}, 1).count, 16);
  EXPECT_EQ(scoring_windows({128, 128, 128}, 1).count, 8);
  EXPECT_EQ(scoring_windows({320, 320, 320}, 1).count, 4);
  const Batch windows = make_windows(phantom.cases, {.count = 3, .patch = {16, 16, 16}, .seed = 5});
  const Batch statistics = make_batch(phantom.cases, small_training(1), 7);
  const Picks picks{1, 2, 1, 0, 1};
  ScoringOptions options;
  options.device = "cpu";
  options.precision = "fp32";
  options.statistics = {statistics};
  const auto buffers = super->named_buffers();
  std::vector<at::Tensor> before;
  for (const auto& item : buffers) before.push_back(item.value().clone());
  const PathScore score = score_paths(super, {{0, 0, 0, 0, 0}, picks}, windows, options).scores[1];
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_TRUE(at::equal(before[i], buffers[i].value())) << "scoring leaves the statistics alone";
  }

  // The same by hand: closed module, one batch with momentum 1, Dice over all windows.
  GraphModule closed(close_choices(graph, picks), 6);
  const at::NoGradGuard no_grad;
  closed->eval();
  closed->set_norm_momentum(1);
  closed->forward(statistics.image);
  closed->set_norm_momentum(std::nullopt);
  std::vector<at::Tensor> winners;
  for (std::int64_t w = 0; w < windows.image.size(0); ++w) {
    winners.push_back(closed->forward(windows.image.narrow(0, w, 1))[0].argmax(1));
  }
  const at::Tensor predicted = at::cat(winners);
  double sum = 0;
  for (int k = 1; k < 3; ++k) {
    const at::Tensor p = predicted.eq(k), t = windows.target.eq(k);
    const double dice = 2 * p.logical_and(t).sum().item<double>() /
                        (p.sum().item<double>() + t.sum().item<double>());
    EXPECT_DOUBLE_EQ(score.dice[static_cast<std::size_t>(k - 1)], dice);
    sum += dice;
  }
  EXPECT_DOUBLE_EQ(score.score, sum / 2);
}

}  // namespace
}  // namespace nas
