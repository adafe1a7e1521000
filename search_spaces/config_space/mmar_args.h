// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/json.h"

namespace nas {

/// The args of one component of Clara's, each of which has to be asked for: what nobody asked for
/// is refused, so that nothing is left out in silence. \throws Error(Input) with the path.
class ClaraArgs {
 public:
  /// \param component {"name", "args"}, at `path` of `file`.
  ClaraArgs(const Json& component,
            const std::string& file,
            const std::string& path,
            std::vector<std::string>& notes);

  bool has(const std::string& name);  // and is not null
  double number(const std::string& name, double fallback);
  std::int64_t integer(const std::string& name, std::int64_t fallback);
  bool flag(const std::string& name, bool fallback);
  std::string text(const std::string& name, const std::string& fallback);
  std::vector<double> numbers(const std::string& name, const std::vector<double>& fallback);
  const Json& any(const std::string& name);  // \throws unless it is there
  /// A number, or one for low and high: n as [-n, n] gives n. \throws if lopsided.
  double half_range(const std::string& name, double fallback);

  /// The arg is left out or this; ours has nothing else.
  void expect(const std::string& name, const Json& value);
  /// Has no effect here; noted where it is there.
  void ignore(const std::string& name, const std::string& why);
  void note(const std::string& text) { notes_.push_back(label_ + ": " + text); }
  template <class... Parts>
  [[noreturn]] void wrong(const Parts&... parts) const {
    fail(ErrorKind::Input, where_, ": ", parts...);
  }
  const std::string& where() const { return where_; }
  /// \throws naming the first arg that was not asked for.
  void finish();

 private:
  JsonReader at(const std::string& name);
  Json args_;
  std::string where_, label_;  // for errors, for notes
  std::vector<std::string>& notes_;
  std::set<std::string> asked_;
};

/// The description under construction, in our own form.
struct OwnDescription {
  Json root = Json::object();
  std::map<std::string, std::string> augmented;  // our name -> whose component brought it
  /// Adds a row to "augmentation"; mirroring along several axes becomes one.
  void augment(ClaraArgs& args, const std::string& name, double prob, Json values);
};

}  // namespace nas
