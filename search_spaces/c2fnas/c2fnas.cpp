// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/c2fnas/c2fnas.h"

#include <algorithm>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/core/text.h"
#include "search_spaces/alternatives.h"

namespace nas {
namespace {

constexpr int kCells = 12;

/// The level after each move that leaves a level, for the three kinds of candidates.
const std::vector<std::vector<int>> kWalks = {
    {0, 1, 2, 3, 2, 1, 0}, {0, 1, 2, 1, 0}, {0, 1, 2, 1, 0, 1, 2, 1, 0}};

struct CellOperation {
  std::string name;
  std::int64_t edge;  // of the kernel
  bool pseudo, flat;  // P3D; 2D
  std::int64_t dilation;
};

struct OperationSet {
  std::string name;
  std::vector<CellOperation> operations;
};

const std::vector<OperationSet> kSets = {
    {"paper", {{"3d", 3, false, false, 1}, {"p3d", 3, true, false, 1}, {"2d", 3, false, true, 1}}},
    {"slides",
     {{"3d", 3, false, false, 1},
      {"5x5x5", 5, false, false, 1},
      {"p3d", 3, true, false, 1},
      {"p3d5", 5, true, false, 1},
      {"3d_dilated", 3, false, false, 2},
      {"5x5x5_dilated", 5, false, false, 2}}}};

const OperationSet& set_of(const std::string& name) {
  const auto found = std::ranges::find(kSets, name, &OperationSet::name);
  if (found != kSets.end()) return *found;
  fail(ErrorKind::Usage,
       "operations: expected \"paper\" or \"slides\", found \"",
       name.substr(0, 64),
       "\"",
       did_you_mean(name, cell_operation_sets(), "\""));
}

ConvChain chain_of(const CellOperation& op, std::size_t axis) {
  const Extent3 cube{op.edge, op.edge, op.edge};
  ConvChain chain;
  chain.dilation = op.dilation;
  if (op.pseudo) {
    chain.kernels = {in_plane(cube, axis), through_plane(cube, axis)};
  } else {
    chain.kernels = {op.flat ? in_plane(cube, axis) : cube};
  }
  return chain;
}

/// A result and the level it is on.
struct Place {
  int node = -1;
  int level = 0;
};

class Builder {
 public:
  explicit Builder(const C2fnasNetwork& network)
      : n_(network), set_(set_of(network.set)), places_(cell_places(network.cells)) {
    graph_.name = n_.name;
  }

  Graph build() {
    const Place stem = write_stem();
    for (std::size_t p = 0; p < places_.size(); ++p) {
      std::vector<Place> inputs{p == 0 ? stem : cells_[p - 1]};
      if (p == 1) inputs.push_back(stem);
      if (const int skip = skip_of(p); skip >= 0)
        inputs.push_back(cells_[static_cast<std::size_t>(skip)]);
      cells_.push_back(write_cell(places_[p], inputs));
    }
    write_head();
    return std::move(graph_);
  }

 private:
  std::int64_t channels(int level) const { return (n_.base_filters * 2) << level; }
  int level(std::size_t place) const {
    return n_.levels[static_cast<std::size_t>(places_[place].cell)];
  }

  /// The cell that place p takes besides the one before it, or -1.
  int skip_of(std::size_t p) const {
    if (p == 0) return -1;
    const bool up = level(p) < level(p - 1);
    for (std::size_t q = p; q-- > 0;) {
      if (up && level(q) == level(p)) return static_cast<int>(q);
      // At the end: whoever came up to this level, unless that is the cell before it.
      if (!up && p + 1 == places_.size() && q > 0 && level(q) < level(q - 1))
        return q + 1 < p ? static_cast<int>(q) : -1;
    }
    return -1;
  }

  int add(const char* op, const std::string& name, int input) {
    return graph_.add(op, name, {input});
  }
  int conv(const std::string& name,
           int input,
           std::int64_t out,
           std::int64_t edge,
           const Extent3& stride = {1, 1, 1},
           bool bias = false) {
    return graph_.add(
        "conv",
        name,
        {input},
        {{"out_channels", out}, {"kernel", edge}, {"stride", axes(stride)}, {"bias", bias}});
  }
  int enlarge(const std::string& name, int input, const Extent3& factor) {
    if (factor == Extent3{1, 1, 1}) return input;
    std::vector<double> scale(factor.begin(), factor.end());
    return graph_.add("resize", name, {input}, {{"scale", std::move(scale)}});
  }

