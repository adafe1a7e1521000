// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/vnas/vnas.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <numeric>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/core/text.h"
#include "search_spaces/alternatives.h"

namespace nas {
namespace {

constexpr int kAlternatives = 3;
constexpr std::size_t kGroups[] = {3, 4, 6, 3};
constexpr std::int64_t kStemWidth = 24;
constexpr std::int64_t kWidths[] = {40, 60, 80, 160};
constexpr Extent3 kCube{3, 3, 3};
constexpr Extent3 kPoint{1, 1, 1};

struct NamedCode {
  const char* name;
  const char* code;
};
constexpr NamedCode kNamed[] = {{"2d", "000 0000 000000 000 | 00000"},
                                {"3d", "111 1111 111111 111 | 11111"},
                                {"mix", "000 0000 000000 000 | 22222"},
                                {"msd-pancreas", "022 2000 221211 011 | 10201"}};

class Builder {
 public:
  explicit Builder(const VnasNetwork& network) : n_(network) { graph_.name = n_.name; }

  Graph build() {
    int x = write_stem();
    std::vector<int> skips{stem_half_, x};
    std::size_t cell = 0;
    for (std::size_t g = 0; g < std::size(kGroups); ++g) {
      if (g > 0) x = down(g, x);
      for (std::size_t i = 0; i < kGroups[g]; ++i, ++cell) x = encoder_cell(cell, x, width(g));
      skips.push_back(x);
    }
    // Decoder blocks with the width, the skip and the stride that each undoes.
    const Extent3 none = kPoint;
    x = decoder_block(0, x, width(3), width(2), skips[4], n_.strides[4]);
    x = decoder_block(1, x, width(2), width(1), skips[3], n_.strides[3]);
    x = decoder_block(2, x, width(1), width(0), skips[2], n_.strides[2]);
    x = decoder_block(3, x, width(0), width(0), skips[1], none);
    x = decoder_block(4, x, width(0), width(0), skips[0], n_.strides[1]);
    write_head(x);
    return std::move(graph_);
  }

 private:
  std::int64_t scaled(std::int64_t channels) const {
    const double wanted = n_.width * static_cast<double>(channels) / 4;
    return 4 * std::max<std::int64_t>(1, std::llround(wanted));
  }
  std::int64_t width(std::size_t group) const { return scaled(kWidths[group]); }

  static int norm_in(Graph& graph, const VnasNetwork& n, const std::string& name, int input) {
    return graph.add(n.batch_norm ? "batch_norm" : "instance_norm", name, {input});
  }
  int norm(const std::string& name, int input) { return norm_in(graph_, n_, name, input); }
  int relu(const std::string& name, int input) { return graph_.add("relu", name, {input}); }
  int conv(const std::string& name,
           int input,
           std::int64_t out,
           const Extent3& kernel = kPoint,
           const Extent3& stride = kPoint,
           bool bias = false) {
    return graph_.add("conv",
                      name,
                      {input},
                      {{"out_channels", out},
                       {"kernel", axes(kernel)},
                       {"stride", axes(stride)},
                       {"bias", bias}});
  }
  int pool(const char* op, const std::string& name, int input, const Extent3& by) {
    return by == kPoint ? input : graph_.add(op, name, {input}, {{"kernel", axes(by)}});
  }
  int enlarge(const std::string& name, int input, const Extent3& by) {
    if (by == kPoint) return input;
    return graph_.add(
        "resize", name, {input}, {{"scale", std::vector<double>(by.begin(), by.end())}});
  }

  int write_stem() {
    const std::size_t axis = n_.through_plane;
    int x = graph_.add("input", "image", {}, {{"channels", n_.in_channels}});
    x = conv("stem.conv1",
             x,
             scaled(kStemWidth),
             in_plane({7, 7, 7}, axis),
             in_plane(n_.strides[0], axis));
    x = relu("stem.act1", norm("stem.norm1", x));
    x = pool("max_pool", "stem.pool1", x, through_plane(n_.strides[0], axis));
    x = conv("stem.conv2", x, width(0), through_plane(kCube, axis));
    stem_half_ = relu("stem.act2", norm("stem.norm2", x));
    return pool("max_pool", "stem.pool2", stem_half_, n_.strides[1]);
  }

