// SPDX-License-Identifier: Apache-2.0
#include "nas/listeners/audience.h"

#include "nas/core/process_peer.h"
#include "nas/listeners/event_listeners.h"
#include "nas/listeners/http_client.h"
#include "nas/plugins/external_listener.h"

namespace nas {

void check_audience(const SearchAudience& audience) {
  for (const std::string& url : audience.webhooks) check_url(url, "--webhook");
  if (!audience.mlflow.empty()) check_url(audience.mlflow, "--mlflow");
}

std::vector<std::unique_ptr<SearchListener>> make_audience(const SearchSpace& space,
                                                           const std::filesystem::path& run_folder,
                                                           const SearchAudience& audience) {
  std::vector<std::unique_ptr<SearchListener>> all;
  for (const std::string& handler : audience.handlers) {
    all.push_back(make_external_listener(
        space, {.command = shell_words(handler), .name = "handler " + handler}));
  }
  for (const std::string& url : audience.webhooks) {
    all.push_back(make_webhook_listener(space, url));
  }
  if (!audience.mlflow.empty()) {
    all.push_back(make_mlflow_listener(space, run_folder, audience.mlflow));
  }
  return all;
}

}  // namespace nas