  Place write_stem() {
    int x = graph_.add("input", "image", {}, {{"channels", n_.in_channels}});
    x = conv("stem.conv1", x, n_.base_filters, 3);
    x = add("relu", "stem.act1", add("instance_norm", "stem.norm1", x));
    x = conv("stem.conv2", x, channels(0), 3, n_.stem_stride);
    x = add("relu", "stem.act2", add("instance_norm", "stem.norm2", x));
    x = conv("stem.conv3", x, channels(0), 3);
    return {add("instance_norm", "stem.norm3", x), 0};
  }

  /// `from` on `to`'s level, as nodes "<name>.*".
  int matched(const std::string& name, const Place& from, int to) {
    if (from.level == to) return from.node;
    Extent3 factor{1, 1, 1};
    for (int l = std::min(from.level, to); l < std::max(from.level, to); ++l) {
      for (std::size_t a = 0; a < 3; ++a) factor[a] *= n_.strides[static_cast<std::size_t>(l)][a];
    }
    int x = add("relu", name + ".act", from.node);
    const bool down = from.level < to;
    x = down ? conv(name + ".conv", x, channels(to), 3, factor)
             : conv(name + ".conv", x, channels(to), 1);
    x = add("instance_norm", name + ".norm", x);
    return down ? x : enlarge(name + ".up", x, factor);
  }

  Place write_cell(const CellPlace& place, const std::vector<Place>& from) {
    const auto index = static_cast<std::size_t>(place.cell);
    const int to = n_.levels[index];
    const std::string name =
        (place.repeated ? "repeats." : "cells.") + std::to_string(place.cell + 1);
    std::vector<int> inputs;
    for (const Place& each : from)
      inputs.push_back(matched(name + (inputs.empty() ? ".match" : ".skip"), each, to));
    const int sum = add_alternatives(graph_,
                                     name + ".op",
                                     inputs,
                                     static_cast<int>(set_.operations.size()),
                                     n_.operations[index],
                                     [&](int k) { return alternative(k, inputs.size(), to); });
    const int mixed = conv(name + ".mix", sum, channels(to), 1);
    return {add("instance_norm", name + ".norm", mixed), to};
  }

  /// The operation on each of one or two inputs ("x", "y"), summed.
  Graph alternative(int k, std::size_t inputs, int to) const {
    const CellOperation& op = set_.operations[static_cast<std::size_t>(k)];
    const ConvChain chain = chain_of(op, n_.through_plane);
    Graph graph;
    graph.name = op.name;
    std::vector<int> given, results;
    for (std::size_t i = 0; i < inputs; ++i)
      given.push_back(graph.add("input", i ? "y" : "x", {}, {{"channels", channels(to)}}));
    for (std::size_t i = 0; i < inputs; ++i) {
      const std::string name = i ? "y." : "x.";
      int x = graph.add("relu", name + "act", {given[i]});
      x = add_conv_chain(graph, name, x, channels(to), chain);
      results.push_back(graph.add("instance_norm", name + "norm", {x}));
    }
    if (inputs > 1) results = {graph.add("add", "sum", results)};
    graph.add("output", "out", results);
    return graph;
  }

  void write_head() {
    const std::size_t count = cells_.size();
    const int before = matched("head.match", cells_[count - 2], 0);
    int x = graph_.add("concat", "head.concat", {before, cells_[count - 1].node});
    x = add("relu", "head.act1", x);
    x = conv("head.conv", x, channels(0), 3);
    x = add("relu", "head.act2", add("instance_norm", "head.norm", x));
    x = conv("head.classes", x, n_.classes, 1, {1, 1, 1}, true);
    std::vector<int> outputs{enlarge("head.up", x, n_.stem_stride)};
    if (n_.deep_supervision) {
      for (const int wanted : {1, 2}) {
        const auto last = std::find_if(cells_.rbegin(), cells_.rend(), [&](const Place& cell) {
          return cell.level == wanted;
        });
        const std::string name = "aux." + std::to_string(wanted);
        x = add("relu", name + ".act", last->node);
        outputs.push_back(conv(name + ".classes", x, n_.classes, 1, {1, 1, 1}, true));
      }
    }
    for (std::size_t i = 0; i < outputs.size(); ++i)
      graph_.add("output", "seg" + std::to_string(i), {outputs[i]});
  }

