// SPDX-License-Identifier: Apache-2.0
#include "training/data/tensorboard.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <vector>

#include <isa-l/crc.h>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "training/data/tensorboard.pb.h"

namespace nas {
namespace {

/// Little-endian bytes of an integer.
template <class T>
std::string little_endian(T number) {
  std::string bytes(sizeof(T), '\0');
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    bytes[i] = static_cast<char>(static_cast<unsigned char>(number >> (8 * i)));
  }
  return bytes;
}

constexpr int kString = 7;  // TensorFlow's DT_STRING

std::string of_settings(const char* tag, const events::Hyperparameters& content, double wall_time) {
  events::Event event;
  event.set_wall_time(wall_time);
  events::Value& entry = *event.mutable_summary()->add_value();
  entry.set_tag(tag);
  events::Plugin& plugin = *entry.mutable_metadata()->mutable_plugin();
  plugin.set_name("hparams");
  plugin.set_content(content.SerializeAsString());
  // TensorBoard reads the plug-in's content and wants some value beside it.
  entry.mutable_tensor()->set_type(kString);
  entry.mutable_tensor()->mutable_shape()->add_dimension()->set_size(0);
  return event.SerializeAsString();
}

}  // namespace

double wall_time_now() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

std::uint32_t crc32c(std::string_view bytes) {
  // ISA-L leaves the inversions at both ends to the caller, and takes an int as length and a
  // writable pointer.
  constexpr std::size_t kPiece = 1 << 30;
  std::uint32_t crc = 0xffffffffu;
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, kPiece);
    auto* data = reinterpret_cast<unsigned char*>(const_cast<char*>(piece.data()));
    crc = crc32_iscsi(data, static_cast<int>(piece.size()), crc);
    bytes.remove_prefix(piece.size());
  }
  return ~crc;
}

std::uint32_t masked_crc32c(std::string_view bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

EventWriter::EventWriter(const std::filesystem::path& folder, double wall_time) {
  create_folder(folder);
  // Readers take the files of a folder in the order of their names: time first.
  const std::string stem =
      "events.out.tfevents." + std::to_string(static_cast<std::int64_t>(wall_time)) + ".voxnas.";
  for (int n = 0; !out_; ++n) {
    file_ = folder / (stem + std::to_string(n));
    out_.reset(std::fopen(file_.c_str(), "wbx"));
    NAS_CHECK_KIND(Io,
                   out_ || (errno == EEXIST && n < 10000),
                   file_.string(),
                   ": cannot create the event file: ",
                   std::strerror(errno));
  }
  events::Event event;
  event.set_wall_time(wall_time);
  event.set_file_version("brain.Event:2");
  record(event.SerializeAsString());
  flush();
}

void EventWriter::scalar(const std::string& tag,
                         double value,
                         std::int64_t step,
                         double wall_time) {
  events::Event event;
  event.set_wall_time(wall_time);
  event.set_step(step);
  events::Value& entry = *event.mutable_summary()->add_value();
  entry.set_tag(tag);
  entry.set_scalar(static_cast<float>(value));
  record(event.SerializeAsString());
}

void EventWriter::text(const std::string& tag, const std::string& markdown, double wall_time) {
  events::Event event;
  event.set_wall_time(wall_time);
  events::Value& entry = *event.mutable_summary()->add_value();
  entry.set_tag(tag);
  entry.mutable_metadata()->mutable_plugin()->set_name("text");
  events::Tensor& tensor = *entry.mutable_tensor();
  tensor.set_type(kString);
  tensor.mutable_shape()->add_dimension()->set_size(1);
  tensor.add_text(markdown);
  record(event.SerializeAsString());
}

void EventWriter::settings(const std::map<std::string, std::variant<double, std::string>>& settings,
                           double wall_time) {
  events::Hyperparameters content;
  content.mutable_begin()->set_seconds(wall_time);
  for (const auto& [name, value] : settings) {
    events::Setting& setting = (*content.mutable_begin()->mutable_settings())[name];
    if (const double* number = std::get_if<double>(&value)) {
      setting.set_number(*number);
    } else {
      setting.set_text(std::get<std::string>(value));
    }
  }
  record(of_settings("_hparams_/session_start_info", content, wall_time));
}

void EventWriter::ended(bool good, double wall_time) {
  events::Hyperparameters content;
  content.mutable_end()->set_status(good ? 1 : 2);
  content.mutable_end()->set_seconds(wall_time);
  record(of_settings("_hparams_/session_end_info", content, wall_time));
}

void EventWriter::record(const std::string& event) {
  const std::string length = little_endian(static_cast<std::uint64_t>(event.size()));
  const std::string bytes =
      length + little_endian(masked_crc32c(length)) + event + little_endian(masked_crc32c(event));
  NAS_CHECK_KIND(Io,
                 std::fwrite(bytes.data(), 1, bytes.size(), out_.get()) == bytes.size(),
                 file_.string(),
                 ": cannot write: ",
                 std::strerror(errno));
}

void EventWriter::flush() {
  NAS_CHECK_KIND(
      Io, std::fflush(out_.get()) == 0, file_.string(), ": cannot write: ", std::strerror(errno));
}

}  // namespace nas
