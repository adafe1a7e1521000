// SPDX-License-Identifier: Apache-2.0
#include "training/model/script_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>

#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>

#include "nas/core/error.h"
#include "nas/core/exception_text.h"
#include "nas/core/files.h"
#include "nas/core/hash.h"
#include "nas/core/json.h"
#include "nas/core/log.h"
#include "nas/core/quantity.h"
#include "nas/core/text.h"
#include "nas/network/file_nodes.h"
#include "nas/network/operations.h"
#include "training/model/device.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLargestMultiple = 32;

std::string first_line(const std::exception& error) {
  const std::string text = exception_text(error);
  return text.substr(0, text.find('\n'));
}

/// What a module's own error ends with: the reason stands in its last line.
std::string last_line(const std::exception& error) {
  std::istringstream text(exception_text(error));
  std::string last;
  for (std::string line; std::getline(text, line);) {
    if (!line.empty()) last = line;
  }
  return last;
}

/// The random numbers of a device are those of `stream` for the life of the object.
class RandomStream {
 public:
  RandomStream(const at::Device& device, std::uint64_t stream)
      : generator_(at::globalContext().defaultGenerator(device)) {
    const std::lock_guard<std::mutex> lock(generator_.mutex());
    before_ = generator_.get_state();
    generator_.set_current_seed(stream);
  }
  ~RandomStream() {
    const std::lock_guard<std::mutex> lock(generator_.mutex());
    generator_.set_state(before_);
  }
  RandomStream(const RandomStream&) = delete;
  RandomStream& operator=(const RandomStream&) = delete;

 private:
  at::Generator generator_;
  at::Tensor before_;
};

std::vector<std::pair<std::string, at::Tensor>> float_tensors(const auto& list,
                                                              const fs::path& file) {
  std::vector<std::pair<std::string, at::Tensor>> result;
  for (const auto& item : list) {
    const bool counter = item.value.dim() == 0;  // num_batches_tracked
    NAS_CHECK(counter || item.value.scalar_type() == at::kFloat,
              file.string(),
              ": tensor ",
              item.name,
              ": expected float32, found ",
              c10::toString(item.value.scalar_type()));
    result.emplace_back(item.name, item.value);
  }
  return result;
}

at::Tensor first_tensor(const c10::IValue& value, const fs::path& file) {
  if (value.isTensor()) return value.toTensor();
  if (value.isTensorList() && !value.toTensorVector().empty())
    return value.toTensorVector().front();
  if (value.isTuple() && !value.toTupleRef().elements().empty()) {
    return first_tensor(value.toTupleRef().elements()[0], file);
  }
  fail(ErrorKind::Input,
       file.string(),
       ": forward gives ",
       value.tagKind(),
       "; expected a tensor, or a tuple or list that begins with one");
}

/// `value` as an attribute of this type; None: it is of another one.
c10::IValue typed_value(const Json& value, const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::FloatType:
      if (value.is_number()) return value.get<double>();
      break;
    case c10::TypeKind::IntType:
      if (value.is_number_integer()) return value.get<std::int64_t>();
      break;
    case c10::TypeKind::BoolType:
      if (value.is_boolean()) return value.get<bool>();
      break;
    case c10::TypeKind::StringType:
      if (value.is_string()) return value.get<std::string>();
      break;
    default:
      break;
  }
  return {};
}

bool is_setting(const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::FloatType:
    case c10::TypeKind::IntType:
    case c10::TypeKind::BoolType:
    case c10::TypeKind::StringType:
      return true;
    default:
      return false;
  }
}

/// \param settings JSON object: attribute -> value.
void set_attributes(torch::jit::Module& module, const std::string& settings, const fs::path& file) {
  std::map<std::string, c10::TypePtr> known;
  std::vector<std::string> names, shown;
  const c10::ClassTypePtr type = module.type();
  for (std::size_t i = 0; i < type->numAttributes(); ++i) {
    const std::string& name = type->getAttributeName(i);
    if (name == "training" || !is_setting(type->getAttribute(i))) continue;
    known[name] = type->getAttribute(i);
    names.push_back(name);
    shown.push_back(name + " (" + type->getAttribute(i)->repr_str() + ")");
  }
  const Json given = parse_json(settings, file.string() + ": settings");
  for (const auto& item : given.items()) {
    const auto found = known.find(item.key());
    NAS_CHECK(found != known.end(),
              file.string(),
              ": no attribute '",
              item.key(),
              "' can be set; the module has ",
              shown.empty() ? "none" : joined(shown),
              did_you_mean(item.key(), names),
              ". What a module is built from is fixed when torch.jit.script writes it");
    const c10::IValue value = typed_value(item.value(), found->second);
    NAS_CHECK(!value.isNone(),
              file.string(),
              ": attribute ",
              item.key(),
              ": expected ",
              found->second->repr_str(),
              ", found ",
              item.value().dump().substr(0, 60));
    module.setattr(item.key(), value);
  }
}