  const C2fnasNetwork& n_;
  const OperationSet& set_;
  const std::vector<CellPlace> places_;
  Graph graph_;
  std::vector<Place> cells_;  // results, in order
};

}  // namespace

const std::vector<CellLevels>& macro_candidates() {
  static const std::vector<CellLevels> all = [] {
    std::vector<CellLevels> found;
    for (const std::vector<int>& walk : kWalks) {
      // Which of the eleven moves between cells change the level.
      std::vector<char> moves(kCells - 1, 0);
      std::fill_n(moves.begin(), walk.size() - 1, 1);
      do {
        CellLevels levels{};
        std::size_t at = 0;
        for (std::size_t c = 1; c < levels.size(); ++c) {
          at += moves[c - 1] ? 1 : 0;
          levels[c] = walk[at];
        }
        found.push_back(levels);
      } while (std::ranges::prev_permutation(moves).found);
    }
    return found;
  }();
  return all;
}

bool is_macro_candidate(std::span<const int, 12> levels) {
  for (const std::vector<int>& walk : kWalks) {
    std::size_t at = 0;
    bool fits = levels[0] == walk[0];
    for (std::size_t c = 1; c < levels.size() && fits; ++c) {
      if (levels[c] == levels[c - 1]) continue;
      ++at;
      fits = at < walk.size() && levels[c] == walk[at];
    }
    if (fits && at + 1 == walk.size()) return true;
  }
  return false;
}

const std::vector<std::string>& cell_operations(const std::string& set) {
  static const std::vector<std::vector<std::string>> names = [] {
    std::vector<std::vector<std::string>> all;
    for (const OperationSet& each : kSets) {
      all.emplace_back();
      for (const CellOperation& op : each.operations) all.back().push_back(op.name);
    }
    return all;
  }();
  return names[static_cast<std::size_t>(&set_of(set) - kSets.data())];
}

std::vector<std::string> cell_operation_sets() {
  std::vector<std::string> names;
  for (const OperationSet& set : kSets) names.push_back(set.name);
  return names;
}

std::vector<CellPlace> cell_places(std::int64_t cells) {
  NAS_CHECK(cells >= kCells && cells <= 2 * kCells, "C2FNAS: expected 12 to 24 cells, got ", cells);
  std::vector<CellPlace> places;
  for (std::int64_t i = 0; i < cells; ++i) {
    const int cell = static_cast<int>(i * kCells / cells);
    places.push_back({cell, !places.empty() && places.back().cell == cell});
  }
  return places;
}

Graph make_c2fnas(const C2fnasNetwork& network) {
  NAS_CHECK(is_macro_candidate(network.levels),
            "C2FNAS: the levels of the cells are not one of the 957 macro candidates");
  NAS_CHECK(network.base_filters >= 1 && network.base_filters <= 1024,
            "C2FNAS: expected 1 to 1024 base filters, got ",
            network.base_filters);
  return Builder(network).build();
}

C2fnasNetwork c2fnas_panc(std::int64_t in_channels, std::int64_t classes) {
  C2fnasNetwork network;
  network.in_channels = in_channels;
  network.classes = classes;
  network.levels = {0, 0, 1, 1, 2, 3, 2, 2, 1, 0, 0, 0};
  // 2D P3D 3D 3D 3D 2D | 3D 3D P3D 3D 2D 3D
  network.operations = {2, 1, 0, 0, 0, 2, 0, 0, 1, 0, 2, 0};
  network.name = "c2fnas-panc";
  return network;
}

}  // namespace nas
