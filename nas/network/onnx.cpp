// SPDX-License-Identifier: Apache-2.0
// The schema is onnx.proto of Debian's libonnx-dev, compiled here; the operators are those of
// https://github.com/onnx/onnx/blob/main/docs/Operators.md at opset 17.
#include "nas/network/onnx.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include <onnx.pb.h>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/network/file_nodes.h"
#include "nas/network/operations.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using Ints = std::vector<std::int64_t>;
using Weights = std::map<std::string, TensorView, std::less<>>;

constexpr std::int64_t kOpset = 17;
constexpr std::int64_t kIrVersion = 8;
constexpr std::int64_t kToTheEnd = std::numeric_limits<std::int64_t>::max();  // of a Slice

// ---- attributes ----

onnx::AttributeProto& attribute(onnx::NodeProto& node,
                                const std::string& name,
                                onnx::AttributeProto::AttributeType type) {
  onnx::AttributeProto& added = *node.add_attribute();
  added.set_name(name);
  added.set_type(type);
  return added;
}

void set_int(onnx::NodeProto& node, const std::string& name, std::int64_t value) {
  attribute(node, name, onnx::AttributeProto::INT).set_i(value);
}

void set_float(onnx::NodeProto& node, const std::string& name, double value) {
  attribute(node, name, onnx::AttributeProto::FLOAT).set_f(static_cast<float>(value));
}

void set_text(onnx::NodeProto& node, const std::string& name, const std::string& value) {
  attribute(node, name, onnx::AttributeProto::STRING).set_s(value);
}

void set_ints(onnx::NodeProto& node, const std::string& name, const Ints& values) {
  onnx::AttributeProto& added = attribute(node, name, onnx::AttributeProto::INTS);
  added.mutable_ints()->Add(values.begin(), values.end());
}

/// The same margin on both sides of each axis, in ONNX's order: all beginnings, then all ends.
Ints both_sides(Ints margins) {
  margins.insert(margins.end(), {margins[0], margins[1], margins[2]});
  return margins;
}

void set_axes(onnx::ValueInfoProto& value,
              const std::string& name,
              std::int64_t channels,
              const std::string& suffix) {
  value.set_name(name);
  onnx::TypeProto::Tensor& tensor = *value.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(onnx::TensorProto::FLOAT);
  onnx::TensorShapeProto& shape = *tensor.mutable_shape();
  shape.add_dim()->set_dim_param("N");
  shape.add_dim()->set_dim_value(channels);
  for (const char* axis : {"D", "H", "W"}) shape.add_dim()->set_dim_param(axis + suffix);
}

// ---- graph -> model ----

