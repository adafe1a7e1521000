// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "nas/core/error.h"

namespace nas {

/// A table whose rows are written down in one place, to which a program of the user's own adds rows
/// before anything reads it: what was read once stays true.
template <class Row>
class OpenTable {
 public:
  using NameOf = std::string (*)(const Row&);
  /// \param what a row is, for messages.
  OpenTable(std::string what, NameOf name_of, std::vector<Row> rows)
      : what_(std::move(what)), name_of_(name_of), rows_(std::move(rows)) {}

  /// \throws Error(Usage) if the table was read already or has a row of this name.
  void add(Row row) {
    const std::string name = name_of_(row);
    NAS_CHECK_KIND(Usage, !name.empty(), what_, ": expected a row with a name");
    NAS_CHECK_KIND(Usage,
                   !read_,
                   what_,
                   " '",
                   name,
                   "': rows are added before the table is first read (run_program does it)");
    for (const Row& other : rows_)
      NAS_CHECK_KIND(Usage, name_of_(other) != name, what_, " '", name, "': is there already");
    rows_.push_back(std::move(row));
  }

  const std::vector<Row>& rows() {
    read_ = true;
    return rows_;
  }
  /// The row of this name; nullptr: none.
  const Row* find(const std::string& name) {
    for (const Row& row : rows()) {
      if (name_of_(row) == name) return &row;
    }
    return nullptr;
  }

 private:
  std::string what_;
  NameOf name_of_;
  std::vector<Row> rows_;
  std::atomic<bool> read_ = false;
};

}  // namespace nas
