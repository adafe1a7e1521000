// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace nas {

struct DashboardOptions {
  std::filesystem::path place;  // a run folder, a folder of runs, a results database
  std::string bind = "127.0.0.1";
  int port = 0;                         // 0: any that is free
  std::vector<std::string> hosts = {};  // names that browsers may use beside this machine's own
  bool actions = false;                 // steering runs, for those who have the token
  std::string token = {};               // "": a new one
  std::string version = {};
};

/// An HTTP server over runs that others write. It reads databases and files; with `actions` it also
/// writes wishes into databases, as `ctl` does. On a loopback address anybody of this machine may
/// look; on others everything needs the token.
class Dashboard {
 public:
  /// Binds. \throws Error(Usage|Input|Io) if there is no run, or the port is taken.
  explicit Dashboard(const DashboardOptions& options);
  ~Dashboard();
  Dashboard(const Dashboard&) = delete;
  Dashboard& operator=(const Dashboard&) = delete;

  /// The one address to open, with the token where one is needed.
  std::string url() const;
  int port() const;
  const std::string& token() const;
  /// Answers until stop(), which any thread may call.
  void serve();
  void stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nas
