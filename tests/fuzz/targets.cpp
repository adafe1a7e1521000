// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/targets.h"

#include <zip.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/json.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/nifti.h"
#include "nas/network/graph.h"
#include "nas/network/safetensors.h"
#include "nas/network/torch_file.h"
#include "tests/support/support.h"

namespace nas::test {
namespace {

using Bytes = std::span<const std::byte>;
constexpr std::int64_t kMiB = 1 << 20;

std::string_view text_of(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

[[noreturn]] void broken(const char* what) {
  std::fprintf(stderr, "fuzz: %s\n", what);
  std::abort();
}

/// Runs `read`, taking errors that blame the input as its proper end.
template <class Read>
void accept_errors(Read read) {
  try {
    read();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::Internal) throw;
    if (std::string(error.what()).empty()) broken("an error without a message");
  }
}

/// Buffers of readers, temporary names, messages.
constexpr std::int64_t kFixed = kMiB;
/// What parsed JSON takes per byte of text: "[[[" is an array (allocated, with room) a byte.
constexpr std::int64_t kPerJsonByte = 100;

std::int64_t memory_of_json(Bytes bytes) {
  return kFixed + 2 * kPerJsonByte * static_cast<std::int64_t>(bytes.size());
}

// ---- NIfTI: header, image and label ----

/// Bytes that the file really holds: zlib's word, not the header's.
std::int64_t inflated_size(Bytes bytes) {
  z_stream stream{};
  if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK) broken("zlib does not start");
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::int64_t total = 0;
  std::vector<Bytef> scratch(64 << 10);
  for (int result = Z_OK; result == Z_OK;) {
    stream.next_out = scratch.data();
    stream.avail_out = static_cast<uInt>(scratch.size());
    result = inflate(&stream, Z_NO_FLUSH);
    total += static_cast<std::int64_t>(scratch.size() - stream.avail_out);
    if (result == Z_STREAM_END && stream.avail_in > 0) result = inflateReset(&stream);
  }
  inflateEnd(&stream);
  return total;
}

/// Inflated bytes and voxels as float (four bytes for one, at worst). A gzipped file may ask for 64
/// times its packed size before it is counted (nifti.cpp).
std::int64_t memory_of_nifti(Bytes bytes) {
  const auto size = static_cast<std::int64_t>(bytes.size());
  const bool packed = size > 1 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
  const std::int64_t held = packed ? inflated_size(bytes) : size;
  return 3 * kMiB + 2 * 5 * held + (packed ? 64 * size : 0);
}

void run_nifti(Bytes bytes) {
  accept_errors([&] {
    const NiftiHeader header = parse_nifti_header(bytes, "fuzz.nii");
    if (volume(header.geometry.shape) <= 0 || header.channels <= 0)
      broken("an empty volume was accepted");
    for (const double spacing : header.geometry.spacing_mm) {
      if (!std::isfinite(spacing) || spacing <= 0)
        broken("a spacing that is no length was accepted");
    }
  });
  accept_errors([&] {
    const Image image = parse_nifti(bytes, "fuzz.nii");
    if (static_cast<std::int64_t>(image.voxels.size()) !=
        image.channels * volume(image.geometry.shape)) {
      broken("voxels and shape disagree");
    }
  });
  accept_errors([&] { parse_nifti_label(bytes, "fuzz.nii"); });
}

std::vector<std::string> nifti_seeds() {
  const TempFolder folder;
  Image image;
  image.geometry = {.shape = {3, 4, 5},
                    .spacing_mm = {2, 1, 0.5},
                    .affine = {0.5, 0, 0, 1, 0, 1, 0, 2, 0, 0, 2, 3}};
  image.channels = 2;
  for (int i = 0; i < 120; ++i) image.voxels.push_back(static_cast<float>(i) * 0.25f);
  LabelMap label;
  label.geometry = image.geometry;
  for (int i = 0; i < 60; ++i) label.voxels.push_back(static_cast<std::int16_t>(i % 3));
  write_nifti(folder / "image.nii", image);
  write_nifti(folder / "image.nii.gz", image);
  write_nifti(folder / "label.nii", label);
  write_nifti(folder / "label.nii.gz", label);
  image.geometry.shape = {1, 1, 40000};  // an edge that only NIfTI-2 can hold
  image.channels = 1;
  image.voxels.assign(40000, 1.0f);
  write_nifti(folder / "long.nii.gz", image);
  std::vector<std::string> seeds;
  for (const char* name :
       {"image.nii", "image.nii.gz", "label.nii", "label.nii.gz", "long.nii.gz"}) {
    seeds.push_back(read_file(folder / name, kMiB));
  }
  return seeds;
}

// ---- dataset.json, and after a zero byte splits_final.json ----

void run_dataset(Bytes bytes) {
  static const TempFolder* folder = new TempFolder;  // one per process; the file is rewritten
  const std::string_view text = text_of(bytes);
  const std::size_t zero = text.find('\0');
  const std::filesystem::path splits = folder->path() / "splits_final.json";
  std::filesystem::remove(splits);  // not truncated: some file systems flush on that
  if (zero != std::string_view::npos) {
    std::ofstream(splits, std::ios::binary) << text.substr(zero + 1);
  }
  accept_errors([&] {
    const Json json = parse_json(text.substr(0, zero), "dataset.json");
    const DataSet data = data_set_from_json(json, folder->path());
    for (const CaseFiles& files : data.training) {
      if (&data.find(files.id) != &files) broken("two cases with one id were accepted");
    }
    nnunet_dataset_json(data).dump();
  });
}

std::vector<std::string> dataset_seeds() {
  const std::string msd =
      R"({"name":"T","modality":{"0":"MRI","1":"CT"},"labels":{"0":"background","1":"organ"},"numTraining":6,)"
      R"("training":[{"image":"./imagesTr/a.nii.gz","label":"./labelsTr/a.nii.gz"},{"image":"./imagesTr/b.nii.gz","label":"./labelsTr/b.nii.gz"},)"
      R"({"image":"./imagesTr/c.nii.gz","label":"./labelsTr/c.nii.gz"},{"image":"./imagesTr/d.nii.gz","label":"./labelsTr/d.nii.gz"},)"
      R"({"image":"./imagesTr/e.nii.gz","label":"./labelsTr/e.nii.gz"},{"image":["x.nii","y.nii"],"label":"z.nii"}],"test":["./imagesTs/t.nii.gz"]})";
  const std::string nnunet =
      R"({"channel_names":{"0":"CT"},"labels":{"background":0,"tumour":1},"numTraining":2,"file_ending":".nii.gz",)"
      R"("dataset":{"k1":{"images":["a.nii.gz"],"label":"b.nii.gz"},"k2":{"images":["c.nii.gz"],"label":"d.nii.gz"}}})";
  const std::string splits =
      R"([{"train":["a","b","c"],"val":["d","e"]},{"train":["d","e"],"val":["a"]}])";
  const std::string zero(1, '\0');
  return {msd, nnunet, msd + zero + splits, nnunet + zero + R"([{"train":["k1"],"val":["k2"]}])"};
}

// ---- graph JSON: whatever is accepted has shapes, a cost and survives a round trip ----

void run_graph(Bytes bytes) {
  accept_errors([&] {
    const Graph graph = graph_from_json(parse_json(text_of(bytes), "fuzz.json"), "fuzz.json");
    validate(graph);
    const Json again = to_json(graph);
    const Graph copy = graph_from_json(parse_json(again.dump(), "again"), "again");
    if (!(copy == graph) || graph_id(copy) != graph_id(graph))
      broken("the round trip changed a graph");
    infer_shapes(graph, {32, 32, 32});
    total_cost(graph, {32, 32, 32});
    training_memory_bytes(graph, {32, 32, 32}, 2, 4);
    if (graph.is_closed()) return;
    const std::vector<int> sizes = choice_sizes(graph);
    if (sizes.size() < 50) validate(close_choices(graph, std::vector<int>(sizes.size(), 0)));
  });
}

Graph small_graph() {
  Graph graph;
  graph.name = "small";
  const int input = graph.add("input", "image", {}, {{"channels", std::int64_t{2}}});
  const int conv = graph.add(
      "conv",
      "stem.conv",
      {input},
      {{"out_channels", std::int64_t{4}}, {"kernel", std::vector<std::int64_t>{3, 3, 3}}});
  const int norm = graph.add("instance_norm", "stem.norm", {conv});
  const int act = graph.add("leaky_relu", "stem.act", {norm}, {{"slope", 0.02}});
  const int down =
      graph.add("max_pool", "down", {act}, {{"kernel", std::vector<std::int64_t>{2, 2, 2}}});
  const int up = graph.add("resize", "up", {down}, {{"scale", std::vector<double>{2, 2, 2}}});
  const int joined = graph.add("concat", "join", {up, act});
  const int head = graph.add(
      "conv", "head", {joined}, {{"out_channels", std::int64_t{3}}, {"kernel", std::int64_t{1}}});
  graph.add("output", "seg", {head});
  return graph;
}

std::vector<std::string> graph_seeds() {
  Graph open;
  open.name = "open";
  const int input = open.add("input", "image", {}, {{"channels", std::int64_t{2}}});
  std::vector<Graph> alternatives;
  for (const std::int64_t kernel : {1, 3}) {
    Graph alternative;
    const int in = alternative.add("input", "in", {}, {{"channels", std::int64_t{2}}});
    const int conv = alternative.add(
        "conv", "conv", {in}, {{"out_channels", std::int64_t{2}}, {"kernel", kernel}});
    alternative.add("output", "out", {conv});
    alternatives.push_back(alternative);
  }
  const int choice = open.add_choice("cell", {input}, alternatives);
  open.add("output", "seg", {choice});
  return {to_json(small_graph()).dump(), to_json(open).dump()};
}

// ---- safetensors ----

void run_safetensors(Bytes bytes) {
  accept_errors([&] {
    const Safetensors file = parse_safetensors(bytes, "fuzz.safetensors");
    std::size_t total = 0;
    for (const auto& [name, tensor] : file.tensors) {
      total += tensor.bytes.size();
      if (!tensor.bytes.empty() &&
          (tensor.bytes.data() < bytes.data() ||
           tensor.bytes.data() + tensor.bytes.size() > bytes.data() + bytes.size())) {
        broken("a tensor reaches beyond its file");
      }
      if (tensor.dtype != DType::Bool) to_floats(tensor);
    }
    if (total > bytes.size()) broken("tensors overlap");
  });
}

/// Tensors are views; bytes read as float take four times their size.
std::int64_t memory_of_safetensors(Bytes bytes) {
  const auto size = static_cast<std::int64_t>(bytes.size());
  std::uint64_t header = 0;
  if (size >= 8) std::memcpy(&header, bytes.data(), 8);
  const auto json =
      static_cast<std::int64_t>(std::min<std::uint64_t>(header, static_cast<std::uint64_t>(size)));
  return kFixed + 2 * (kPerJsonByte * json + 4 * size);
}

std::vector<std::string> safetensors_seeds() {
  const TempFolder folder;
  const std::vector<float> values{1, 2, 3, 4, 5, 6};
  const std::vector<std::int64_t> counts{7, 8};
  write_safetensors(folder / "w",
                    {{"stem.weight", view_floats(values, {2, 3})},
                     {"scalar", view_floats(std::span(values).first(1), {})},
                     {"steps", {DType::I64, {2}, std::as_bytes(std::span(counts))}}},
                    {{"format", "voxnas"}});
  write_safetensors(folder / "empty", {});
  return {read_file(folder / "w", kMiB), read_file(folder / "empty", kMiB)};
}

// ---- torch.save files, and the pickle in them (which the archive's checksum hides from damage)
// ----

/// Values may refer to each other in circles: three levels are looked at, not all.
std::vector<const PickleValue*> some_values(const PickleValue& root) {
  std::vector<const PickleValue*> values{&root};
  for (const PickleValue* item : root.items) {
    if (item == nullptr) broken("a container holds nothing at all");
    values.push_back(item);
    values.insert(values.end(), item->items.begin(), item->items.end());
  }
  for (const PickleValue* value : values) {
    if ((value->kind == PickleValue::Kind::Tensor) != (value->tensor != nullptr))
      broken("a tensor that is none");
    value->find("network_weights");
  }
  return values;
}

/// One value of some hundred bytes for an opcode of one byte; the storages as float.
std::int64_t memory_of_pickle(Bytes bytes) {
  return kFixed + 2 * 300 * static_cast<std::int64_t>(bytes.size());
}

void run_pickle(Bytes bytes) {
  accept_errors([&] {
    std::deque<PickleValue> values;
    some_values(read_pickle(bytes, "fuzz.pkl", values));
  });
}

/// libzip makes room for 65,536 entries (2 MiB) where the directory seems to have more than it
/// says.
std::int64_t memory_of_torch_file(Bytes bytes) { return 2 * kMiB + memory_of_pickle(bytes); }

void run_torch_file(Bytes bytes) {
  accept_errors([&] {
    const TorchFile file(bytes, "fuzz.pth");
    int read = 0;
    for (const PickleValue* value : some_values(file.root())) {
      if (value->kind != PickleValue::Kind::Tensor || ++read > 20) continue;
      accept_errors([&] {
        std::int64_t count = 1;
        for (const std::int64_t size : value->tensor->shape) count *= size;
        if (static_cast<std::int64_t>(file.floats(*value).size()) != count)
          broken("elements and shape disagree");
      });
    }
  });
}

/// A zip archive as torch.save lays it out: entries without compression.
std::string torch_archive(const std::vector<std::pair<std::string, std::string>>& entries) {
  const TempFolder folder;
  const std::string path = (folder / "seed.pth").string();
  int problem = 0;
  zip_t* zip = zip_open(path.c_str(), ZIP_CREATE, &problem);
  if (zip == nullptr) broken("libzip writes no archive");
  for (const auto& [name, content] : entries) {
    zip_source_t* source = zip_source_buffer(zip, content.data(), content.size(), 0);
    const zip_int64_t index = zip_file_add(zip, name.c_str(), source, ZIP_FL_ENC_UTF_8);
    zip_set_file_compression(zip, static_cast<zip_uint64_t>(index), ZIP_CM_STORE, 0);
  }
  if (zip_close(zip) != 0) broken("libzip writes no archive");
  return read_file(path, kMiB);
}

/// {"network_weights": OrderedDict(w=tensor of 2 x 3, v=the same storage as 3 x 2, strided),
///  "list": [1, -2.5, None, the dict], "other": an object}
std::string checkpoint_pickle() {
  using namespace std::string_literals;
  const auto text = [](const std::string& t) {
    return "X"s + static_cast<char>(t.size()) + "\0\0\0"s + t;
  };
  const std::string storage =
      "(" + text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + "K\x06tQ";
  const auto tensor = [&](const std::string& sizes) {
    return "ctorch._utils\n_rebuild_tensor_v2\n(" + storage + "K\0"s + sizes +
           "\x89"
           "ccollections\nOrderedDict\n)RtR";
  };
  return "\x80\x02}q\0("s + text("network_weights") + "ccollections\nOrderedDict\n)Rq\x01(" +
         text("w") + tensor("K\x02K\x03\x86K\x03K\x01\x86") + text("v") +
         tensor("K\x03K\x02\x86K\x01K\x03\x86") + "u" + text("list") +
         "](K\x01G\xc0\x04\0\0\0\0\0\0Nh\x01"
         "e"s +
         text("other") + "cnumpy\ndtype\n" + text("f8") + "\x85R}bu.";
}

std::vector<std::string> pickle_seeds() { return {checkpoint_pickle(), std::string("\x80\x02].")}; }

std::vector<std::string> torch_file_seeds() {
  std::string numbers;
  for (const float value : {1.0F, 2.0F, 3.0F, 4.0F, 5.0F, 6.0F}) {
    numbers.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  return {torch_archive({{"model/data.pkl", checkpoint_pickle()},
                         {"model/byteorder", "little"},
                         {"model/data/0", numbers},
                         {"model/version", "3\n"}}),
          torch_archive({{"archive/data.pkl", "\x80\x02]."}})};
}

}  // namespace

const std::vector<FuzzTarget>& fuzz_targets() {
  static const std::vector<FuzzTarget> targets = {
      {"nifti", run_nifti, memory_of_nifti, nifti_seeds},
      {"dataset", run_dataset, memory_of_json, dataset_seeds},
      {"graph", run_graph, memory_of_json, graph_seeds},
      {"safetensors", run_safetensors, memory_of_safetensors, safetensors_seeds},
      {"pickle", run_pickle, memory_of_pickle, pickle_seeds},
      {"torch_file", run_torch_file, memory_of_torch_file, torch_file_seeds},
  };
  return targets;
}

const FuzzTarget& fuzz_target(const std::string& name) {
  for (const FuzzTarget& target : fuzz_targets()) {
    if (target.name == name) return target;
  }
  throw std::out_of_range("no fuzz target " + name);
}

}  // namespace nas::test
