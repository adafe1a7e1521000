// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

namespace nas {

/// Seconds since 1970.
double wall_time_now();

/// Writes one TensorBoard event file into a folder; a resumed run opens another file in the same
/// folder, and `tensorboard --logdir` joins them by step. Each record is its length, the masked
/// CRC-32C of the length, a serialised Event, the masked CRC-32C of that (TFRecord framing); a kill
/// leaves at most one broken record at the end, which readers skip.
class EventWriter {
 public:
  /// Creates the folder if needed and a new file `events.out.tfevents.<seconds>.voxnas.<n>` with
  /// the first n that is free. \throws Error(Io) naming the file.
  explicit EventWriter(const std::filesystem::path& folder, double wall_time = wall_time_now());

  void scalar(const std::string& tag,
              double value,
              std::int64_t step,
              double wall_time = wall_time_now());
  /// Markdown, which the tab "Text" shows.
  void text(const std::string& tag,
            const std::string& markdown,
            double wall_time = wall_time_now());
  /// The settings that this folder's training began with, for the tab "HParams": its scalars are
  /// what they led to.
  void settings(const std::map<std::string, std::variant<double, std::string>>& settings,
                double wall_time = wall_time_now());
  /// That training is over.
  void ended(bool good, double wall_time = wall_time_now());
  void flush();  // \throws Error(Io), e.g. when the disk is full
  const std::filesystem::path& file() const { return file_; }

 private:
  void record(const std::string& event);
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::filesystem::path file_;
  std::unique_ptr<std::FILE, Close> out_;
};

/// CRC-32C (Castagnoli): crc32c("123456789") = 0xE3069283.
std::uint32_t crc32c(std::string_view bytes);
/// The form that TFRecord stores: rotated right by 15 bits, plus 0xa282ead8.
std::uint32_t masked_crc32c(std::string_view bytes);

}  // namespace nas