/// Builds the model of a graph; one method per kind of operation (kWriters).
class OnnxWriter {
 public:
  OnnxWriter(const Graph& graph, const Weights& weights, std::string where)
      : graph_(first_output_only(graph)),
        states_(graph_state(graph_)),
        channels_(channel_counts(graph_)),
        weights_(weights),
        where_(std::move(where)) {
    const std::vector<int> inputs = graph_.input_nodes();
    NAS_CHECK(inputs.size() == 1,
              "network '",
              graph.name,
              "': ONNX export expects one input, found ",
              inputs.size());
    onnx_.set_name(graph.name.empty() ? "network" : graph.name);
    used_ = {kOnnxInput, kOnnxOutput};
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      for (const StateTensor& tensor : states_[i])
        used_.insert(graph_.nodes[i].name + "." + tensor.name);
    }
    for (node_ = 0; node_ < graph_.nodes.size(); ++node_) write_node();
  }

  onnx::GraphProto& graph() { return onnx_; }

  using Writer = void (OnnxWriter::*)();
  static const std::map<std::string_view, Writer>& writers();

 private:
  const Node& node() const { return graph_.nodes[node_]; }
  const std::string& input(std::size_t i) const {
    return values_[static_cast<std::size_t>(node().inputs[i])];
  }
  std::int64_t input_channels() const {
    return channels_[static_cast<std::size_t>(node().inputs[0])];
  }

  void write_node() {
    const auto writer = writers().find(node().op);
    NAS_CHECK(writer != writers().end(),
              node_label(node()),
              ": this operation cannot be expressed in ONNX");
    values_.emplace_back();
    (this->*writer->second)();
  }

  /// `wanted`, or a variation that nothing is called yet.
  std::string new_name(std::string wanted) {
    while (!used_.insert(wanted).second) wanted += "_";
    return wanted;
  }

  onnx::NodeProto& add(const std::string& type,
                       const std::vector<std::string>& inputs,
                       const std::string& output) {
    onnx::NodeProto& added = *onnx_.add_node();
    added.set_op_type(type);
    added.set_name(output);
    for (const std::string& name : inputs) added.add_input(name);
    added.add_output(output);
    return added;
  }

  /// The node's own operator, by the name of the operations table.
  onnx::NodeProto& add_own(const std::vector<std::string>& inputs) {
    values_.back() = new_name(node().name);
    return add(operation(node()).onnx, inputs, values_.back());
  }

  onnx::TensorProto& add_initializer(const std::string& name,
                                     const Ints& dims,
                                     onnx::TensorProto::DataType type) {
    onnx::TensorProto& tensor = *onnx_.add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(type);
    tensor.mutable_dims()->Add(dims.begin(), dims.end());
    return tensor;
  }

  template <class T>
  std::string add_values(const std::string& leaf,
                         const std::vector<T>& values,
                         onnx::TensorProto::DataType type) {
    const std::string name = new_name(node().name + "." + leaf);
    add_initializer(name, {static_cast<std::int64_t>(values.size())}, type)
        .set_raw_data(values.data(), values.size() * sizeof(T));
    return name;
  }
  std::string constant(const std::string& leaf, const Ints& values) {
    return add_values(leaf, values, onnx::TensorProto::INT64);
  }
  std::string constant(const std::string& leaf, const std::vector<float>& values) {
    return add_values(leaf, values, onnx::TensorProto::FLOAT);
  }

  /// The node's state tensor `leaf` as an initialiser, with `dims` instead of its own shape if
  /// given.
  std::string weight(const std::string& leaf, const Ints& dims = {}) {
    const auto& state = states_[node_];
    const auto tensor = std::ranges::find(state, leaf, &StateTensor::name);
    NAS_CHECK_KIND(
        Internal, tensor != state.end(), node_label(node()), ": has no tensor '", leaf, "'");
    const std::string name = node().name + "." + leaf;
    const auto found = weights_.find(name);
    NAS_CHECK(found != weights_.end(), where_, ": tensor ", name, " is missing in the weights");
    NAS_CHECK(found->second.shape == tensor->shape,
              where_,
              ": tensor ",
              name,
              " has another shape in the weights than in the network");
    onnx::TensorProto& added =
        add_initializer(name, dims.empty() ? tensor->shape : dims, onnx::TensorProto::FLOAT);
    if (found->second.dtype == DType::F32) {
      added.set_raw_data(found->second.bytes.data(), found->second.bytes.size());
    } else {
      const std::vector<float> values = to_floats(found->second);
      added.set_raw_data(values.data(), values.size() * sizeof(float));
    }
    return name;
  }
  bool has_weight(std::string_view leaf) const {
    return std::ranges::find(states_[node_], leaf, &StateTensor::name) != states_[node_].end();
  }
  /// Scale or shift of a norm: the node's tensor, or a constant where the norm has none.
  std::string affine(const std::string& leaf, float fallback) {
    if (has_weight(leaf)) return weight(leaf);
    return constant(leaf, std::vector<float>(static_cast<std::size_t>(input_channels()), fallback));
  }

  // ---- one method per kind ----

  void write_input() {
    values_.back() = kOnnxInput;
    set_axes(*onnx_.add_input(), kOnnxInput, channels_[node_], "");
  }

  void write_output() {
    values_.back() = kOnnxOutput;
    add("Identity", {input(0)}, kOnnxOutput);
    set_axes(*onnx_.add_output(), kOnnxOutput, channels_[node_], "_pred");
  }

  void write_conv() {
    std::vector<std::string> inputs{input(0), weight("weight")};
    if (has_weight("bias")) inputs.push_back(weight("bias"));
    onnx::NodeProto& conv = add_own(inputs);
    set_ints(conv, "kernel_shape", attribute_ints(node(), "kernel"));
    set_ints(conv, "strides", attribute_ints(node(), "stride"));
    set_ints(conv, "pads", both_sides(attribute_ints(node(), "padding")));
    if (node().op == "conv") {
      set_ints(conv, "dilations", attribute_ints(node(), "dilation"));
      set_int(conv, "group", attribute_int(node(), "groups"));
    }
  }

  void write_instance_norm() {
    onnx::NodeProto& norm = add_own({input(0), affine("weight", 1), affine("bias", 0)});
    set_float(norm, "epsilon", attribute_real(node(), "eps"));
  }

  void write_batch_norm() {
    onnx::NodeProto& norm = add_own({input(0),
                                     affine("weight", 1),
                                     affine("bias", 0),
                                     weight("running_mean"),
                                     weight("running_var")});
    set_float(norm, "epsilon", attribute_real(node(), "eps"));
  }

  void write_plain() { add_own({input(0)}); }  // relu, sigmoid
  void write_leaky_relu() {
    set_float(add_own({input(0)}), "alpha", attribute_real(node(), "slope"));
  }
  void write_elu() { set_float(add_own({input(0)}), "alpha", attribute_real(node(), "alpha")); }

  void write_prelu() {
    // Slopes are broadcast from the last axis, so a slope per channel needs the axes behind it.
    const std::int64_t slopes = states_[node_].front().shape.front();
    const Ints dims = attribute_bool(node(), "per_channel") ? Ints{slopes, 1, 1, 1} : Ints{slopes};
    const std::string weights = weight("weight", dims);
    add_own({input(0), weights});
  }

  void write_add() {
    const std::size_t count = node().inputs.size();
    std::string sum = input(0);
    for (std::size_t i = 1; i + 1 < count; ++i) {
      const std::string next = new_name(node().name + ".sum");
      add(operation(node()).onnx, {sum, input(i)}, next);
      sum = next;
    }
    add_own({sum, input(count - 1)});
  }

  void write_multiply() { add_own({input(0), input(1)}); }

  void write_concat() {
    std::vector<std::string> inputs;
    for (std::size_t i = 0; i < node().inputs.size(); ++i) inputs.push_back(input(i));
    set_int(add_own(inputs), "axis", 1);
  }

  void write_pool() {
    onnx::NodeProto& pool = add_own({input(0)});
    set_ints(pool, "kernel_shape", attribute_ints(node(), "kernel"));
    set_ints(pool, "strides", attribute_ints(node(), "stride"));
    set_ints(pool, "pads", both_sides(attribute_ints(node(), "padding")));
    if (node().op == "avg_pool") set_int(pool, "count_include_pad", 1);
  }

  void write_resize() {
    const Vec3 scale = attribute_vec3(node(), "scale");
    const bool nearest = attribute_text(node(), "mode") == "nearest";
    const std::vector<float> scales{1,
                                    1,
                                    static_cast<float>(scale[0]),
                                    static_cast<float>(scale[1]),
                                    static_cast<float>(scale[2])};
    // "" is the region of interest, which only another mode reads.
    onnx::NodeProto& resize = add_own({input(0), "", constant("scales", scales)});
    set_text(resize, "mode", nearest ? "nearest" : "linear");
    set_text(resize, "coordinate_transformation_mode", nearest ? "asymmetric" : "half_pixel");
    if (nearest) set_text(resize, "nearest_mode", "floor");
  }

  void write_crop() {
    if (node().inputs.size() == 1) {
      const Ints begin = attribute_ints(node(), "begin");
      Ints end = attribute_ints(node(), "end");
      for (std::int64_t& margin : end) margin = margin == 0 ? kToTheEnd : -margin;
      add_own({input(0),
               constant("begin", begin),
               constant("end", end),
               constant("axes", Ints{2, 3, 4})});
      return;
    }
    // begin = (size of the input - size of the other) / 2; end = begin + size of the other.
    const std::string name = node().name;
    const auto size_of = [&](const std::string& value, const std::string& leaf) {
      const std::string size = new_name(name + leaf);
      onnx::NodeProto& shape = add("Shape", {value}, size);
      set_int(shape, "start", 2);
      set_int(shape, "end", 5);
      return size;
    };
    const auto combine =
        [&](const char* type, const std::string& a, const std::string& b, const std::string& leaf) {
          const std::string result = new_name(name + leaf);
          add(type, {a, b}, result);
          return result;
        };
    const std::string have = size_of(input(0), ".size"), want = size_of(input(1), ".wanted");
    const std::string surplus = combine("Sub", have, want, ".surplus");
    const std::string begin = combine("Div", surplus, constant("two", Ints{2}), ".begin");
    const std::string end = combine("Add", begin, want, ".end");
    add_own({input(0), begin, end, constant("axes", Ints{2, 3, 4})});
  }

  void write_pad() {
    const Ints b = attribute_ints(node(), "begin"), e = attribute_ints(node(), "end");
    const std::string pads = constant("pads", Ints{0, 0, b[0], b[1], b[2], 0, 0, e[0], e[1], e[2]});
    const std::string name = new_name(node().name + ".value");
    const float value = static_cast<float>(attribute_real(node(), "value"));
    add_initializer(name, {}, onnx::TensorProto::FLOAT).set_raw_data(&value, sizeof value);
    set_text(add_own({input(0), pads, name}), "mode", "constant");
  }

  void write_slice() {
    add_own({input(0),
             constant("begin", Ints{attribute_int(node(), "begin")}),
             constant("end", Ints{attribute_int(node(), "end")}),
             constant("axes", Ints{1})});
  }

  void skip() { values_.back() = input(0); }  // dropout does nothing at inference

  const Graph graph_;
  const std::vector<std::vector<StateTensor>> states_;
  const std::vector<std::int64_t> channels_;
  const Weights& weights_;
  const std::string where_;
  onnx::GraphProto onnx_;
  std::size_t node_ = 0;             // the one being written
  std::vector<std::string> values_;  // what each node's result is called
  std::set<std::string> used_;       // names of values and initialisers
};

