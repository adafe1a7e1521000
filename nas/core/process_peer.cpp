// SPDX-License-Identifier: Apache-2.0
#include "nas/core/process_peer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/stop.h"
#include "nas/core/stopwatch.h"

extern char** environ;

namespace nas {
namespace {

constexpr std::size_t kShown = 200;       // of a line in a message
constexpr std::size_t kErrorLine = 2000;  // a longer line of the standard error is cut
constexpr int kLook = 200;                // ms between two looks at Ctrl-C
constexpr double kGraceSeconds = 2;       // to end by itself

}  // namespace

std::vector<std::string> shell_words(const std::string& command) {
  return {"/bin/sh", "-c", command};
}

ProcessPeer::ProcessPeer(PeerOptions options) : options_(std::move(options)) {
  NAS_CHECK_KIND(
      Usage, !options_.command.empty(), options_.name, ": expected a program to start, found none");
  std::array<int, 2> pair{}, errors{};
  // A socket: writing to a program that has ended is an error here and no signal.
  NAS_CHECK_KIND(Io,
                 ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0 &&
                     ::pipe2(errors.data(), O_CLOEXEC) == 0,
                 options_.name,
                 ": cannot make a pipe: ",
                 std::strerror(errno));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pair[1], 0);
  posix_spawn_file_actions_adddup2(&actions, pair[1], 1);
  posix_spawn_file_actions_adddup2(&actions, errors[1], 2);
  posix_spawnattr_t attributes;  // a group of its own: it ends with its children
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  std::vector<char*> words;
  for (std::string& word : options_.command) words.push_back(word.data());
  words.push_back(nullptr);
  const int error = ::posix_spawnp(&pid_, words[0], &actions, &attributes, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  ::close(pair[1]);
  ::close(errors[1]);
  socket_ = pair[0];
  errors_ = errors[0];
  ::fcntl(errors_, F_SETFL, O_NONBLOCK);
  if (error != 0) {
    pid_ = -1;
    ::close(socket_);
    ::close(errors_);
    fail(ErrorKind::Usage,
         options_.name,
         ": cannot start ",
         options_.command.front(),
         ": ",
         std::strerror(error));
  }
}

ProcessPeer::~ProcessPeer() {
  ::shutdown(socket_, SHUT_WR);
  const Stopwatch watch;
  int status = 0;
  while (pid_ > 0 && ::waitpid(pid_, &status, WNOHANG) == 0) {
    if (watch.seconds() > kGraceSeconds) {
      ::kill(-pid_, SIGKILL);
      ::waitpid(pid_, &status, 0);
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  log_errors();
  ::close(socket_);
  ::close(errors_);
}

std::string ProcessPeer::last_line() const {
  return line_.size() > kShown ? line_.substr(0, kShown) + "..." : line_;
}

void ProcessPeer::log_errors() {
  std::array<char, 4096> bytes{};
  for (ssize_t count = 0; (count = ::read(errors_, bytes.data(), bytes.size())) > 0;) {
    error_buffer_.append(bytes.data(), static_cast<std::size_t>(count));
  }
  for (std::size_t end = 0; (end = error_buffer_.find('\n')) != std::string::npos;) {
    log_info(options_.name, ": ", error_buffer_.substr(0, std::min(end, kErrorLine)));
    error_buffer_.erase(0, end + 1);
  }
  if (error_buffer_.size() > kErrorLine) error_buffer_.clear();
}

std::string ProcessPeer::how_it_ended() {
  int status = 0;
  for (int i = 0; i < 100; ++i) {  // its end of the pipe may close a moment before
    if (pid_ <= 0) break;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      return WIFSIGNALED(status) ? concat_text("ended by signal ", WTERMSIG(status))
                                 : concat_text("ended with exit code ", WEXITSTATUS(status));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return "closed its output";
}

void ProcessPeer::fail_with(const std::string& what) {
  log_errors();
  fail(ErrorKind::Input, options_.name, " (", options_.command.front(), "): ", what);
}

void ProcessPeer::send(const Json& object) {
  const std::string text = object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  const Stopwatch watch;
  for (std::size_t sent = 0; sent < text.size();) {
    const ssize_t count =
        ::send(socket_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) {
      sent += static_cast<std::size_t>(count);
      continue;
    }
    if (errno == EPIPE || errno == ECONNRESET) fail_with(how_it_ended());
    if (watch.seconds() > options_.seconds) {
      fail_with(concat_text("does not read what it is sent, for ", options_.seconds, " s"));
    }
    pollfd wait{socket_, POLLOUT, 0};
    ::poll(&wait, 1, kLook);
  }
}

/// Reads what is there, or waits for it. \returns false at the end of the program's output.
bool ProcessPeer::read_some(int milliseconds) {
  std::array<pollfd, 2> wait{{{socket_, POLLIN, 0}, {errors_, POLLIN, 0}}};
  ::poll(wait.data(), 2, milliseconds);
  log_errors();
  std::array<char, 65536> bytes{};
  const ssize_t count = ::recv(socket_, bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (count > 0) buffer_.append(bytes.data(), static_cast<std::size_t>(count));
  if (count < 0 && errno == ECONNRESET) return false;
  return count != 0;
}

std::optional<Json> ProcessPeer::receive(double seconds) {
  const Stopwatch watch;
  while (true) {
    const std::size_t end = buffer_.find('\n');
    if (end != std::string::npos) {
      line_ = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      if (line_.find_first_not_of(" \t\r") == std::string::npos) continue;
      try {
        Json object = parse_json(line_, "its line");
        if (object.is_object()) return object;
      } catch (const Error&) {
      }
      fail_with("expected a line with a JSON object, found: " + last_line());
    }
    if (static_cast<std::int64_t>(buffer_.size()) > options_.most_bytes) {
      line_ = buffer_;
      fail_with(concat_text("wrote a line of more than ",
                            options_.most_bytes,
                            " bytes, which begins: ",
                            last_line()));
    }
    NAS_CHECK_KIND(Stopped, !stop_requested(), options_.name, ": stopped while it was waited for");
    const double left = seconds - watch.seconds();
    const int wait = std::clamp(static_cast<int>(std::ceil(1000 * left)), 0, kLook);
    if (!read_some(wait) && buffer_.find('\n') == std::string::npos) fail_with(how_it_ended());
    if (left <= 0 && buffer_.find('\n') == std::string::npos) return std::nullopt;
  }
}

Json ProcessPeer::call(const Json& object) {
  send(object);
  auto answer = receive(options_.seconds);
  if (!answer) {
    fail_with(concat_text(
        "gave no answer within ", options_.seconds, " s to ", object.dump().substr(0, kShown)));
  }
  return *std::move(answer);
}

}  // namespace nas