std::string shape_text(const at::Tensor& tensor) {
  std::vector<std::string> sizes;
  for (const std::int64_t size : tensor.sizes()) sizes.push_back(std::to_string(size));
  return joined(sizes, "x");
}

}  // namespace

struct ScriptFile::Module {
  torch::jit::Module module;
};

ScriptFile::ScriptFile(const fs::path& file, const std::string& hash, const std::string& settings)
    : file_(file) {
  NAS_CHECK_KIND(Io,
                 fs::is_regular_file(file),
                 file.string(),
                 ": expected a TorchScript file (torch.jit.script(module).save(...)), found none");
  if (!hash.empty()) {
    const std::string found = hash_file(file);
    NAS_CHECK(found == hash,
              file.string(),
              ": is another file than the network was made from: expected hash ",
              hash,
              ", found ",
              found);
  }
  try {
    module_ = std::make_unique<Module>(Module{torch::jit::load(file.string(), at::kCPU)});
    module_->module.train(true);
  } catch (const std::exception& error) {
    fail(ErrorKind::Input,
         file.string(),
         ": not a TorchScript file: ",
         first_line(error),
         "; write it with torch.jit.script(module).save(...)");
  }
  NAS_CHECK(module_->module.find_method("forward").has_value(),
            file.string(),
            ": its module has no method forward");
  if (!settings.empty()) set_attributes(module_->module, settings, file);
  const at::NoGradGuard no_grad;
  for (const auto& item : module_->module.named_parameters()) {
    // Our optimizers walk raw memory.
    if (!item.value.is_contiguous()) at::Tensor(item.value).set_data(item.value.contiguous());
  }
}

ScriptFile::~ScriptFile() = default;

std::vector<std::pair<std::string, at::Tensor>> ScriptFile::parameters() const {
  return float_tensors(module_->module.named_parameters(), file_);
}
std::vector<std::pair<std::string, at::Tensor>> ScriptFile::buffers() const {
  return float_tensors(module_->module.named_buffers(), file_);
}

at::Tensor ScriptFile::run(const std::vector<at::Tensor>& inputs,
                           bool training,
                           std::uint64_t stream) const {
  if (training != training_) module_->module.train(training);
  training_ = training;
  const at::Device device = inputs.front().device();
  const Autocast off(device, at::kFloat);
  const torch::jit::GraphOptimizerEnabledGuard plain(false);
  const RandomStream random(device, stream);
  std::vector<c10::IValue> arguments;
  for (const at::Tensor& input : inputs) arguments.emplace_back(input.contiguous());
  try {
    return first_tensor(module_->module.forward(arguments), file_);
  } catch (const Error&) {
    throw;
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const std::exception& error) {
    fail(ErrorKind::Input,
         file_.string(),
         ": forward of input ",
         shape_text(inputs.front()),
         " failed: ",
         last_line(error));
  }
}

void ScriptFile::save(const fs::path& file,
                      const std::vector<std::pair<std::string, std::string>>& extra_files) const {
  torch::jit::Module copy = module_->module.clone();
  copy.eval();
  copy.to(at::kCPU);
  // Whatever it gives besides, the exported module gives logits alone.
  const auto& result = copy.get_method("forward").function().getSchema().returns().at(0).type();
  torch::jit::Module written = copy;
  if (!result->isSubtypeOf(*c10::TensorType::get())) {
    written = torch::jit::Module("__torch__.voxnas.First");
    written.register_attribute("training", c10::BoolType::get(), false);
    written.register_module("network", copy);
    written.define(
        "def forward(self, image: Tensor) -> Tensor:\n  return self.network.forward(image)[0]\n");
  }
  torch::jit::ExtraFilesMap extra;
  for (const auto& [name, text] : extra_files) extra[name] = text;
  std::ofstream out(file, std::ios::binary);  // as a name LibTorch takes only one with a dot
  if (out) written.save(out, extra);
  out.close();
  NAS_CHECK_KIND(Io, out.good(), "cannot write ", file.string(), ": ", std::strerror(errno));
}

ScriptModule::ScriptModule(const Node& node)
    : torch::nn::Module("ScriptModule"),
      script_(attribute_text(node, kScriptFile),
              attribute_text(node, "hash"),
              attribute_text(node, "settings")),
      classes_(attribute_int(node, "out_channels")) {
  // "encoder.0.weight" is the weight of part 0 of part encoder.
  const auto place = [&](const std::string& tensor, std::string& last) -> torch::nn::Module& {
    torch::nn::Module* part = this;
    std::size_t begin = 0;
    for (std::size_t dot = tensor.find('.'); dot != std::string::npos;
         dot = tensor.find('.', begin)) {
      const std::string name = tensor.substr(begin, dot - begin);
      const auto children = part->named_children();
      const auto* const found = children.find(name);
      part = found != nullptr
                 ? found->get()
                 : part->register_module(name, std::make_shared<torch::nn::Module>()).get();
      begin = dot + 1;
    }
    last = tensor.substr(begin);
    return *part;
  };
  std::string last;
  for (const auto& [tensor, value] : script_.parameters()) {
    place(tensor, last).register_parameter(last, value, value.requires_grad());
  }
  for (const auto& [tensor, value] : script_.buffers()) {
    place(tensor, last).register_buffer(last, value);
  }
}

