// SPDX-License-Identifier: Apache-2.0
#include "nas/cli/torch_program.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <system_error>

#include "nas/core/error.h"
#include "nas/core/threads.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr const char* kName = "voxnas-torch";

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

/// First line of a file, empty if there is none.
std::string first_line(const fs::path& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

/// Version of a LibTorch folder, "2.11.0+cu130": the torch package says it in version.py, the plain
/// folder in build-version. Empty if neither does.
std::string libtorch_version(const fs::path& folder) {
  std::ifstream stream(folder / "version.py");
  for (std::string line; std::getline(stream, line);) {
    if (!line.starts_with("__version__")) continue;
    const std::size_t begin = line.find('\''), end = line.rfind('\'');
    if (begin < end) return line.substr(begin + 1, end - begin - 1);
  }
  return first_line(folder / "build-version");
}

/// The first two numbers: "2.11".
std::string major_minor(const std::string& version) {
  return version.substr(0, version.find('.', version.find('.') + 1));
}

/// Folder of the torch package of `python3`, which is looked up and not imported; empty if there is
/// none.
fs::path python_torch() {
  FILE* pipe = ::popen(
      "python3 -c \"import importlib.util as u; s = u.find_spec('torch'); print(s.origin if s else "
      "'')\" 2>/dev/null",
      "r");
  if (pipe == nullptr) return {};
  std::string text;
  for (int c; (c = std::fgetc(pipe)) != EOF && c != '\n';) text.push_back(static_cast<char>(c));
  ::pclose(pipe);
  return text.empty() ? fs::path() : fs::path(text).parent_path();
}

}  // namespace

fs::path distributed_libtorch(const fs::path& program) {
  const std::string wanted = first_line(program.parent_path() / "libtorch-version");
  if (wanted.empty()) return {};
  std::string found;
  const auto fits = [&](const fs::path& folder, const std::string& name) {
    std::error_code error;
    const bool there = !folder.empty() && fs::exists(folder / "lib" / "libtorch_cpu.so", error);
    const std::string version = there ? libtorch_version(folder) : "";
    if (there && major_minor(version) == major_minor(wanted)) return true;
    found +=
        "\n  " + name + (folder.empty() ? "" : " (" + folder.string() + ")") + ": " +
        (!there ? "no lib/libtorch_cpu.so" : "version " + (version.empty() ? "unknown" : version));
    return false;
  };
  if (is_set("VOXNAS_LIBTORCH")) {
    const fs::path named = std::getenv("VOXNAS_LIBTORCH");
    if (fits(named, "VOXNAS_LIBTORCH")) return named;
  } else {
    const fs::path beside = program.parent_path().parent_path().parent_path() / "libtorch";
    if (fits(beside, "beside VoxNAS")) return beside;
    const fs::path package = python_torch();
    if (fits(package, "the torch package of python3")) return package;
  }
  fail(ErrorKind::Usage,
       "LibTorch: expected version ",
       major_minor(wanted),
       " (`pip install torch==",
       wanted.substr(0, wanted.find('+')),
       "`, or VOXNAS_LIBTORCH=FOLDER), found",
       found);
}

std::vector<fs::path> torch_program_places(const fs::path& self) {
  const fs::path folder = self.parent_path();
  return {folder / kName, folder.parent_path() / "libexec" / "voxnas" / kName};
}

bool set_openmp_environment() {
  // By default a thread that waits for the others spins for milliseconds (300,000 turns). Where
  // cores are shared that is the time which the others need: small steps become 40 times slower.
  // 1,000 turns bridge the gap between two operations. Measured against 300,000 on two quiet cores:
  // planned networks 0.99 of the speed, steps of 50 ms 0.90; threads that sleep at once 0.91, 0.60.
  bool changed = false;
  if (!is_set("OMP_WAIT_POLICY") && !is_set("GOMP_SPINCOUNT")) {
    changed = ::setenv("GOMP_SPINCOUNT", "1000", 1) == 0;
  }
  if (!is_set("OMP_NUM_THREADS")) {
    changed |= ::setenv("OMP_NUM_THREADS", std::to_string(processor_count()).c_str(), 1) == 0;
  }
  return changed;
}

void become_torch_program(char** argv) {
  set_openmp_environment();
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  NAS_CHECK_KIND(Io, !error, "/proc/self/exe: cannot be read: ", error.message());
  std::string looked_at;
  for (const fs::path& place : torch_program_places(self)) {
    if (::access(place.c_str(), X_OK) == 0) {
      if (const fs::path libtorch = distributed_libtorch(place); !libtorch.empty()) {
        const std::string more = is_set("LD_LIBRARY_PATH")
                                     ? std::string(":") + std::getenv("LD_LIBRARY_PATH")
                                     : std::string();
        ::setenv("LD_LIBRARY_PATH", ((libtorch / "lib").string() + more).c_str(), 1);
      }
      ::execv(place.c_str(), argv);
      fail(ErrorKind::Io,
           place.string(),
           ": cannot be run: ",
           std::generic_category().message(errno));
    }
    looked_at += (looked_at.empty() ? "" : " or ") + place.string();
  }
  fail(
      ErrorKind::Io,
      looked_at,
      ": expected the program that does the work of this verb (it lies beside voxnas), found none");
}

}  // namespace nas
