// SPDX-License-Identifier: Apache-2.0
#include "nas/listeners/outbox.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/exception_text.h"
#include "nas/core/log.h"

namespace nas {
namespace {

constexpr std::size_t kMostLetters = 1000;  // that wait

}  // namespace

Outbox::Outbox(std::string name, Send send)
    : name_(std::move(name)), send_(std::move(send)), thread_([this] { work(); }) {}

Outbox::~Outbox() {
  std::unique_lock<std::mutex> lock(mutex_);
  closing_ = true;
  changed_.notify_all();
  const std::chrono::duration<double> last(kLastSeconds);
  changed_.wait_for(lock, last, [this] { return over_; });
  give_up_ = true;
  const std::size_t left = letters_.size();
  lock.unlock();
  thread_.join();
  if (left > 0) log_warning(name_, ": ", left, " event(s) were not sent: the search has ended");
  if (lost_ > 0) log_warning(name_, ": ", lost_, " event(s) were not sent: it was too slow");
}

void Outbox::put(Json letter) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (over_) return;
  if (letters_.size() >= kMostLetters) {
    ++lost_;
    return;
  }
  letters_.push_back(std::move(letter));
  changed_.notify_all();
}

void Outbox::work() {
  int failures = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  while (failures < kMostFailures && !give_up_) {
    changed_.wait(lock, [this] { return closing_ || !letters_.empty(); });
    if (letters_.empty()) break;
    const Json letter = std::move(letters_.front());
    letters_.pop_front();
    lock.unlock();
    std::string problem;
    try {
      problem = send_(letter, give_up_);
    } catch (const std::exception& error) {
      problem = exception_text(error);
    }
    failures = problem.empty() ? 0 : failures + 1;
    if (!problem.empty() && !give_up_) {
      log_warning(name_, ": ", problem, failures == kMostFailures ? "; it hears nothing more" : "");
    }
    lock.lock();
  }
  over_ = true;
  if (failures == kMostFailures) letters_.clear();
  changed_.notify_all();
}

}  // namespace nas
