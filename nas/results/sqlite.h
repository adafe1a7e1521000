// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

/// SQLite for the results database alone. Everything throws Error(Io|Input) naming the file.
namespace nas::sqlite {

/// An open file and the lock that its writers share.
class Connection {
 public:
  /// \param create the file is made; else it has to be there.
  static Connection open_to_write(const std::filesystem::path& file, bool create);
  /// Needs no right to write and writes nothing, not even SQLite's own files beside the database: a
  /// database that nobody has open is read as it lies there, the log of one that is being written,
  /// or whose writer was killed, is read too.
  static Connection open_to_read(const std::filesystem::path& file);
  Connection(Connection&& other) noexcept;
  Connection& operator=(Connection&& other) noexcept;
  ~Connection();

  void execute(const char* sql);
  std::int64_t last_id() const { return sqlite3_last_insert_rowid(db_); }
  std::int64_t changes() const { return sqlite3_changes(db_); }

  const std::filesystem::path& file() const { return file_; }
  /// Descriptor of the file of WriteLock, opened when it is first needed.
  int lock_descriptor() const;
  sqlite3* db() const { return db_; }

  /// A compiled statement, a kept one where there is: compiling costs more than most statements.
  sqlite3_stmt* take(const std::string& sql) const;
  void give_back(const std::string& sql, sqlite3_stmt* statement) const;

 private:
  Connection(std::filesystem::path file, const std::string& name, int flags);
  std::filesystem::path file_, lock_;
  std::filesystem::path copy_;  // folder of a copy that is read instead; removed in the end
  sqlite3* db_ = nullptr;
  mutable int lock_descriptor_ = -1;
  mutable std::map<std::string, sqlite3_stmt*> compiled_;
};

/// One prepared statement. Parameters are bound in order, columns are read in order.
class Statement {
 public:
  Statement(const Connection& connection, const std::string& sql);
  ~Statement();
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(std::int64_t value);
  Statement& bind(int value) { return bind(static_cast<std::int64_t>(value)); }
  Statement& bind(std::uint64_t value);
  Statement& bind(double value);
  Statement& bind(std::string_view value);
  Statement& bind_null();

  bool step();  // false: no row is left
  void run() { step(); }

  std::int64_t integer();
  std::uint64_t unsigned_integer();
  int small_integer();  // within a million
  double real();
  double real_or(double otherwise);  // `otherwise` for NULL
  std::string text();

 private:
  Statement& check(int code);
  const Connection& connection_;
  std::string sql_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0, column_ = -1;
};

/// The lock of all writers of a database (flock on the file beside it); the kernel gives it back
/// however a process ends. SQLite's own busy handler starves some of many writers. Who has written
/// lets the next one run before it goes on: else it takes the lock again before that one is awake.
class WriteLock {
 public:
  explicit WriteLock(const Connection& connection);
  ~WriteLock();
  WriteLock(const WriteLock&) = delete;
  WriteLock& operator=(const WriteLock&) = delete;

 private:
  int descriptor_;
};

/// An immediate transaction under the lock of writers; rolled back unless committed.
class Transaction {
 public:
  explicit Transaction(Connection& connection);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  Connection& connection_;
  const WriteLock lock_;
  bool committed_ = false;
};

}  // namespace nas::sqlite
