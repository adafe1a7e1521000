// SPDX-License-Identifier: Apache-2.0
#include "nas/results/sqlite.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/files.h"

namespace nas::sqlite {
namespace {

namespace fs = std::filesystem;

constexpr int kBusyMilliseconds = 20000;

[[noreturn]] void fail_sqlite(sqlite3* db, const fs::path& file, const char* what) {
  const int code = db == nullptr ? SQLITE_NOMEM : sqlite3_extended_errcode(db) & 0xff;
  const bool damaged = code == SQLITE_CORRUPT || code == SQLITE_NOTADB || code == SQLITE_ERROR;
  fail(damaged ? ErrorKind::Input : ErrorKind::Io,
       file.string(),
       ": ",
       what,
       " failed: ",
       db == nullptr ? "out of memory" : sqlite3_errmsg(db),
       damaged ? "; expected an intact results database of VoxNAS" : "");
}

/// "file:/a%20b?options": what is not a plain character of a path is written as its number.
std::string uri(const fs::path& file, const char* options) {
  std::string text = "file:";
  for (const char c : fs::absolute(file).string()) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '/' || c == '.' || c == '_' ||
        c == '-') {
      text += c;
      continue;
    }
    constexpr const char* kDigits = "0123456789ABCDEF";
    const auto byte = static_cast<unsigned char>(c);
    text += '%';
    text += kDigits[byte >> 4U];
    text += kDigits[byte & 15U];
  }
  return text + "?" + options;
}

fs::path beside(const fs::path& file, const char* ending) { return file.string() + ending; }

}  // namespace

Connection::Connection(fs::path file, const std::string& name, int flags)
    : file_(std::move(file)), lock_(beside(file_, ".lock")) {
  if (sqlite3_open_v2(name.c_str(), &db_, flags, nullptr) != SQLITE_OK) {
    try {
      fail_sqlite(db_, file_, "opening");
    } catch (...) {
      sqlite3_close(db_);
      throw;
    }
  }
  sqlite3_busy_timeout(db_, kBusyMilliseconds);
  // The file may come from anybody: its schema runs no functions and no file can be made to damage
  // itself.
  sqlite3_db_config(db_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(db_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
}

Connection Connection::open_to_write(const fs::path& file, bool create) {
  return {file, file.string(), SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0)};
}

Connection Connection::open_to_read(const fs::path& file) {
  constexpr int kFlags = SQLITE_OPEN_READONLY | SQLITE_OPEN_URI;
  const fs::path log = beside(file, "-wal"), index = beside(file, "-shm");
  if (!fs::exists(log)) return {file, uri(file, "immutable=1"), kFlags};
  if (fs::exists(index)) return {file, uri(file, "mode=ro&readonly_shm=1"), kFlags};
  // A log without its index cannot be read in place: in a copy, where the index may be made.
  const fs::path folder = temporary_name(fs::temp_directory_path() / "voxnas-results");
  create_folder(folder);
  const fs::path copy = folder / "results.sqlite";
  try {
    fs::copy_file(file, copy);
    fs::copy_file(log, beside(copy, "-wal"));
    Connection connection(file, copy.string(), SQLITE_OPEN_READWRITE);
    connection.copy_ = folder;
    return connection;
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(folder, ignored);
    throw;
  }
}

Connection::Connection(Connection&& other) noexcept
    : file_(std::move(other.file_)),
      lock_(std::move(other.lock_)),
      copy_(std::exchange(other.copy_, {})),
      db_(std::exchange(other.db_, nullptr)),
      lock_descriptor_(std::exchange(other.lock_descriptor_, -1)),
      compiled_(std::exchange(other.compiled_, {})) {}

Connection& Connection::operator=(Connection&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(lock_, other.lock_);
  std::swap(copy_, other.copy_);
  std::swap(db_, other.db_);
  std::swap(lock_descriptor_, other.lock_descriptor_);
  std::swap(compiled_, other.compiled_);
  return *this;
}

Connection::~Connection() {
  for (const auto& [sql, statement] : compiled_) sqlite3_finalize(statement);
  sqlite3_close(db_);
  if (lock_descriptor_ >= 0) ::close(lock_descriptor_);
  std::error_code ignored;
  if (!copy_.empty()) fs::remove_all(copy_, ignored);
}

void Connection::execute(const char* sql) {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
    fail_sqlite(db_, file_, "reading or writing");  // not the statement: a schema is long
  }
}

