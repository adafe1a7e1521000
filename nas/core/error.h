// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace nas {

/// What went wrong, as far as the caller can act on it. `main` maps Usage to exit code 2, the
/// others to 1.
enum class ErrorKind {
  Usage,      // wrong command line, unknown option or configuration key
  Input,      // a file or data set is not what it should be
  Io,         // reading or writing failed
  Shape,      // tensors or volumes do not fit together
  NotFinite,  // a network's output holds NaN or infinity
  Stopped,    // the user asked to stop (Ctrl-C): nothing is wrong
  Internal,   // a broken invariant of ours: a bug
};

/// The one exception of VoxNAS. The message names the thing, what was expected and what was found.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

/// Joins anything streamable into one string.
template <class... Parts>
std::string concat_text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <class... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
  throw Error(kind, concat_text(parts...));
}

}  // namespace nas

/// Throws Error(ErrorKind::Input) with the joined message unless `condition` holds.
#define NAS_CHECK(condition, ...)                                        \
  do {                                                                   \
    if (!(condition)) ::nas::fail(::nas::ErrorKind::Input, __VA_ARGS__); \
  } while (false)

/// As NAS_CHECK with the kind given: NAS_CHECK_KIND(Shape, a == b, "node ", name, ...).
#define NAS_CHECK_KIND(kind, condition, ...)                            \
  do {                                                                  \
    if (!(condition)) ::nas::fail(::nas::ErrorKind::kind, __VA_ARGS__); \
  } while (false)
