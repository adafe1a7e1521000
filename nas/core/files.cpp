// SPDX-License-Identifier: Apache-2.0
#include "nas/core/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <random>
#include <system_error>
#include <utility>
#include <vector>

#include "nas/core/error.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTemporaryPrefix = ".tmp-";

[[noreturn]] void fail_io(const char* what, const fs::path& file, int code) {
  fail(ErrorKind::Io,
       "cannot ",
       what,
       " ",
       file.string(),
       ": ",
       std::generic_category().message(code));
}

/// A file descriptor that closes itself.
class Descriptor {
 public:
  /// \param named what errors call the file; empty: by its own name
  Descriptor(const fs::path& file, int flags, const char* what, const fs::path& named = {})
      : value_(::open(file.c_str(), flags | O_CLOEXEC, 0666)) {
    if (value_ < 0) fail_io(what, named.empty() ? file : named, errno);
  }
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }
  /// Closes now and reports what close() reports (delayed write errors on network file systems).
  int close() { return ::close(std::exchange(value_, -1)); }

 private:
  int value_;
};

struct stat status_of(const Descriptor& descriptor, const fs::path& file) {
  struct stat status {};
  if (::fstat(descriptor.get(), &status) != 0) fail_io("read", file, errno);
  if (S_ISDIR(status.st_mode)) fail_io("read", file, EISDIR);
  return status;
}

void sync(const Descriptor& descriptor, const fs::path& file) {
  // EINVAL and ENOTSUP: the file system has no notion of syncing this kind of file.
  if (::fsync(descriptor.get()) != 0 && errno != EINVAL && errno != ENOTSUP) {
    fail_io("write", file, errno);
  }
}

}  // namespace

std::string read_file(const fs::path& file, std::int64_t max_bytes) {
  const Descriptor input(file, O_RDONLY, "read");
  const auto claimed = static_cast<std::int64_t>(status_of(input, file).st_size);
  const auto check_size = [&](std::int64_t size) {
    NAS_CHECK_KIND(Io,
                   size <= max_bytes,
                   file.string(),
                   ": expected at most ",
                   max_bytes,
                   " bytes, found ",
                   size > claimed ? "more" : std::to_string(claimed));
  };
  check_size(claimed);
  std::string content;
  std::size_t used = 0;
  // One byte more than claimed, so that a file of the claimed size ends in the first round.
  content.resize(static_cast<std::size_t>(std::max<std::int64_t>(claimed, 4095)) + 1);
  while (true) {
    const ssize_t got = ::read(input.get(), content.data() + used, content.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_io("read", file, errno);
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
    check_size(static_cast<std::int64_t>(used));
    if (used == content.size()) content.resize(2 * content.size());
  }
  content.resize(used);
  return content;
}

void create_folder(const fs::path& folder) {
  std::error_code code;
  fs::create_directories(folder, code);
  if (code) fail(ErrorKind::Io, "cannot create folder ", folder.string(), ": ", code.message());
}

void check_writable(const fs::path& folder) {
  const fs::path wanted = fs::absolute(folder);
  fs::path there = wanted;
  std::error_code code;
  while (!fs::exists(there, code) && there.has_relative_path()) there = there.parent_path();
  const bool is_folder = fs::is_directory(there, code);
  if (is_folder && ::access(there.c_str(), W_OK | X_OK) == 0) return;
  fail_io(there == wanted ? "write to" : "create", folder, is_folder ? errno : ENOTDIR);
}

void create_parent_folder(const fs::path& file) {
  const fs::path parent = file.parent_path();
  if (!parent.empty()) create_folder(parent);
}

fs::path temporary_name(const fs::path& file) {
  static const unsigned kProcessTag = std::random_device{}();  // tells machines on one share apart
  static std::atomic<unsigned> calls{0};
  // The original name ends it, since writers may look at the extension; 255 bytes is the limit of a
  // name.
  std::string name = file.filename().string();
  if (name.size() > 180) name = name.substr(name.size() - 180);
  return file.parent_path() /
         concat_text(
             kTemporaryPrefix, ::getpid(), "-", kProcessTag, "-", calls.fetch_add(1), "-", name);
}

void remove_temporaries(const fs::path& folder) {
  std::error_code ignored;
  std::vector<fs::path> found;
  for (auto entry = fs::recursive_directory_iterator(folder, ignored);
       entry != fs::recursive_directory_iterator();
       entry.increment(ignored)) {
    if (!entry->path().filename().string().starts_with(kTemporaryPrefix)) continue;
    found.push_back(entry->path());
    entry.disable_recursion_pending();
  }
  for (const fs::path& one : found) fs::remove_all(one, ignored);
}

void replace_folder(const fs::path& fresh, const fs::path& target) {
  const fs::path old = temporary_name(target);
  std::error_code ignored;
  if (!fs::exists(fs::symlink_status(target, ignored))) {
    if (std::rename(fresh.c_str(), target.c_str()) != 0) fail_io("rename", fresh, errno);
    return;
  }
#if defined(__linux__) && defined(RENAME_EXCHANGE)
  if (::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    if (std::rename(fresh.c_str(), old.c_str()) == 0) fs::remove_all(old, ignored);
    return;
  }
#endif
  if (std::rename(target.c_str(), old.c_str()) != 0) fail_io("rename", target, errno);
  if (std::rename(fresh.c_str(), target.c_str()) != 0) {
    const int code = errno;
    (void)std::rename(old.c_str(), target.c_str());
    fail_io("rename", fresh, code);
  }
  fs::remove_all(old, ignored);
}

void commit_temporary(const fs::path& temporary, const fs::path& file) {
  {
    Descriptor written(temporary, O_RDONLY, "write", file);
    sync(written, file);
    if (written.close() != 0) fail_io("write", file, errno);
  }
  if (::rename(temporary.c_str(), file.c_str()) != 0) fail_io("write", file, errno);
  const fs::path parent = file.parent_path().empty() ? fs::path(".") : file.parent_path();
  const Descriptor folder(parent, O_RDONLY | O_DIRECTORY, "sync folder");
  sync(folder, parent);
}

void write_file_atomic(const fs::path& file, std::string_view content) {
  write_path_atomic(file, [&](const fs::path& temporary) {
    Descriptor output(temporary, O_WRONLY | O_CREAT | O_EXCL, "write", file);
    while (!content.empty()) {
      const ssize_t put = ::write(output.get(), content.data(), content.size());
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) fail_io("write", file, errno);
      content.remove_prefix(static_cast<std::size_t>(put));
    }
    if (output.close() != 0) fail_io("write", file, errno);
  });
}

MappedFile::MappedFile(const fs::path& file) {
  const Descriptor input(file, O_RDONLY, "read");
  const struct stat status = status_of(input, file);
  NAS_CHECK_KIND(Io,
                 S_ISREG(status.st_mode),
                 file.string(),
                 ": expected a regular file, found a device, pipe or socket");
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;  // mmap refuses empty maps
  void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, input.get(), 0);
  if (mapped == MAP_FAILED) fail_io("map", file, errno);
  data_ = static_cast<const std::byte*>(mapped);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

FileLock::FileLock(const fs::path& file) {
  create_parent_folder(file);
  descriptor_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_io("open lock file", file, errno);
  while (::flock(descriptor_, LOCK_EX) != 0) {
    if (errno == EINTR) continue;
    const int code = errno;
    ::close(std::exchange(descriptor_, -1));
    fail_io("lock", file, code);
  }
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);  // closing releases the lock
}

}  // namespace nas
