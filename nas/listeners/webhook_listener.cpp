// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <nlohmann/json.hpp>

#include "nas/listeners/event_listeners.h"
#include "nas/listeners/http_client.h"
#include "nas/listeners/outbox.h"
#include "nas/plugins/event_listener.h"

namespace nas {
namespace {

class WebhookListener : public EventListener {
 public:
  WebhookListener(const SearchSpace& space, const std::string& url)
      : EventListener(space),
        name_("webhook " + url),
        outbox_(name_, [url](const Json& event, const std::atomic<bool>& give_up) {
          const HttpReply reply = http_request(url, event, &give_up);
          return reply.good() ? std::string() : reply.problem();
        }) {}
  std::string name() const override { return name_; }

 private:
  void heard(const Json& event) override { outbox_.put(event); }

  const std::string name_;
  Outbox outbox_;
};

}  // namespace

std::unique_ptr<SearchListener> make_webhook_listener(const SearchSpace& space,
                                                      const std::string& url) {
  check_url(url, "--webhook");
  return std::make_unique<WebhookListener>(space, url);
}

}  // namespace nas
