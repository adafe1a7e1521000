// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/network/graph.h"

namespace nas {

/// One line about a node: "conv 3×3×3 / 2³ 64". Comes from the table's attributes, so a new
/// operation needs nothing here.
std::string describe_node(const Node& node);

struct SummaryRow {
  std::string name, text;
  std::string op;
  TensorShape shape;  // of the result
  Cost cost;
};

/// What `voxnas inspect` tells about a network.
struct Summary {
  std::string name, id;
  Extent3 input{0, 0, 0};
  std::int64_t batch = 1;
  std::vector<SummaryRow> rows;
  Cost total;
  std::int64_t first_output_macs = 0;  // without the deep-supervision heads: MACs as published
  std::int64_t training_bytes_16 =
      0;  // training_memory_bytes with 2 and 4 bytes an element, one optimiser state
  std::int64_t training_bytes_32 = 0;
};
Summary summarize(const Graph& graph, const Extent3& input_space, std::int64_t batch);
std::string to_text(const Summary& summary);
Json to_json(const Summary& summary);

}  // namespace nas
