// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "nas/core/json.h"

namespace nas {

inline constexpr int kMostFailures = 3;
inline constexpr double kLastSeconds = 5;

/// Letters to a server, sent one after the other by a thread of its own, so that whoever writes one
/// waits for nobody. A letter that fails is named in the log; after kMostFailures in a row no more
/// are sent. With this object's end what is left is sent within kLastSeconds.
class Outbox {
 public:
  /// \param send one letter; returns "", or what went wrong. It gives up when the flag is set.
  using Send = std::function<std::string(const Json& letter, const std::atomic<bool>& give_up)>;
  Outbox(std::string name, Send send);
  ~Outbox();
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;

  void put(Json letter);

 private:
  void work();
  const std::string name_;
  const Send send_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Json> letters_;
  std::int64_t lost_ = 0;  // for want of room
  bool closing_ = false, over_ = false;
  std::atomic<bool> give_up_ = false;
  std::thread thread_;
};

}  // namespace nas
