// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nas/core/json.h"

namespace nas {

/// What starts a command line as the user's shell would.
std::vector<std::string> shell_words(const std::string& command);

struct PeerOptions {
  std::vector<std::string> command;    // program (looked for in PATH) and its arguments
  std::string name = "the program";    // for messages
  double seconds = 10;                 // for an answer
  std::int64_t most_bytes = 16 << 20;  // of a line
};

/// A program of the user that talks in lines of JSON: one object a line, UTF-8, over its standard
/// input and output. What it writes to its standard error is logged. It is started once, and ended
/// with this object: its input is closed, and it is killed if it has not ended soon after.
/// What it does wrong (no answer in time, a line that is no JSON or too long, its end) is an
/// Error(Input) that names it and quotes the line.
class ProcessPeer {
 public:
  /// \throws Error(Usage) if it cannot be started.
  explicit ProcessPeer(PeerOptions options);
  ~ProcessPeer();
  ProcessPeer(const ProcessPeer&) = delete;
  ProcessPeer& operator=(const ProcessPeer&) = delete;

  void send(const Json& object);
  /// The next line. nullopt if none comes within `seconds` (0: what is there already).
  std::optional<Json> receive(double seconds);
  /// send, then receive within the time limit.
  Json call(const Json& object);
  /// The text of the line that was received last, shortened: for messages about what it means.
  std::string last_line() const;
  const std::string& name() const { return options_.name; }

 private:
  bool read_some(int milliseconds);
  void log_errors();
  [[noreturn]] void fail_with(const std::string& what);
  std::string how_it_ended();

  PeerOptions options_;
  pid_t pid_ = -1;
  int socket_ = -1, errors_ = -1;
  std::string buffer_, error_buffer_, line_;
};

}  // namespace nas
