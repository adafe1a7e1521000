// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/leading/worker_pool.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/stopwatch.h"
#include "nas/search/worker_list.h"

extern char** environ;

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr int kMostRestarts = 3;
constexpr double kGraceSeconds = 60;  // for a step, a checkpoint and the way out
constexpr std::size_t kShownOfLog = 2000;

/// This process's environment, for a child.
class Environment {
 public:
  Environment() {
    for (char** each = environ; *each != nullptr; ++each) lines_.emplace_back(*each);
  }
  void set(const std::string& name, const std::string& value) {
    std::erase_if(lines_, [&](const std::string& line) { return line.starts_with(name + "="); });
    lines_.push_back(name + "=" + value);
  }
  std::vector<char*> pointers() {
    std::vector<char*> result;
    for (std::string& line : lines_) result.push_back(line.data());
    result.push_back(nullptr);
    return result;
  }

 private:
  std::vector<std::string> lines_;
};

std::string end_of(const fs::path& log) {
  if (!fs::exists(log)) return "";
  const std::string text = read_file(log, std::int64_t{1} << 30);
  return text.substr(text.size() - std::min(text.size(), kShownOfLog));
}

std::string words_of(int status) {
  if (WIFSIGNALED(status)) {
    return concat_text(
        "was ended by signal ", WTERMSIG(status), " (", strsignal(WTERMSIG(status)), ")");
  }
  return concat_text("ended with exit code ", WEXITSTATUS(status));
}

}  // namespace

WorkerPool::WorkerPool(RunFolder run,
                       const std::vector<std::string>& devices,
                       int threads,
                       std::string executor,
                       fs::path program)
    : run_(std::move(run)),
      threads_(threads),
      executor_(std::move(executor)),
      program_(std::move(program)) {
  if (program_.empty()) program_ = fs::read_symlink("/proc/self/exe");
  create_folder(run_.workers());
  for (const std::string& device : devices) {
    processes_.push_back({.name = concat_text("W", processes_.size() + 1), .device = device});
  }
  for (Process& process : processes_) start(process);
}

fs::path WorkerPool::log_of(const Process& process) const {
  return run_.workers() / (process.name + ".log");
}

void WorkerPool::start(Process& process) {
  std::vector<std::string> words = {program_.string(),
                                    "worker",
                                    "--run",
                                    run_.text(),
                                    "--name",
                                    process.name,
                                    "--device",
                                    process.device,
                                    "--threads",
                                    std::to_string(threads_),
                                    "--with-parent",
                                    std::to_string(::getpid())};
  if (!executor_.empty()) words.insert(words.end(), {"--executor", executor_});
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  std::vector<std::string> devices;
  for (const Process& each : processes_) devices.push_back(each.device);
  Environment environment;
  // The newer name wins where the user set it.
  const char* const variable =
      std::getenv("PYTORCH_ALLOC_CONF") ? "PYTORCH_ALLOC_CONF" : "PYTORCH_CUDA_ALLOC_CONF";
  const char* const given = std::getenv(variable);
  const std::string setting =
      allocator_setting(devices, process.device, given == nullptr ? "" : given);
  if (!setting.empty()) environment.set(variable, setting);
  const std::string log = log_of(process).string();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  // A group of its own: Ctrl-C reaches the leader, which then asks them to stop.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  const int error = posix_spawn(&process.pid,
                                program_.c_str(),
                                &actions,
                                &attributes,
                                arguments.data(),
                                environment.pointers().data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  NAS_CHECK_KIND(
      Io, error == 0, program_.string(), ": cannot start a worker: ", std::strerror(error));
}

std::int64_t WorkerPool::tend() {
  std::int64_t alive = 0;
  for (Process& process : processes_) {
    if (process.given_up) continue;
    int status = 0;
    if (::waitpid(process.pid, &status, WNOHANG) == 0) {
      ++alive;
      continue;
    }
    process.pid = -1;
    if (WIFSIGNALED(status) && process.restarts < kMostRestarts) {
      ++process.restarts;
      log_warning("worker ", process.name, " ", words_of(status), "; it is started again");
      start(process);
      ++alive;
      continue;
    }
    process.given_up = true;
    log_warning("worker ", process.name, " ", words_of(status), "; see ", log_of(process).string());
  }
  NAS_CHECK(alive > 0,
            run_.text(),
            ": no worker is left; the log of the last one, ",
            log_of(processes_.back()).string(),
            ", ends with:\n",
            end_of(log_of(processes_.back())));
  return alive;
}

WorkerPool::~WorkerPool() {
  for (const Process& process : processes_) {
    if (process.pid > 0 && !process.given_up) ::kill(process.pid, SIGTERM);
  }
  const Stopwatch watch;
  for (const Process& process : processes_) {
    if (process.pid <= 0 || process.given_up) continue;
    int status = 0;
    while (::waitpid(process.pid, &status, WNOHANG) == 0) {
      if (watch.seconds() > kGraceSeconds) {
        log_warning("worker ", process.name, " does not stop; it is ended");
        ::kill(process.pid, SIGKILL);
        ::waitpid(process.pid, &status, 0);
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

}  // namespace nas
