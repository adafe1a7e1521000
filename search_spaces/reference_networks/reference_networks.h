// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "search_spaces/reference_networks/networks.h"

namespace nas {

/// A network's size as somebody printed it. Multiply-adds are counted once.
struct PublishedSize {
  double parameters = 0;
  double macs = 0;  // one forward pass of `input`
  TensorShape input{1, {96, 96, 96}};
  std::int64_t classes = 2;
  std::string source;
  /// False where no natural setting of the described network has these figures; `note` says what is
  /// known. True: ours has the parameters to the printed digit (cut off or rounded) and the
  /// multiply-adds within 3 % (sources count element-wise work too).
  bool reproducible = true;
  std::string note = {};
};

/// One row of the table: a network that papers name, as a graph.
struct ReferenceNetwork {
  std::string name;    // "v-net": what commands take
  std::string title;   // "V-Net"
  std::string source;  // one line
  NetworkIo defaults;  // channels, classes and patch where nothing else is asked for
  std::vector<PublishedSize> published;
  Graph (*make)(const NetworkIo& io) = nullptr;
};

/// The table, in a fixed order.
const std::vector<ReferenceNetwork>& reference_networks();
const ReferenceNetwork* find_reference_network(std::string_view name);  // nullptr if there is none
std::vector<std::string> reference_network_names();

}  // namespace nas