const std::map<std::string_view, OnnxWriter::Writer>& OnnxWriter::writers() {
  static const std::map<std::string_view, Writer> table = {
      {"input", &OnnxWriter::write_input},
      {"output", &OnnxWriter::write_output},
      {"conv", &OnnxWriter::write_conv},
      {"conv_transpose", &OnnxWriter::write_conv},
      {"instance_norm", &OnnxWriter::write_instance_norm},
      {"batch_norm", &OnnxWriter::write_batch_norm},
      {"relu", &OnnxWriter::write_plain},
      {"sigmoid", &OnnxWriter::write_plain},
      {"leaky_relu", &OnnxWriter::write_leaky_relu},
      {"elu", &OnnxWriter::write_elu},
      {"prelu", &OnnxWriter::write_prelu},
      {"add", &OnnxWriter::write_add},
      {"multiply", &OnnxWriter::write_multiply},
      {"concat", &OnnxWriter::write_concat},
      {"max_pool", &OnnxWriter::write_pool},
      {"avg_pool", &OnnxWriter::write_pool},
      {"resize", &OnnxWriter::write_resize},
      {"crop", &OnnxWriter::write_crop},
      {"pad", &OnnxWriter::write_pad},
      {"slice", &OnnxWriter::write_slice},
      {"dropout", &OnnxWriter::skip},
  };
  return table;
}

