// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// What the dashboard lets in and what it says with every answer, as functions of text alone.
namespace nas {

inline constexpr std::size_t kLongestUrl = 4096, kLargestBody = 64 << 10;

/// Whether an address is this machine's own: "127.0.0.1", "localhost", "::1".
bool is_loopback(std::string_view address);
/// Whether a Host header may be served: this machine's own names, or one of `more`, with any port.
/// Others come from a page elsewhere whose name was pointed here (DNS rebinding).
bool host_is_allowed(std::string_view host, const std::vector<std::string>& more);
/// Whether a request came from a page of ours: Origin is http:// and the Host of the request.
bool is_same_origin(std::string_view origin, std::string_view host);
/// In a time that does not depend on where they differ.
bool tokens_equal(std::string_view a, std::string_view b);
/// 128 bits of the system's randomness as 32 hex digits. \throws Error(Io).
std::string new_token();

/// Headers of every answer: no script, style, image or connection but our own, no frames, no
/// guessing of types. \param picture for SVG that is shown as an image: its own styles, no script.
std::vector<std::pair<std::string, std::string>> security_headers(bool picture);

/// A field of a CSV file: quoted where needed, and with an apostrophe before what a spreadsheet would
/// take for a formula.
std::string csv_field(const std::string& text);

}  // namespace nas
