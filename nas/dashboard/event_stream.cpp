// SPDX-License-Identifier: Apache-2.0
#include "nas/dashboard/event_stream.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <set>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr auto kEvery = std::chrono::milliseconds(250);
constexpr std::size_t kMostWaiting = 64;  // texts of a reader that does not read

std::string event_text(const char* name, const std::string& id, const Json& data) {
  return concat_text("id: ",
                     id,
                     "\nevent: ",
                     name,
                     "\ndata: ",
                     data.dump(-1, ' ', false, Json::error_handler_t::replace),
                     "\n\n");
}

}  // namespace

EventStream::EventStream(RunBoard& board) : board_(board), thread_([this] { poll(); }) {}

EventStream::~EventStream() {
  stop();
  thread_.join();
}

void EventStream::stop() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  wake_.notify_all();
}

std::size_t EventStream::readers() {
  const std::lock_guard lock(mutex_);
  return readers_.size();
}

std::unique_ptr<EventStream::Reader> EventStream::follow(const std::vector<std::int64_t>& runs) {
  const std::lock_guard lock(mutex_);
  if (readers_.size() >= kMostReaders || stopping_) return nullptr;
  auto reader = std::make_unique<Reader>(*this);
  readers_[reader.get()] = runs;
  wake_.notify_all();
  return reader;
}

void EventStream::poll() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (readers_.empty()) {
      wake_.wait(lock, [this] { return stopping_ || !readers_.empty(); });
      continue;
    }
    std::set<std::int64_t> wanted;
    for (const auto& [reader, runs] : readers_) wanted.insert(runs.begin(), runs.end());
    lock.unlock();
    std::map<std::int64_t, std::string> texts;
    for (const std::int64_t number : wanted) {
      const std::shared_ptr<LiveRun> run = board_.run(number);
      if (!run) continue;
      ++looks_;
      const std::string before = run->rev();
      Json change = run->refresh();
      if (change.is_null()) continue;
      change["run"] = number;
      change["before"] = before;  // who knows another state asks for everything since its own
      texts[number] = event_text("change", change.at("rev"), change);
    }
    lock.lock();
    for (auto& [reader, runs] : readers_) {
      for (const auto& [number, text] : texts) {
        if (std::ranges::find(runs, number) == runs.end()) continue;
        if (reader->waiting_.size() >= kMostWaiting) {
          reader->waiting_.clear();
          reader->lost_ = true;
        }
        if (!reader->lost_) reader->waiting_.push_back(text);
      }
    }
    wake_.notify_all();
    wake_.wait_for(lock, kEvery, [this] { return stopping_; });
  }
}

EventStream::Reader::~Reader() {
  const std::lock_guard lock(stream_.mutex_);
  stream_.readers_.erase(this);
}

std::optional<std::string> EventStream::Reader::next(double seconds) {
  std::unique_lock lock(stream_.mutex_);
  stream_.wake_.wait_for(lock, std::chrono::duration<double>(seconds), [this] {
    return stream_.stopping_ || lost_ || !waiting_.empty();
  });
  if (stream_.stopping_) return std::nullopt;
  if (std::exchange(lost_, false)) return event_text("lost", "0", Json::object());
  std::string text;
  for (const std::string& one : waiting_) text += one;
  waiting_.clear();
  return text;
}

}  // namespace nas
