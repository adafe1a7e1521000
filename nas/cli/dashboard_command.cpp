// SPDX-License-Identifier: Apache-2.0
#include <spawn.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "nas/cli/command.h"
#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/stop.h"
#include "nas/dashboard/assets.h"
#include "nas/dashboard/dashboard.h"
#include "nas/dashboard/http_rules.h"

extern char** environ;

namespace nas {
namespace {

struct Arguments {
  DashboardOptions options;
  std::string place, token_file;
  bool open = false;
};

std::string token_from(const std::string& file) {
  std::string token = read_file(file, 4096);
  token.erase(token.find_last_not_of(" \t\r\n") + 1);
  NAS_CHECK_KIND(Usage,
                 token.size() >= 16 && token.find_first_of(" \t\r\n#&") == std::string::npos,
                 file,
                 ": expected a token of at least 16 letters in one line");
  return token;
}

/// The user's browser; the printed address is there without it too.
void open_browser(const std::string& url) {
  std::string program = "xdg-open", address = url;
  char* words[] = {program.data(), address.data(), nullptr};
  pid_t child = 0;
  if (::posix_spawnp(&child, "xdg-open", nullptr, nullptr, words, environ) != 0) {
    log_warning("--open: xdg-open cannot be started; open the address yourself");
  }
}

int run(Arguments& a) {
  DashboardOptions& o = a.options;
  o.place = a.place;
  o.version = NAS_VERSION;
  if (!a.token_file.empty()) o.token = token_from(a.token_file);
  const std::string missing = missing_web_assets();
  NAS_CHECK(missing.empty(), "dashboard: ", missing);
  const bool loopback = is_loopback(o.bind);
  NAS_CHECK_KIND(Usage,
                 loopback || !a.token_file.empty(),
                 "--bind ",
                 o.bind,
                 ": others can reach this address: choose a token, --token-file FILE (anybody who "
                 "has it sees images and names; nothing is encrypted). Safer: leave --bind away "
                 "and use ssh -L PORT:127.0.0.1:PORT");
  install_stop_handler();
  Dashboard dashboard(o);
  if (!loopback) {
    log_warning(
        "the address can be reached from other machines: images may identify patients, and "
        "nothing is encrypted; use ssh -L or a reverse proxy");
  }
  std::cout << dashboard.url() << std::endl;
  if (a.open) open_browser(dashboard.url());
  std::atomic<bool> over{false};
  std::thread watcher([&] {
    while (!over && !stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    dashboard.stop();
  });
  dashboard.serve();
  over = true;
  watcher.join();
  return 0;
}

}  // namespace

Command dashboard_command() {
  return {.name = "dashboard", .setup = [](CLI::App& app) -> std::function<int()> {
            auto a = std::make_shared<Arguments>();
            app.add_option("RUN", a->place, "Run folder, folder of runs, or results database")
                ->required();
            app.add_option("--port", a->options.port, "0 (default): any that is free")
                ->check(CLI::Range(0, 65535));
            app.add_option("--bind",
                           a->options.bind,
                           "Address (default 127.0.0.1: this machine only; from elsewhere: ssh -L "
                           "8000:127.0.0.1:8000 with --port 8000)");
            app.add_option("--host",
                           a->options.hosts,
                           "A name under which browsers may ask, beside this machine's own");
            app.add_flag("--actions",
                         a->options.actions,
                         "Let pages with the token of the printed address abort, enqueue, stop");
            app.add_option("--token-file", a->token_file, "Take the token from this file");
            app.add_flag("--open", a->open, "Open the browser");
            return [a] { return run(*a); };
          }};
}

}  // namespace nas
