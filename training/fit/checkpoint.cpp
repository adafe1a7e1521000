// SPDX-License-Identifier: Apache-2.0
#include "training/fit/checkpoint.h"

#include <map>

#include <nlohmann/json.hpp>

#include <torch/torch.h>

#include "nas/core/error.h"
#include "nas/core/exception_text.h"
#include "nas/core/files.h"

namespace nas {
namespace {

constexpr int kCheckpointVersion = 1;

at::Tensor bytes_tensor(const std::string& text) {
  return torch::from_blob(
             const_cast<char*>(text.data()), {static_cast<std::int64_t>(text.size())}, at::kByte)
      .clone();
}

std::string bytes_text(const at::Tensor& tensor) {
  const at::Tensor t = tensor.to(at::kCPU).contiguous();
  return {static_cast<const char*>(t.const_data_ptr()), static_cast<std::size_t>(t.numel())};
}

/// The tensors of a file by name.
std::map<std::string, at::Tensor> read_tensors(const std::filesystem::path& file) {
  const std::string content = read_file(file, std::int64_t{1} << 40);
  std::map<std::string, at::Tensor> tensors;
  try {
    const c10::IValue value = torch::pickle_load({content.begin(), content.end()});
    for (const auto& item : value.toGenericDict()) {
      tensors[item.key().toStringRef()] = item.value().toTensor();
    }
  } catch (const std::exception& error) {
    const std::string reason = exception_text(error);
    fail(ErrorKind::Input,
         file.string(),
         ": not a readable checkpoint: ",
         reason.substr(0, reason.find('\n')));
  }
  return tensors;
}

}  // namespace

void write_checkpoint(const std::filesystem::path& file,
                      const NamedTensors& state,
                      const Json& identity,
                      const CheckpointRecord& record) {
  c10::Dict<std::string, at::Tensor> dict;
  for (const auto& [name, tensor] : state) dict.insert(name, tensor.detach().to(at::kCPU));
  dict.insert("losses", torch::tensor(record.losses, at::kDouble));
  const Json meta = {{"format", "voxnas.checkpoint"},
                     {"version", kCheckpointVersion},
                     {"step", record.steps},
                     {"skipped", record.skipped},
                     {"ending", record.ending},
                     {"training", identity}};
  dict.insert("meta", bytes_tensor(meta.dump()));
  if (!record.extra.empty()) dict.insert("hooks", bytes_tensor(record.extra));
  const std::vector<char> pickled = torch::pickle_save(dict);
  write_file_atomic(file, {pickled.data(), pickled.size()});
}

CheckpointRecord read_checkpoint(const std::filesystem::path& file,
                                 const NamedTensors& state,
                                 const Json& identity) {
  const std::string where = file.string();
  const std::map<std::string, at::Tensor> tensors = read_tensors(file);
  const auto tensor = [&](const std::string& name) -> const at::Tensor& {
    NAS_CHECK(tensors.contains(name), where, ": tensor ", name, " is missing");
    return tensors.at(name);
  };
  const Json meta_json = parse_json(bytes_text(tensor("meta")), where + ": meta");
  const JsonReader meta(meta_json, where);
  NAS_CHECK(meta.at("version").integer() == kCheckpointVersion,
            where,
            ": expected checkpoint version ",
            kCheckpointVersion,
            ", found ",
            meta.at("version").integer());
  for (const auto& [key, expected] : identity.items()) {
    const Json& found = meta.at("training").at(key).json();
    NAS_CHECK(found == expected,
              where,
              ": the checkpoint is of another training (",
              key,
              " differ: expected ",
              expected.dump(),
              ", found ",
              found.dump(),
              "); use another run folder or the same settings");
  }
  const at::NoGradGuard no_grad;
  for (const auto& [name, target] : state) {
    const at::Tensor& stored = tensor(name);
    NAS_CHECK(stored.sizes() == target.sizes(),
              where,
              ": tensor ",
              name,
              ": expected shape ",
              target.sizes(),
              ", found ",
              stored.sizes());
    at::Tensor(target).copy_(stored);
  }
  CheckpointRecord record;
  record.steps = meta.at("step").integer(0, INT64_MAX);
  record.skipped = meta.at("skipped").integer(0, INT64_MAX);
  if (meta.has("ending")) record.ending = meta.at("ending").text();
  const at::Tensor losses = tensor("losses").to(at::kDouble).contiguous();
  record.losses.assign(losses.const_data_ptr<double>(),
                       losses.const_data_ptr<double>() + losses.numel());
  if (tensors.contains("hooks")) record.extra = bytes_text(tensor("hooks"));
  return record;
}

}  // namespace nas
