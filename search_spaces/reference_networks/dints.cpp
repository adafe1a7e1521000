// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <string>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "search_spaces/reference_networks/layers.h"
#include "search_spaces/reference_networks/networks.h"

namespace nas {
namespace {

constexpr std::size_t kDepths = 4;
constexpr std::size_t kPaths = 10;
constexpr std::array<std::size_t, kPaths> kFrom{0, 1, 0, 1, 2, 1, 2, 3, 2, 3};
constexpr std::array<std::size_t, kPaths> kTo{0, 0, 1, 1, 1, 2, 2, 2, 3, 3};
constexpr int kOperations = 5;
constexpr std::size_t kMaxBlocks = 64;

std::vector<std::vector<int>> digits(std::initializer_list<const char*> rows) {
  std::vector<std::vector<int>> result;
  for (const char* row : rows) {
    result.emplace_back();
    for (const char* c = row; *c != '\0'; ++c) result.back().push_back(*c - '0');
  }
  return result;
}

std::vector<std::vector<int>> matrix(const JsonReader& rows, std::size_t columns, int values) {
  std::vector<std::vector<int>> result;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const JsonReader row = rows.at(r);
    std::vector<int> line;
    for (const double value : row.numbers()) {  // array files may hold 1.0
      const int code = value >= 0 && value < values ? static_cast<int>(value) : -1;
      NAS_CHECK(code == value,
                row.where(),
                ": expected whole numbers from 0 to ",
                values - 1,
                ", found ",
                value);
      line.push_back(code);
    }
    NAS_CHECK(line.size() == columns,
              row.where(),
              ": expected ",
              columns,
              " numbers, found ",
              line.size());
    result.push_back(std::move(line));
  }
  return result;
}

std::int64_t width(std::size_t depth) { return std::int64_t{64} << depth; }

/// Where a path is active, its source must be reached, and the node it ends in must be active.
void check(const DintsCode& code) {
  const std::size_t blocks = code.paths.size();
  NAS_CHECK(blocks >= 1 && blocks <= kMaxBlocks,
            "DiNTS: expected 1 to ",
            kMaxBlocks,
            " blocks, found ",
            blocks);
  NAS_CHECK(code.operations.size() == blocks && code.nodes.size() == blocks + 1,
            "DiNTS: arch_code_a has ",
            blocks,
            " rows; expected as many in arch_code_c and one more in node_a, found ",
            code.operations.size(),
            " and ",
            code.nodes.size());
  for (std::size_t b = 0; b < blocks; ++b) {
    NAS_CHECK(code.paths[b].size() == kPaths && code.operations[b].size() == kPaths &&
                  code.nodes[b].size() == kDepths && code.nodes[b + 1].size() == kDepths,
              "DiNTS: block ",
              b,
              ": expected ",
              kPaths,
              " paths, ",
              kPaths,
              " operations and ",
              kDepths,
              " nodes");
    std::array<int, kDepths> reached{};
    for (std::size_t p = 0; p < kPaths; ++p) {
      if (code.paths[b][p] == 0) continue;
      NAS_CHECK(code.nodes[b][kFrom[p]] != 0,
                "DiNTS: block ",
                b,
                ": path ",
                p,
                " starts at depth ",
                kFrom[p],
                ", which is not active there (node_a)");
      reached[kTo[p]] = 1;
    }
    for (std::size_t d = 0; d < kDepths; ++d) {
      NAS_CHECK(reached[d] == (code.nodes[b + 1][d] != 0 ? 1 : 0),
                "DiNTS: node_a row ",
                b + 1,
                ", depth ",
                d,
                ": expected ",
                reached[d],
                " by the active paths of block ",
                b,
                ", found ",
                code.nodes[b + 1][d]);
    }
  }
  NAS_CHECK(std::ranges::find(code.nodes.back(), 1) != code.nodes.back().end(),
            "DiNTS: no path is active in the last block");
}

class Dints {
 public:
  explicit Dints(const NetworkIo& io) : net_("dints", io.in_channels), classes_(io.classes) {}

  Graph build(const DintsCode& code) {
    const std::size_t blocks = code.paths.size();
    const std::vector<std::array<bool, kDepths>> wanted = needed(code);
    std::array<int, kDepths> nodes{-1, -1, -1, -1};
    for (std::size_t d = 0; d < kDepths; ++d) {
      // Built like all others where node_a leaves the depth out: MONAI does, and counts it.
      const int node = stem(d);
      if (wanted[0][d]) nodes[d] = node;
    }
    for (std::size_t b = 0; b < blocks; ++b) {
      std::array<std::vector<int>, kDepths> arriving;
      for (std::size_t p = 0; p < kPaths; ++p) {
        if (code.paths[b][p] == 0 || !wanted[b + 1][kTo[p]]) continue;
        arriving[kTo[p]].push_back(cell("cell." + std::to_string(b) + "." + std::to_string(p),
                                        nodes[kFrom[p]],
                                        kFrom[p],
                                        kTo[p],
                                        code.operations[b][p]));
      }
      for (std::size_t d = 0; d < kDepths; ++d) {
        nodes[d] = sum("node." + std::to_string(b + 1) + "." + std::to_string(d), arriving[d]);
      }
    }
    // Upwards: what comes from below is added to the node of the next finer depth.
    int x = -1;
    for (std::size_t d = kDepths; d-- > 0;) {
      std::vector<int> parts;
      for (const int part : {nodes[d], x}) {
        if (part >= 0) parts.push_back(part);
      }
      const std::string name = "up." + std::to_string(d);
      if (parts.empty()) continue;
      x = net_.apply("relu", name + ".act", {sum(name + ".add", parts)});
      x = net_.conv(name + ".conv", x, width(d) / 2, cube(3));
      x = net_.apply("instance_norm", name + ".norm", {x});
      x = net_.resize(name + ".resize", x, {2, 2, 2});
    }
    x = act_conv_norm("head", x, cube(3));
    return net_.finish({net_.conv("head.classes", x, classes_, cube(1), cube(1), true)});
  }