// ---- structure ----

std::int64_t element_bytes(const onnx::TensorProto& tensor, const std::string& where) {
  if (tensor.data_type() == onnx::TensorProto::FLOAT) return 4;
  if (tensor.data_type() == onnx::TensorProto::INT64) return 8;
  fail(ErrorKind::Input,
       where,
       ": initialiser ",
       tensor.name(),
       ": expected float32 or int64, found type ",
       tensor.data_type());
}

void check_initializer(const onnx::TensorProto& tensor, const fs::path& file) {
  const std::string where = file.string();
  std::int64_t bytes = element_bytes(tensor, where);
  for (const std::int64_t size : tensor.dims()) {
    NAS_CHECK(size >= 1, where, ": initialiser ", tensor.name(), ": found size ", size);
    bytes = checked_product(bytes, size, where + ": initialiser " + tensor.name());
  }
  if (tensor.data_location() != onnx::TensorProto::EXTERNAL) {
    NAS_CHECK(static_cast<std::int64_t>(tensor.raw_data().size()) == bytes,
              where,
              ": initialiser ",
              tensor.name(),
              ": expected ",
              bytes,
              " bytes, found ",
              tensor.raw_data().size());
    return;
  }
  std::map<std::string, std::string> entries;
  for (const auto& entry : tensor.external_data()) entries[entry.key()] = entry.value();
  const auto number = [&](const char* key) {
    const std::string& text = entries[key];
    const bool digits = !text.empty() && text.size() <= 18 &&
                        text.find_first_not_of("0123456789") == std::string::npos;
    NAS_CHECK(digits, where, ": initialiser ", tensor.name(), ": no external ", key);
    return std::stoll(text);
  };
  const fs::path location = entries["location"];
  NAS_CHECK(!location.empty() && location == location.filename(),
            where,
            ": initialiser ",
            tensor.name(),
            ": expected a file beside the model, found '",
            location.string(),
            "'");
  const fs::path data = file.parent_path() / location;
  std::error_code problem;
  const auto size = static_cast<std::int64_t>(fs::file_size(data, problem));
  NAS_CHECK(!problem, where, ": its weights ", data.string(), " are missing");
  NAS_CHECK(number("length") == bytes && number("offset") + bytes <= size,
            where,
            ": initialiser ",
            tensor.name(),
            ": expected ",
            bytes,
            " bytes within ",
            data.string());
}