  int down(std::size_t group, int x) {
    const std::string name = "down." + std::to_string(group + 1);
    const Extent3& stride = n_.strides[group + 1];
    x = conv(name + ".conv1", x, width(group - 1), kPoint, in_plane(stride, n_.through_plane));
    x = pool("max_pool", name + ".pool", x, through_plane(stride, n_.through_plane));
    x = conv(name + ".conv2", x, width(group));
    return norm(name + ".norm", x);
  }

  Extent3 first_kernel(int k) const { return k == 1 ? kCube : in_plane(kCube, n_.through_plane); }
  Extent3 second_kernel(int k) const {
    return k == 2 ? through_plane(kCube, n_.through_plane) : kPoint;
  }

  /// An alternative of two convolutions in a row, with norm and ReLU unless these come after.
  Graph two_convs(
      int k, std::int64_t in, std::int64_t out, const Extent3& first, const Extent3& second) const {
    Graph graph;
    graph.name = vnas_operation(k);
    int x = graph.add("input", "x", {}, {{"channels", in}});
    x = add_conv_chain(graph, "", x, out, {.kernels = {first, second}});
    if (!n_.norm_after) x = graph.add("relu", "act", {norm_in(graph, n_, "norm", x)});
    graph.add("output", "out", {x});
    return graph;
  }

  static const char* vnas_operation(int k) {
    constexpr const char* kNames[] = {"2d", "3d", "p3d"};
    return kNames[k];
  }

  int encoder_cell(std::size_t cell, int x, std::int64_t channels) {
    const std::string name = "encoder." + std::to_string(cell + 1);
    int y = add_alternatives(
        graph_, name + ".op", {x}, kAlternatives, n_.code.encoder[cell], [&](int k) {
          return two_convs(k, channels, channels, first_kernel(k), second_kernel(k));
        });
    if (n_.norm_after) y = relu(name + ".act", norm(name + ".norm", y));
    return graph_.add("add", name + ".add", {x, y});
  }

  int decoder_block(std::size_t block,
                    int x,
                    std::int64_t in,
                    std::int64_t channels,
                    int skip,
                    const Extent3& stride) {
    const std::string name = "decoder." + std::to_string(block + 1);
    const int pick = n_.code.decoder[block];
    // The block before dec 4 has its resolution and width already.
    if (block != 3) {
      x = norm(name + ".up.norm", conv(name + ".up.conv", x, channels));
      x = enlarge(name + ".up.resize", x, stride);
    } else {
      NAS_CHECK_KIND(Internal, in == channels, "V-NAS: widths of decoder blocks 3 and 4");
    }
    x = graph_.add("add", name + ".skip", {x, skip});
    int y = -1;
    if (n_.norm_after) {
      std::vector<int> halves;
      int half = x;
      for (const bool left : {true, false}) {
        const std::string side = name + (left ? ".left" : ".right");
        half = conv(side + ".in", half, channels / 2);
        half = add_alternatives(graph_, side + ".op", {half}, kAlternatives, pick, [&](int k) {
          return two_convs(
              k, channels / 2, channels / 2, left ? first_kernel(k) : second_kernel(k), kPoint);
        });
        half = relu(side + ".act", norm(side + ".norm", half));
        halves.push_back(half);
      }
      y = graph_.add("concat", name + ".concat", halves);
    } else {
      y = add_alternatives(graph_, name + ".op", {x}, kAlternatives, pick, [&](int k) {
        return dense_pair(k, channels);
      });
    }
    return graph_.add("add", name + ".add", {x, y});
  }