sqlite3_stmt* Connection::take(const std::string& sql) const {
  const auto kept = compiled_.find(sql);
  if (kept != compiled_.end()) {
    sqlite3_stmt* statement = kept->second;
    compiled_.erase(kept);
    return statement;
  }
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(db_, sql.c_str(), -1, &statement, nullptr) != SQLITE_OK)
    fail_sqlite(db_, file_, "reading the schema");
  return statement;
}

void Connection::give_back(const std::string& sql, sqlite3_stmt* statement) const {
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
  if (!compiled_.emplace(sql, statement).second) sqlite3_finalize(statement);
}

Statement::Statement(const Connection& connection, const std::string& sql)
    : connection_(connection), sql_(sql), statement_(connection.take(sql)) {}

Statement::~Statement() { connection_.give_back(sql_, statement_); }

Statement& Statement::bind(std::int64_t value) {
  return check(sqlite3_bind_int64(statement_, ++bound_, value));
}
Statement& Statement::bind(std::uint64_t value) { return bind(std::bit_cast<std::int64_t>(value)); }
Statement& Statement::bind(double value) {
  return check(sqlite3_bind_double(statement_, ++bound_, value));
}
Statement& Statement::bind(std::string_view value) {
  return check(sqlite3_bind_text64(
      statement_, ++bound_, value.data(), value.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
}
Statement& Statement::bind_null() { return check(sqlite3_bind_null(statement_, ++bound_)); }

bool Statement::step() {
  column_ = -1;
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE)
    fail_sqlite(connection_.db(), connection_.file(), "reading or writing a row");
  return false;
}

std::int64_t Statement::integer() { return sqlite3_column_int64(statement_, ++column_); }
std::uint64_t Statement::unsigned_integer() { return std::bit_cast<std::uint64_t>(integer()); }
int Statement::small_integer() {
  return static_cast<int>(std::clamp<std::int64_t>(integer(), -1'000'000, 1'000'000));
}
double Statement::real() { return sqlite3_column_double(statement_, ++column_); }
double Statement::real_or(double otherwise) {
  const double value = real();
  return sqlite3_column_type(statement_, column_) == SQLITE_NULL ? otherwise : value;
}
std::string Statement::text() {
  const auto* data = sqlite3_column_text(statement_, ++column_);
  const int size = sqlite3_column_bytes(statement_, column_);
  return data == nullptr
             ? std::string{}
             : std::string(reinterpret_cast<const char*>(data), static_cast<std::size_t>(size));
}

Statement& Statement::check(int code) {
  if (code != SQLITE_OK) fail_sqlite(connection_.db(), connection_.file(), "binding a value");
  return *this;
}

int Connection::lock_descriptor() const {
  if (lock_descriptor_ < 0) {
    lock_descriptor_ = ::open(lock_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    NAS_CHECK_KIND(Io,
                   lock_descriptor_ >= 0,
                   lock_.string(),
                   ": cannot open the lock file: ",
                   std::strerror(errno));
  }
  return lock_descriptor_;
}

WriteLock::WriteLock(const Connection& connection) : descriptor_(connection.lock_descriptor()) {
  while (::flock(descriptor_, LOCK_EX) != 0) {
    NAS_CHECK_KIND(Io,
                   errno == EINTR,
                   connection.file().string(),
                   ": cannot lock it for writing: ",
                   std::strerror(errno));
  }
}

WriteLock::~WriteLock() {
  ::flock(descriptor_, LOCK_UN);
  ::sched_yield();
}

Transaction::Transaction(Connection& connection) : connection_(connection), lock_(connection) {
  connection_.execute("BEGIN IMMEDIATE");
}
Transaction::~Transaction() {
  if (!committed_) sqlite3_exec(connection_.db(), "ROLLBACK", nullptr, nullptr, nullptr);
}
void Transaction::commit() {
  connection_.execute("COMMIT");
  committed_ = true;
}

}  // namespace nas::sqlite