at::Tensor ScriptModule::run(const at::Tensor& image, bool training, std::uint64_t stream) const {
  const at::Tensor out = script_.run({image.to(at::kFloat)}, training, stream);
  NAS_CHECK_KIND(Shape,
                 out.dim() == 5 && out.size(0) == image.size(0) && out.size(1) == classes_ &&
                     out.sizes().slice(2) == image.sizes().slice(2),
                 script_.file().string(),
                 ": expected logits of ",
                 classes_,
                 " channels at the size of the input ",
                 shape_text(image),
                 ", found ",
                 shape_text(out));
  return out;
}

std::shared_ptr<const ScriptModule> script_module(const torch::nn::Module& network) {
  for (const auto& child : network.modules(/*include_self=*/false)) {
    if (const auto script = std::dynamic_pointer_cast<const ScriptModule>(child)) return script;
  }
  return nullptr;
}

Graph with_own_files(const fs::path& folder, Graph graph) {
  const fs::path own = fs::absolute(folder).lexically_normal() / "network.ts";
  for (Node& node : graph.nodes) {
    if (node.op != kScriptOp) continue;
    const fs::path script = attribute_text(node, kScriptFile);
    NAS_CHECK_KIND(
        Io, fs::is_regular_file(script), script.string(), ": expected the network's file");
    if (!fs::exists(own) || !fs::equivalent(own, script)) {
      write_path_atomic(own, [&](const fs::path& temporary) {
        fs::copy_file(script, temporary, fs::copy_options::overwrite_existing);
      });
    }
    node.attributes[kScriptFile] = own.string();
  }
  return graph;
}

namespace {

/// The multiple of voxels that a node's network takes. \throws as probe_script.
std::int64_t probed_multiple(const Node& node, std::int64_t channels, const Extent3& patch) {
  const std::string name = attribute_text(node, kScriptFile);
  const std::int64_t classes = attribute_int(node, "out_channels");
  const ScriptFile script(name, attribute_text(node, "hash"), attribute_text(node, "settings"));
  std::string reason;
  for (std::int64_t multiple = 1; multiple <= kLargestMultiple; multiple *= 2) {
    Extent3 size{};
    for (std::size_t a = 0; a < 3; ++a) size[a] = (patch[a] + multiple - 1) / multiple * multiple;
    const at::Tensor image = at::zeros({1, channels, size[0], size[1], size[2]});
    at::Tensor logits;
    try {
      const at::NoGradGuard no_grad;
      logits = script.run({image}, false, 0);
    } catch (const Error& error) {
      if (reason.empty()) reason = error.what();
      continue;
    }
    const std::vector<std::int64_t> wanted{1, classes, size[0], size[1], size[2]};
    if (logits.sizes() != at::IntArrayRef(wanted)) {
      if (reason.empty())
        reason = concat_text(name,
                             ": input ",
                             shape_text(image),
                             " gives ",
                             shape_text(logits),
                             "; expected logits [N, K, D, H, W] of the input's size, K = ",
                             classes,
                             " classes");
      if (logits.dim() != 5 || logits.size(1) != classes) break;  // no size mends that
      continue;
    }
    std::int64_t parameters = 0;
    for (const auto& item : script.parameters()) parameters += item.second.numel();
    log_info(name,
             ": input ",
             shape_text(image),
             " gives ",
             shape_text(logits),
             "; ",
             format_count(static_cast<double>(parameters)),
             " parameters, which start as they lie in the file");
    return multiple;
  }
  fail(ErrorKind::Shape, reason);
}

}  // namespace

void probe_script(Graph& graph, const Extent3& patch) {
  static std::mutex mutex;
  static std::map<std::string, std::int64_t> known;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (graph.nodes[i].op != kScriptOp) continue;
    const std::int64_t channels =
        channel_counts(graph)[static_cast<std::size_t>(graph.nodes[i].inputs.at(0))];
    Node& node = graph.nodes[i];
    const std::string key = concat_text(attribute_text(node, "hash"),
                                        ' ',
                                        channels,
                                        ' ',
                                        attribute_int(node, "out_channels"),
                                        ' ',
                                        to_text(patch),
                                        ' ',
                                        attribute_text(node, "settings"));
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = known.find(key);
    const std::int64_t multiple =
        found != known.end() ? found->second : probed_multiple(node, channels, patch);
    known[key] = multiple;
    node.attributes["multiple"] = std::vector<std::int64_t>(3, multiple);
    canonicalize_attributes(node);
  }
}

}  // namespace nas