/// The rules of check_onnx, on a message. `file`: where it is or will be.
void check_model(const onnx::ModelProto& model, const fs::path& file) {
  const std::string where = file.string();
  NAS_CHECK(model.ir_version() == kIrVersion && model.opset_import_size() == 1 &&
                model.opset_import(0).domain().empty() && model.opset_import(0).version() == kOpset,
            where,
            ": expected ONNX IR ",
            kIrVersion,
            " with opset ",
            kOpset);
  const onnx::GraphProto& graph = model.graph();
  NAS_CHECK(!graph.name().empty() && graph.input_size() == 1 && graph.output_size() == 1 &&
                graph.input(0).name() == kOnnxInput && graph.output(0).name() == kOnnxOutput,
            where,
            ": expected one input '",
            kOnnxInput,
            "' and one output '",
            kOnnxOutput,
            "'");
  std::map<std::string, int> uses;  // of every value that exists so far
  const auto define = [&](const std::string& name) {
    NAS_CHECK(!name.empty() && uses.emplace(name, 0).second,
              where,
              ": value '",
              name,
              "' is defined twice or has no name");
  };
  define(kOnnxInput);
  for (const onnx::TensorProto& tensor : graph.initializer()) {
    define(tensor.name());
    check_initializer(tensor, file);
  }
  std::set<std::string> operators;
  for (const Operation& row : operations()) operators.insert(row.onnx);
  operators.insert({"Identity", "Shape", "Sub", "Div"});
  for (const onnx::NodeProto& node : graph.node()) {
    NAS_CHECK(!node.op_type().empty() && operators.contains(node.op_type()),
              where,
              ": node ",
              node.name(),
              ": unknown operator '",
              node.op_type(),
              "'");
    for (const std::string& name : node.input()) {
      if (name.empty()) continue;  // an optional input that is not given
      const auto value = uses.find(name);
      NAS_CHECK(value != uses.end(),
                where,
                ": node ",
                node.name(),
                ": its input '",
                name,
                "' is not computed before it");
      ++value->second;
    }
    for (const std::string& name : node.output()) define(name);
  }
  const auto result = uses.find(kOnnxOutput);
  NAS_CHECK(result != uses.end(), where, ": the output '", kOnnxOutput, "' is never computed");
  ++result->second;
  for (const auto& [name, count] : uses) {
    NAS_CHECK(count > 0 || name == kOnnxInput, where, ": value '", name, "' is used by nothing");
  }
}

