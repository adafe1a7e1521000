// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace nas {

/// Writes one TensorBoard event file into a folder; a resumed run opens another file in the same
/// folder, and `tensorboard --logdir` joins them. Records appear in order; each is length, masked
/// CRC32C of the length, a serialised Event, masked CRC32C of it (TFRecord framing).
class EventWriter {
 public:
  /// Creates the folder if needed and a new file `events.out.tfevents.<seconds>.voxnas.<n>`, the
  /// first n that is free. \param wall_time seconds since 1970, an argument so that nothing here
  /// reads a clock. \throws Error(Io).
  EventWriter(const std::filesystem::path& folder, double wall_time);

  void scalar(const std::string& tag, double value, std::int64_t step, double wall_time);
  /// \param png a whole PNG file of width x height pixels with 1 (grey), 3 (RGB) or 4 (RGBA) colour
  /// channels.
  void image_png(const std::string& tag,
                 std::string_view png,
                 std::int64_t width,
                 std::int64_t height,
                 int colours,
                 std::int64_t step,
                 double wall_time);
  void flush();  // \throws Error(Io) if the disk is full
  const std::filesystem::path& file() const { return file_; }

 private:
  void record(const std::string& event);
  std::filesystem::path file_;
  std::ofstream out_;
};

/// CRC-32C (Castagnoli): crc32c("123456789") = 0xE3069283.
std::uint32_t crc32c(std::string_view bytes);

}  // namespace nas
