// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <string>

#include "nas/core/json.h"

namespace nas {

inline constexpr double kHttpSeconds = 5;

/// \throws Error(Usage) naming the option unless it begins with http:// or https:// and a host.
void check_url(const std::string& url, const std::string& option);

struct HttpReply {
  long status = 0;    // 200, 404, ...; 0: no answer
  std::string body;   // at most 1 MiB of it
  std::string error;  // why there is none
  bool good() const { return status >= 200 && status < 300; }
  /// The body as JSON, null if it is none.
  Json json() const;
  /// "no answer: Connection refused", "answered 404: ...".
  std::string problem() const;
};

/// One request: POST of `body`, or GET where it is null. Redirections are not followed. May be
/// called from any thread. \param give_up ends the request early; nullptr: nobody.
HttpReply http_request(const std::string& url,
                       const Json& body,
                       const std::atomic<bool>* give_up = nullptr);

/// For a part of an address: "a b" becomes "a%20b".
std::string url_escaped(const std::string& text);

}  // namespace nas
