// SPDX-License-Identifier: Apache-2.0
#include "nas/search/worker_list.h"

#include <algorithm>
#include <charconv>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr std::size_t kMostWorkers = 256;

std::string device_of(const std::string& word, std::size_t place, int gpus) {
  const std::string where = concat_text("--workers: worker ", place);
  if (word == "cpu") return word;
  NAS_CHECK_KIND(Usage,
                 word.find(',') == std::string::npos,
                 where,
                 ": \"",
                 word,
                 "\": a trial trains on one device; write two workers instead, with \":\"");
  int id = -1;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
  NAS_CHECK_KIND(Usage,
                 error == std::errc() && end == word.data() + word.size() && id >= 0,
                 where,
                 ": expected \"cpu\" or the number of a GPU, found \"",
                 word.substr(0, 32),
                 "\"");
  NAS_CHECK_KIND(
      Usage,
      id < gpus,
      where,
      ": there is no GPU ",
      id,
      "; this machine has ",
      gpus == 0 ? std::string("none") : concat_text(gpus, gpus == 1 ? " (0)" : " (from 0)"));
  return concat_text("cuda:", id);
}

}  // namespace

std::vector<std::string> parse_workers(const std::string& text, int gpus) {
  std::vector<std::string> devices;
  if (text == "auto") {
    for (int id = 0; id < gpus; ++id) devices.push_back(concat_text("cuda:", id));
    if (devices.empty()) devices.emplace_back("cpu");
    return devices;
  }
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(':', begin), text.size());
    devices.push_back(device_of(text.substr(begin, end - begin), devices.size() + 1, gpus));
    NAS_CHECK_KIND(
        Usage, devices.size() <= kMostWorkers, "--workers: more than ", kMostWorkers, " workers");
    begin = end + 1;
  }
  return devices;
}

std::string allocator_setting(const std::vector<std::string>& devices,
                              const std::string& device,
                              const std::string& given) {
  constexpr const char* kFraction = "per_process_memory_fraction";
  const auto sharers = std::ranges::count(devices, device);
  if (sharers < 2 || device == "cpu" || given.find(kFraction) != std::string::npos) return given;
  return concat_text(
      given, given.empty() ? "" : ",", kFraction, ":", 1.0 / static_cast<double>(sharers));
}

}  // namespace nas