 private:
  /// Which nodes reach the output; row b + 1 belongs to the result of block b.
  static std::vector<std::array<bool, kDepths>> needed(const DintsCode& code) {
    std::vector<std::array<bool, kDepths>> wanted(code.paths.size() + 1);
    for (std::size_t d = 0; d < kDepths; ++d) wanted.back()[d] = code.nodes.back()[d] != 0;
    for (std::size_t b = code.paths.size(); b-- > 0;) {
      for (std::size_t p = 0; p < kPaths; ++p) {
        if (code.paths[b][p] != 0 && wanted[b + 1][kTo[p]]) wanted[b][kFrom[p]] = true;
      }
    }
    return wanted;
  }

  int sum(const std::string& name, const std::vector<int>& parts) {
    if (parts.empty()) return -1;
    return parts.size() == 1 ? parts[0] : net_.apply("add", name, parts);
  }

  int act_conv_norm(const std::string& name, int x, const Extent3& kernel) {
    const std::int64_t channels = net_.channels(x);
    x = net_.apply("relu", name + ".act", {x});
    x = net_.conv(name + ".conv", x, channels, kernel);
    return net_.apply("instance_norm", name + ".norm", {x});
  }

  int stem(std::size_t depth) {
    const std::string name = "stem." + std::to_string(depth);
    int x = net_.image();
    if (depth > 0) {
      const double factor = 1.0 / static_cast<double>(std::int64_t{1} << depth);
      x = net_.resize(name + ".resize", x, {factor, factor, factor});
    }
    x = net_.conv_norm_act(name + ".0", x, width(depth) / 2, cube(3), "instance_norm", "relu");
    x = net_.conv(name + ".1.conv", x, width(depth), cube(3), cube(2));
    return net_.apply("instance_norm", name + ".1.norm", {x});
  }

  /// Half of the channels see the even voxels, half the odd ones.
  int reduce(const std::string& name, int x, std::int64_t out) {
    x = net_.apply("relu", name + ".act", {x});
    const int even = net_.conv(name + ".even", x, out / 2, cube(1), cube(2));
    const int shifted = net_.apply("crop", name + ".shift", {x}, {{"begin", 1}});
    const int odd = net_.conv(name + ".odd", shifted, out / 2, cube(1), cube(2));
    x = net_.apply("concat", name + ".concat", {even, odd});
    return net_.apply("instance_norm", name + ".norm", {x});
  }

  int enlarge(const std::string& name, int x, std::int64_t out) {
    x = net_.resize(name + ".resize", x, {2, 2, 2});
    x = net_.apply("relu", name + ".act", {x});
    x = net_.conv(name + ".conv", x, out, cube(1));
    return net_.apply("instance_norm", name + ".norm", {x});
  }

  int cell(const std::string& name, int x, std::size_t from, std::size_t to, int operation) {
    if (to > from) x = reduce(name + ".down", x, width(to));
    if (to < from) x = enlarge(name + ".up", x, width(to));
    if (operation == 0) return x;
    if (operation == 1) return act_conv_norm(name, x, cube(3));
    constexpr std::array<Extent3, 3> kPlanes{Extent3{1, 3, 3}, {3, 1, 3}, {3, 3, 1}};
    constexpr std::array<Extent3, 3> kLines{Extent3{3, 1, 1}, {1, 3, 1}, {1, 1, 3}};
    const auto mode = static_cast<std::size_t>(operation - 2);
    const std::int64_t channels = net_.channels(x);
    x = net_.apply("relu", name + ".act", {x});
    x = net_.conv(name + ".plane", x, channels, kPlanes[mode]);
    x = net_.conv(name + ".line", x, channels, kLines[mode]);
    return net_.apply("instance_norm", name + ".norm", {x});
  }

  Layers net_;
  std::int64_t classes_;
};

}  // namespace

DintsCode published_dints_code() {
  DintsCode code;
  code.paths = digits({"1011111010",
                       "1111011011",
                       "1111111011",
                       "1011111110",
                       "1111011111",
                       "1011111111",
                       "1111010111",
                       "1111110011",
                       "1111011111",
                       "1111011111",
                       "1110011111",
                       "1100000111"});
  code.operations = digits({"1313212011",
                            "1031021243",
                            "3002101210",
                            "4221211013",
                            "1140041111",
                            "2000444111",
                            "4300240103",
                            "1100340413",
                            "1002000011",
                            "1423443031",
                            "2023020032",
                            "4400143021"});
  code.nodes.assign(code.paths.size() + 1, {1, 1, 1, 1});
  code.nodes.front() = {1, 1, 1, 0};
  code.nodes.back() = {1, 0, 1, 1};
  return code;
}

DintsCode dints_code_from_json(const Json& value, const std::string& where) {
  const JsonReader reader(value, where);
  reader.check_keys({"arch_code_a", "arch_code_c", "node_a"});
  return {matrix(reader.at("arch_code_a"), kPaths, 2),
          matrix(reader.at("arch_code_c"), kPaths, kOperations),
          matrix(reader.at("node_a"), kDepths, 2)};
}

Graph make_dints(const NetworkIo& io, const DintsCode& code) {
  check(code);
  for (const std::vector<int>& row : code.operations) {
    for (const int operation : row) {
      NAS_CHECK(operation >= 0 && operation < kOperations,
                "DiNTS: expected operations from 0 to ",
                kOperations - 1,
                ", found ",
                operation);
    }
  }
  return Dints(io).build(code);
}

}  // namespace nas