  Graph dense_pair(int k, std::int64_t channels) const {
    Graph graph;
    graph.name = vnas_operation(k);
    int x = graph.add("input", "x", {}, {{"channels", channels}});
    std::vector<int> halves;
    for (const bool left : {true, false}) {
      const std::string side = left ? "left." : "right.";
      x = add_conv_chain(graph,
                         side,
                         x,
                         channels / 2,
                         {.kernels = {kPoint, left ? first_kernel(k) : second_kernel(k), kPoint}});
      x = graph.add("relu", side + "act", {norm_in(graph, n_, side + "norm", x)});
      halves.push_back(x);
    }
    graph.add("output", "out", {graph.add("concat", "concat", halves)});
    return graph;
  }

  void write_head(int x) {
    Extent3 rest = kPoint;  // what the strides below the first leave to pool
    for (std::size_t s = 1; s < n_.strides.size(); ++s) {
      for (std::size_t a = 0; a < 3; ++a) rest[a] *= n_.strides[s][a];
    }
    std::vector<int> levels;
    for (const std::int64_t edge : {1, 2, 4, 8}) {
      const std::string name = "head.pool" + std::to_string(edge);
      Extent3 by{}, up{};
      for (std::size_t a = 0; a < 3; ++a) {
        by[a] = std::gcd(edge, rest[a]);
        up[a] = by[a] * n_.strides[0][a];
      }
      int y = pool("avg_pool", name + ".pool", x, by);
      y = conv(name + ".conv", y, width(0) / 4);
      levels.push_back(enlarge(name + ".up", y, up));
    }
    x = graph_.add("concat", "head.concat", levels);
    x = conv("head.classes", x, n_.classes, kPoint, kPoint, true);
    graph_.add("output", "seg0", {x});
  }

  const VnasNetwork& n_;
  Graph graph_;
  int stem_half_ = -1;  // skip s1
};

}  // namespace

std::string to_text(const VnasCode& code) {
  std::string text;
  std::size_t cell = 0;
  for (const std::size_t group : kGroups) {
    for (std::size_t i = 0; i < group; ++i) text += std::to_string(code.encoder[cell++]);
    text += ' ';
  }
  text += "| ";
  for (const int digit : code.decoder) text += std::to_string(digit);
  return text;
}

VnasCode vnas_code_from_text(const std::string& text) {
  VnasCode code;
  std::size_t digits = 0;
  const std::size_t encoder = code.encoder.size(), all = encoder + code.decoder.size();
  bool good = true;
  for (const char c : text) {
    if (std::isspace(static_cast<unsigned char>(c))) continue;
    if (c == '|') {
      good = good && digits == encoder;
      continue;
    }
    good = good && c >= '0' && c <= '2' && digits < all;
    if (!good) break;
    (digits < encoder ? code.encoder[digits] : code.decoder[digits - encoder]) = c - '0';
    ++digits;
  }
  NAS_CHECK_KIND(
      Usage,
      good && digits == all,
      "V-NAS code: expected 16 digits for the encoder and 5 for the decoder, each 0 (2D), "
      "1 (3D) or 2 (P3D), such as \"",
      kNamed[3].code,
      "\", got \"",
      text.substr(0, 64),
      "\"");
  return code;
}

VnasCode named_vnas_code(const std::string& name) {
  std::vector<std::string> known;
  for (const NamedCode& each : kNamed) {
    if (name == each.name) return vnas_code_from_text(each.code);
    known.emplace_back(each.name);
  }
  const std::string near = did_you_mean(name, known, "\"");
  NAS_CHECK_KIND(
      Usage, near.empty(), "V-NAS: no network is called \"", name.substr(0, 64), "\"", near);
  return vnas_code_from_text(name);
}

Graph make_vnas(const VnasNetwork& network) {
  NAS_CHECK(network.width >= 1.0 / 64 && network.width <= 16,
            "V-NAS: width: expected a factor from 1/64 to 16, got ",
            network.width);
  return Builder(network).build();
}

}  // namespace nas
