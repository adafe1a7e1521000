// SPDX-License-Identifier: Apache-2.0
#include "nas/core/exception_text.h"

#include <new>
#include <string_view>

namespace nas {

std::string exception_text(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return "out of memory";
  std::string text = error.what();
  // c10::Error::what(): "[enforce fail at FILE:LINE] . MESSAGE\nException raised from FUNCTION at
  // FILE:LINE (most recent call first):\nframe #0: ...".
  for (const std::string_view stack : {"\nException raised from ", "\nframe #0"}) {
    const std::size_t at = text.find(stack);
    if (at != std::string::npos) text.resize(at);
  }
  if (text.starts_with("[enforce fail at ")) {
    const std::size_t end = text.find("] ");
    const std::size_t message =
        text.find_first_not_of(" .", end == std::string::npos ? end : end + 1);
    if (end != std::string::npos && message != std::string::npos) text.erase(0, message);
  }
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

}  // namespace nas
