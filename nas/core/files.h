// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace nas {

/// Whole file as bytes. \throws Error(Io) naming the file if it is missing, unreadable or larger
/// than `max_bytes`.
std::string read_file(const std::filesystem::path& file, std::int64_t max_bytes);

/// Writes to a temporary name beside `file`, syncs, renames: a reader sees the old or the new
/// content, never a part. Creates parent folders. \throws Error(Io) naming the file and the
/// system's reason (disk full, read-only, ...).
void write_file_atomic(const std::filesystem::path& file, std::string_view content);

/// Creates `folder` and those above it where missing. \throws Error(Io) naming it and the reason.
void create_folder(const std::filesystem::path& folder);
/// Whether files can be written to `folder`, or it can be created; changes nothing. For before long
/// work, whose result needs a place. \throws Error(Io) naming it and the reason.
void check_writable(const std::filesystem::path& folder);

/// Creates the folder that `file` is to lie in. \throws Error(Io).
void create_parent_folder(const std::filesystem::path& file);

/// Calls `write(temporary_path)`, then syncs and renames; removes the temporary file if it throws.
/// Creates parent folders.
template <class Write>
void write_path_atomic(const std::filesystem::path& file, Write&& write);

/// A temporary name beside `file` with its extension, unique to this process and call; hidden
/// (starts with ".tmp-").
std::filesystem::path temporary_name(const std::filesystem::path& file);
/// fsync of `temporary`, rename onto `file`, fsync of the folder.
void commit_temporary(const std::filesystem::path& temporary, const std::filesystem::path& file);

/// Removes what killed writers left in `folder` and below (names of temporary_name). Only for who
/// knows that nobody writes there.
void remove_temporaries(const std::filesystem::path& folder);

/// Puts the folder `fresh` in the place of `target`, which need not exist; both in one parent
/// folder. Where the file system exchanges names in one step (Linux: renameat2), `target` is the
/// old or the new folder at any moment; elsewhere there is none between two renames. \throws
/// Error(Io).
void replace_folder(const std::filesystem::path& fresh, const std::filesystem::path& target);

/// Read-only memory map; unmapped on destruction. Movable.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& file);  // \throws Error(Io)
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Exclusive advisory lock (flock) on `file` for the life of the object; waits. Created if missing.
class FileLock {
 public:
  explicit FileLock(const std::filesystem::path& file);
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock();

 private:
  int descriptor_ = -1;
};

template <class Write>
void write_path_atomic(const std::filesystem::path& file, Write&& write) {
  create_parent_folder(file);
  const std::filesystem::path temporary = temporary_name(file);
  try {
    write(temporary);
    commit_temporary(temporary, file);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    throw;
  }
}

}  // namespace nas
