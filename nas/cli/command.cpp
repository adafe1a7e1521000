// SPDX-License-Identifier: Apache-2.0
#include "nas/cli/command.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "search_spaces/planned_unet/planner_kinds.h"

namespace nas {

void add_data_options(CLI::App& app, DataOptions& options) {
  app.add_option("--planner",
                 options.planner,
                 "Rules that choose patch, batch and planned network: nnU-Net's default ones, or "
                 "those of its residual encoders (resenc-m for 8 GB, resenc-l for 24 GB)")
      ->check(CLI::IsMember(planner_names()))
      ->capture_default_str();
  app.add_option("--orientation",
                 options.orientation,
                 "Turn all images to these axes (RAS, LPS, ...). Left out: the orientation that "
                 "most images of the data set have");
  add_accept_misaligned(app,
                        options.accept_misaligned,
                        "Go on where the files of a case disagree about voxel size or position: "
                        "they are laid on each other voxel by voxel");
}

void add_accept_misaligned(CLI::App& app, bool& accept, const std::string& help) {
  app.add_flag("--accept-misaligned", accept, help);
}

void add_threads(CLI::App& app, int& threads) {
  app.add_option("--threads",
                 threads,
                 "Processor cores to compute with; 0 takes all that this process may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
}

void add_device(CLI::App& app, std::string& device, std::string& precision) {
  app.add_option("--device",
                 device,
                 "Where to compute: cpu, cuda, or cuda:N for one of several GPUs; auto takes a GPU "
                 "if there is one")
      ->capture_default_str();
  app.add_option("--precision",
                 precision,
                 "Numbers to compute in: fp32, or the faster bf16 and fp16 (fp16 on GPUs only); "
                 "auto takes what suits the device")
      ->check(CLI::IsMember({"auto", "fp32", "bf16", "fp16"}))
      ->capture_default_str();
}

std::string quoted(const std::string& word) {
  if (!word.empty() &&
      word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                             "-_=./:,@+%") == std::string::npos) {
    return word;
  }
  std::string result = "'";
  for (const char c : word) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

void check_resume_options(const CLI::App& app, const std::vector<std::string>& taken) {
  std::vector<std::string> found;
  for (const CLI::Option* option : app.get_options()) {
    if (option->count() == 0 || std::ranges::find(taken, option->get_name()) != taken.end()) {
      continue;
    }
    found.push_back(option->get_name());
  }
  NAS_CHECK_KIND(Usage,
                 found.empty(),
                 app.get_name(),
                 " --resume goes on with what the run was started with; leave out ",
                 joined(found),
                 " (DATA may say where the data set lies now)");
}

}  // namespace nas
