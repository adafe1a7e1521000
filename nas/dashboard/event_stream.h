// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "nas/dashboard/run_board.h"

namespace nas {

/// What changes in runs, for any number of readers: one thread looks at the databases that somebody
/// follows, four times a second, and each change becomes one text for all.
class EventStream {
 public:
  static constexpr std::size_t kMostReaders = 32;

  explicit EventStream(RunBoard& board);
  ~EventStream();
  EventStream(const EventStream&) = delete;
  EventStream& operator=(const EventStream&) = delete;

  /// A reader of some runs; null if there are kMostReaders already.
  class Reader;
  std::unique_ptr<Reader> follow(const std::vector<std::int64_t>& runs);
  /// Readers end.
  void stop();
  std::size_t readers();
  std::int64_t looks() const { return looks_; }  // at databases, so far

 private:
  void poll();
  RunBoard& board_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<Reader*, std::vector<std::int64_t>> readers_;
  std::atomic<std::int64_t> looks_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

class EventStream::Reader {
 public:
  explicit Reader(EventStream& stream) : stream_(stream) {}
  ~Reader();
  /// Texts of server-sent events, or after `seconds` without any an empty one. Absent: it is over.
  std::optional<std::string> next(double seconds);

 private:
  friend class EventStream;
  EventStream& stream_;
  std::deque<std::string> waiting_;
  bool lost_ = false;  // too slow: it is told to ask for everything again
};

}  // namespace nas
