// SPDX-License-Identifier: Apache-2.0
#include "nas/plugins/external_listener.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/plugins/event_listener.h"
#include "nas/plugins/space_json.h"

namespace nas {
namespace {

constexpr double kLastWords = 0.3;  // seconds of silence after which an ended search waits no more

class ExternalListener : public EventListener {
 public:
  ExternalListener(const SearchSpace& space, PeerOptions options)
      : EventListener(space),
        name_(options.name),
        peer_(std::make_unique<ProcessPeer>(std::move(options))) {
    peer_->call({{"do", "hello"}, {"protocol", 1}, {"role", "handler"}});
  }
  std::string name() const override { return name_; }

  void search_ended(SearchEnd end) override {
    EventListener::search_ended(end);
    listen(kLastWords);
  }
  std::string wants_to_stop() override {
    listen(0);
    return reason_;
  }

 private:
  void heard(const Json& event) override {
    guarded([&] { peer_->send(event); });
  }
  /// What it has said, until it says nothing for so many seconds.
  void listen(double seconds) {
    guarded([&] {
      while (const auto line = peer_->receive(seconds)) {
        try {
          obey(*line);
        } catch (const Error& error) {
          fail(error.kind(), error.what(), "; its line: ", peer_->last_line());
        }
      }
    });
  }
  void obey(const Json& line) {
    const JsonReader reader(line, name_);
    reader.check_keys({"stop", "enqueue", "annotate", "ok"});
    if (reader.has("stop")) reason_ = reader.at("stop").text();
    if (reader.has("enqueue")) {
      const JsonReader wanted = reader.at("enqueue");
      wanted.check_keys({"values"});
      enqueue(values_from_json(space_, wanted.at("values")));
    }
    if (reader.has("annotate")) {
      const JsonReader note = reader.at("annotate");
      note.check_keys({"trial", "key", "value"});
      annotate(note.at("trial").integer(), note.at("key").text(), note.at("value").text());
    }
  }
  template <class Body>
  void guarded(Body&& body) {
    if (!peer_) return;
    try {
      body();
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::Stopped) return;
      log_warning("listener ", error.what(), "; it hears nothing more");
      peer_.reset();
    }
  }

  const std::string name_;
  std::unique_ptr<ProcessPeer> peer_;
  std::string reason_;
};

}  // namespace

std::unique_ptr<SearchListener> make_external_listener(const SearchSpace& space,
                                                       PeerOptions options) {
  return std::make_unique<ExternalListener>(space, std::move(options));
}

}  // namespace nas
