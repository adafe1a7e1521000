// SPDX-License-Identifier: Apache-2.0
#include "nas/dashboard/http_rules.h"

#include <algorithm>
#include <random>

#include "nas/core/error.h"

namespace nas {
namespace {

/// "name" of "name", "name:80", "[::1]:80".
std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) {
    const std::size_t end = host.find(']');
    return end == std::string_view::npos ? std::string_view{} : host.substr(1, end - 1);
  }
  const std::size_t colon = host.find(':');
  if (colon == std::string_view::npos) return host;
  const std::string_view port = host.substr(colon + 1);
  const bool digits = std::ranges::all_of(port, [](char c) { return c >= '0' && c <= '9'; });
  return digits ? host.substr(0, colon) : std::string_view{};
}

}  // namespace

bool is_loopback(std::string_view address) {
  return address == "127.0.0.1" || address == "localhost" || address == "::1";
}

bool host_is_allowed(std::string_view host, const std::vector<std::string>& more) {
  const std::string_view name = without_port(host);
  return is_loopback(name) || (!name.empty() && std::ranges::find(more, name) != more.end());
}

bool is_same_origin(std::string_view origin, std::string_view host) {
  constexpr std::string_view kScheme = "http://";
  return !host.empty() && origin.starts_with(kScheme) && origin.substr(kScheme.size()) == host;
}

bool tokens_equal(std::string_view a, std::string_view b) {
  unsigned different = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const char other = b.empty() ? '\0' : b[i % b.size()];
    different |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(other);
  }
  return different == 0 && !a.empty();
}

std::string new_token() {
  std::random_device source;  // the system's (getrandom)
  std::string token;
  for (int word = 0; word < 4; ++word) {
    std::uint32_t bits = source();
    for (int digit = 0; digit < 8; ++digit, bits >>= 4U) token += "0123456789abcdef"[bits & 15U];
  }
  return token;
}

std::vector<std::pair<std::string, std::string>> security_headers(bool picture) {
  return {{"Content-Security-Policy",
           picture ? "default-src 'none'; style-src 'unsafe-inline'"
                   : "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' "
                     "data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                     "frame-ancestors 'none'"},
          {"X-Content-Type-Options", "nosniff"},
          {"Referrer-Policy", "no-referrer"},
          {"Cross-Origin-Opener-Policy", "same-origin"},
          {"Cross-Origin-Resource-Policy", "same-origin"}};
}

std::string csv_field(const std::string& text) {
  std::string field;
  if (!text.empty() && std::string_view("=+-@\t\r").find(text[0]) != std::string_view::npos) {
    field += '\'';
  }
  bool quote = false;
  for (const char c : text) {
    quote |= c == ',' || c == '"' || c == '\n' || c == '\r';
    field += c;
    if (c == '"') field += c;
  }
  return quote ? '"' + field + '"' : field;
}

}  // namespace nas