/// Moves float initialisers from the message to `data`, which `model` will name.
void move_weights_out(onnx::GraphProto& graph, const fs::path& data) {
  constexpr std::int64_t kAlignment = 64;
  write_path_atomic(data, [&](const fs::path& temporary) {
    std::ofstream out(temporary, std::ios::binary);
    std::int64_t offset = 0;
    for (onnx::TensorProto& tensor : *graph.mutable_initializer()) {
      // Shapes and slices stay inside: readers want their values to infer sizes.
      if (tensor.data_type() != onnx::TensorProto::FLOAT || tensor.raw_data().size() < 1024)
        continue;
      const std::string bytes = std::move(*tensor.mutable_raw_data());
      tensor.clear_raw_data();
      const std::int64_t gap = (kAlignment - offset % kAlignment) % kAlignment;
      out.write(std::string(static_cast<std::size_t>(gap), '\0').data(), gap);
      out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
      offset += gap;
      tensor.set_data_location(onnx::TensorProto::EXTERNAL);
      const std::pair<const char*, std::string> entries[] = {
          {"location", data.filename().string()},
          {"offset", std::to_string(offset)},
          {"length", std::to_string(bytes.size())}};
      for (const auto& [key, value] : entries) {
        onnx::StringStringEntryProto& entry = *tensor.add_external_data();
        entry.set_key(key);
        entry.set_value(value);
      }
      offset += static_cast<std::int64_t>(bytes.size());
    }
    out.close();
    NAS_CHECK_KIND(Io, out.good(), data.string(), ": writing failed (disk full?)");
  });
}

}  // namespace

bool has_onnx_form(const Graph& graph) {
  return std::ranges::all_of(
      graph.nodes, [](const Node& node) { return OnnxWriter::writers().contains(node.op); });
}

void write_onnx(const fs::path& file,
                const Graph& graph,
                const Weights& weights,
                const OnnxOptions& options) {
  refuse_file_nodes(graph, "ONNX");
  validate(graph);
  channel_counts(graph);  // refuses open choices, also those that the finest output does not need
  onnx::ModelProto model;
  model.set_ir_version(kIrVersion);
  model.add_opset_import()->set_version(kOpset);
  model.mutable_opset_import(0)->set_domain("");
  model.set_producer_name("voxnas");
  if (!options.producer_version.empty()) model.set_producer_version(options.producer_version);
  for (const auto& [key, value] : options.metadata) {
    onnx::StringStringEntryProto& entry = *model.add_metadata_props();
    entry.set_key(key);
    entry.set_value(value);
  }
  OnnxWriter writer(graph, weights, file.string());
  *model.mutable_graph() = std::move(writer.graph());

  std::int64_t bytes = 0;
  for (const onnx::TensorProto& tensor : model.graph().initializer())
    bytes += static_cast<std::int64_t>(tensor.raw_data().size());
  const fs::path data = file.string() + ".data";
  std::error_code ignored;
  if (bytes > options.inline_bytes) {
    // An older model must not be left with these weights by a kill in between.
    fs::remove(file, ignored);
    move_weights_out(*model.mutable_graph(), data);
  }
  check_model(model, file);
  write_path_atomic(file, [&](const fs::path& temporary) {
    std::ofstream out(temporary, std::ios::binary);
    const bool written = model.SerializeToOstream(&out);
    out.close();
    NAS_CHECK_KIND(Io, written && out.good(), file.string(), ": writing failed (disk full?)");
  });
  if (bytes <= options.inline_bytes) fs::remove(data, ignored);  // of an older, larger model
}

OnnxSummary check_onnx(const fs::path& file) {
  onnx::ModelProto model;
  const std::string bytes = read_file(file, std::int64_t{1} << 31);
  NAS_CHECK(model.ParseFromString(bytes), file.string(), ": not an ONNX model, or a damaged one");
  check_model(model, file);
  OnnxSummary summary;
  summary.opset = model.opset_import(0).version();
  summary.ir_version = model.ir_version();
  summary.nodes = model.graph().node_size();
  summary.initializers = model.graph().initializer_size();
  for (const auto& entry : model.metadata_props()) summary.metadata[entry.key()] = entry.value();
  return summary;
}

}  // namespace nas
