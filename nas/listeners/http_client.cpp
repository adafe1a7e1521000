// SPDX-License-Identifier: Apache-2.0
#include "nas/listeners/http_client.h"

#include <curl/curl.h>

#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr std::size_t kMostBody = 1 << 20;
constexpr long kConnectMilliseconds = 2000;
constexpr std::size_t kShown = 200;  // of an answer in a message

std::size_t take_body(char* bytes, std::size_t size, std::size_t count, void* to) {
  auto& body = *static_cast<std::string*>(to);
  if (body.size() + size * count > kMostBody) return 0;  // ends the transfer
  body.append(bytes, size * count);
  return size * count;
}

int look(void* give_up, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return give_up != nullptr && static_cast<const std::atomic<bool>*>(give_up)->load() ? 1 : 0;
}

void begin_once() {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

}  // namespace

void check_url(const std::string& url, const std::string& option) {
  std::size_t host = std::string::npos;
  for (const char* scheme : {"http://", "https://"}) {
    if (url.starts_with(scheme)) host = std::string(scheme).size();
  }
  const bool good = host != std::string::npos && host < url.size() && url[host] != '/' &&
                    url.find_first_of(" \t\r\n\"") == std::string::npos;
  NAS_CHECK_KIND(Usage,
                 good,
                 option,
                 ": expected an address that begins with http:// or https://, found \"",
                 url.substr(0, kShown),
                 "\"");
}

Json HttpReply::json() const { return Json::parse(body, nullptr, false); }

std::string HttpReply::problem() const {
  if (status == 0) return "no answer: " + error;
  return concat_text("answered ", status, ": ", body.substr(0, kShown));
}

HttpReply http_request(const std::string& url, const Json& body, const std::atomic<bool>* give_up) {
  begin_once();
  HttpReply reply;
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(),
                                                                 &curl_easy_cleanup);
  NAS_CHECK_KIND(Io, curl != nullptr, url, ": cannot prepare a request");
  const std::string text = body.is_null() ? "" : body.dump();
  curl_slist* list = curl_slist_append(nullptr, "Content-Type: application/json");
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(list,
                                                                            &curl_slist_free_all);
  char why[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl.get(), CURLOPT_USERAGENT, "voxnas");
  curl_easy_setopt(curl.get(), CURLOPT_CONNECTTIMEOUT_MS, kConnectMilliseconds);
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT_MS, static_cast<long>(1000 * kHttpSeconds));
  curl_easy_setopt(curl.get(), CURLOPT_ERRORBUFFER, why);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &reply.body);
  curl_easy_setopt(curl.get(), CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl.get(), CURLOPT_XFERINFOFUNCTION, look);
  curl_easy_setopt(
      curl.get(), CURLOPT_XFERINFODATA, const_cast<void*>(static_cast<const void*>(give_up)));
  if (!body.is_null()) {
    curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, text.c_str());
    curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(text.size()));
  }
  const CURLcode code = curl_easy_perform(curl.get());
  if (code != CURLE_OK) {
    reply.error = why[0] != '\0' ? why : curl_easy_strerror(code);
    return reply;
  }
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &reply.status);
  return reply;
}

std::string url_escaped(const std::string& text) {
  begin_once();
  const std::unique_ptr<char, decltype(&curl_free)> escaped(
      curl_easy_escape(nullptr, text.c_str(), static_cast<int>(text.size())), &curl_free);
  return escaped ? escaped.get() : "";
}

}  // namespace nas
