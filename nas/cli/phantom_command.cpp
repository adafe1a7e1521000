// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/phantom.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <sstream>
#include <string>

#include "nas/cli/command.h"
#include "nas/core/error.h"
#include "nas/core/log.h"

namespace nas {
namespace {

/// "40x48x40" as three numbers, D H W.
template <class T>
std::array<T, 3> parse_triple(const std::string& option, const std::string& text) {
  std::array<T, 3> out{};
  std::istringstream in(text);
  char first = 'x';
  char second = 'x';
  in >> out[0] >> first >> out[1] >> second >> out[2];
  NAS_CHECK_KIND(Usage,
                 !in.fail() && in.peek() == EOF && first == 'x' && second == 'x',
                 option,
                 ": expected three numbers like 40x48x40 (D H W), found \"",
                 text,
                 "\"");
  return out;
}

}  // namespace

Command phantom_command() {
  return {
      .name = "phantom", .setup = [](CLI::App& app) -> std::function<int()> {
        struct Arguments {
          std::string folder, size = "40x48x40", spacing = "1x1x1";
          PhantomOptions options;
        };
        auto a = std::make_shared<Arguments>();
        PhantomOptions& o = a->options;
        app.add_option("OUT", a->folder, "Folder to write, new or empty")->required();
        app.add_option("--cases", o.cases, "Number of labelled cases")->capture_default_str();
        app.add_option("--test-cases", o.test_cases, "Number of unlabelled cases")
            ->capture_default_str();
        app.add_option("--size", a->size, "Voxels of the mean case, DxHxW")->capture_default_str();
        app.add_option("--size-jitter", o.size_jitter, "Share by which the edges of the cases vary")
            ->capture_default_str();
        app.add_option("--spacing", a->spacing, "Voxel size in mm, DxHxW")->capture_default_str();
        app.add_option("--channels", o.channels, "Number of channels")->capture_default_str();
        app.add_option("--classes", o.classes, "Number of foreground classes")
            ->capture_default_str();
        app.add_flag(
            "--alike", o.alike, "Make all organs look the same: only their place tells them apart");
        app.add_flag("--lesion-class",
                     o.lesion_class,
                     "Make the last class a lesion that is in about half of the cases");
        app.add_option("--modality", o.modality, "Name of the channels; CT gives int16 values")
            ->capture_default_str();
        app.add_option(
               "--noise", o.noise, "Standard deviation of the noise as a share of the brightness")
            ->capture_default_str();
        app.add_option("--seed", o.seed, "Seed of all random numbers: same seed, same files")
            ->capture_default_str();
        app.add_option("--layout", o.layout, "Layout of the folder: msd or nnunet")
            ->check(CLI::IsMember({"msd", "nnunet"}))
            ->capture_default_str();
        app.add_option(
            "--name", o.name, "Name of the data set in dataset.json (default: the folder's)");
        return [a] {
          a->options.size = parse_triple<std::int64_t>("--size", a->size);
          a->options.spacing_mm = parse_triple<double>("--spacing", a->spacing);
          write_phantom(a->folder, a->options);
          log_info(
              a->folder, ": ", a->options.cases, " cases, ", a->options.test_cases, " test cases");
          return 0;
        };
      }};
}

}  // namespace nas
