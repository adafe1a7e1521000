// SPDX-License-Identifier: Apache-2.0
// The preprocessed cache: one raw, memory-mapped file per case (docs/formats.md, "Preprocessed
// cache").
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/hash.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/core/rng.h"
#include "nas/core/stop.h"
#include "nas/core/threads.h"
#include "training/data/preprocessing.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "case files are little endian");

constexpr char kMagic[8] = {'V', 'O', 'X', 'C', 'A', 'S', 'E', '\n'};
constexpr std::uint32_t kVersion = 1;
// Part of the key: raise it when preprocessing gives other numbers for the same input.
constexpr const char* kRecipe = "voxnas.preprocessing/1";
constexpr std::uint64_t kAlignment = 64;
constexpr std::int64_t kMaxLocations = 10000;
constexpr const char* kIndexName = "content_index.json";

/// The first bytes of a case file.
struct CaseHeader {
  char magic[8];
  std::uint32_t version;
  std::uint32_t classes;  // background included
  std::int64_t stamp_s;   // modification time the finished file was given, Unix seconds
  std::int64_t channels;
  std::int64_t shape[3];           // D H W
  std::uint64_t image_offset;      // float32 [C, D, H, W]
  std::uint64_t label_offset;      // int16 [D, H, W]
  std::uint64_t locations_offset;  // int64 counts[classes], then the indices, class after class
  std::uint64_t file_bytes;
  char payload_hash[32];  // of image, label and locations
  char header_hash[32];   // of the bytes before it
};
static_assert(sizeof(CaseHeader) == 8 + 2 * 4 + 5 * 8 + 4 * 8 + 64);

std::uint64_t align_up(std::uint64_t offset) {
  return (offset + kAlignment - 1) / kAlignment * kAlignment;
}

template <class T>
std::string_view bytes_of(const T* data, std::size_t count) {
  return {reinterpret_cast<const char*>(data), count * sizeof(T)};
}

std::string header_hash(const CaseHeader& header) {
  return hash_hex({reinterpret_cast<const char*>(&header), offsetof(CaseHeader, header_hash)});
}

std::string payload_hash(std::string_view image, std::string_view label, std::string_view places) {
  return Hasher().add(image).add(label).add(places).hex();
}

/// The lists of CachedCase::class_locations that a voxel of each label belongs to.
std::vector<std::vector<std::size_t>> location_lists(const LabelScheme& scheme) {
  std::vector<std::vector<std::size_t>> lists(static_cast<std::size_t>(scheme.values()));
  for (std::int64_t value = 0; value < scheme.labels(); ++value) {
    auto& own = lists[static_cast<std::size_t>(value)];
    if (scheme.has_ignore) own.push_back(0);
    for (std::int64_t k = 0; k < scheme.foreground(); ++k) {
      if (scheme.holds(k, value)) own.push_back(static_cast<std::size_t>(k) + 1);
    }
  }
  return lists;
}

/// Up to kMaxLocations voxels of every list of class_locations, each subset equally likely, in
/// rising order.
std::vector<std::vector<std::int64_t>> draw_locations(const std::vector<std::int16_t>& label,
                                                      const LabelScheme& scheme,
                                                      Rng rng) {
  const auto lists = location_lists(scheme);
  std::vector<std::int64_t> left(scheme.names.size(), 0);
  for (const std::int16_t value : label) {
    for (const std::size_t k : lists.at(static_cast<std::size_t>(value))) ++left[k];
  }
  std::vector<std::vector<std::int64_t>> locations(left.size());
  std::vector<std::int64_t> wanted(left.size());
  for (std::size_t k = 0; k < left.size(); ++k) {
    wanted[k] = std::min(left[k], kMaxLocations);
    locations[k].reserve(static_cast<std::size_t>(wanted[k]));
  }
  // Selection sampling (Knuth, TAOCP 2, 3.4.2, algorithm S): one pass, no list of all voxels.
  for (std::size_t i = 0; i < label.size(); ++i) {
    for (const std::size_t k : lists[static_cast<std::size_t>(label[i])]) {
      if (wanted[k] == left[k] || (wanted[k] > 0 && rng.integer(0, left[k]) < wanted[k])) {
        locations[k].push_back(static_cast<std::int64_t>(i));
        --wanted[k];
      }
      --left[k];
    }
  }
  return locations;
}

/// stdio with errors that name the file.
class Output {
 public:
  explicit Output(const fs::path& file) : file_(file), stream_(std::fopen(file.c_str(), "wbxe")) {
    if (stream_ == nullptr) failed();
  }
  ~Output() {
    if (stream_ != nullptr) std::fclose(stream_);
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  void write(std::string_view bytes) {
    if (std::fwrite(bytes.data(), 1, bytes.size(), stream_) != bytes.size()) failed();
    written_ += bytes.size();
  }
  void pad_to(std::uint64_t offset) { write(std::string(offset - written_, '\0')); }
  void close(std::int64_t modified_s) {
    if (std::fflush(stream_) != 0) failed();
    const timespec times[2] = {{modified_s, 0}, {modified_s, 0}};
    if (::futimens(::fileno(stream_), times) != 0) failed();
    if (std::fclose(std::exchange(stream_, nullptr)) != 0) failed();
  }

 private:
  [[noreturn]] void failed() const {
    fail(ErrorKind::Io, "cannot write ", file_.string(), ": ", std::strerror(errno));
  }
  fs::path file_;
  std::FILE* stream_;
  std::uint64_t written_ = 0;
};

void write_case(const fs::path& file,
                const PreprocessedCase& data,
                const LabelScheme& labels,
                Rng rng) {
  // nnU-Net trains voxels outside the non-zero mask (-1) as background.
  std::vector<std::int16_t> label = data.label.voxels;
  for (std::int16_t& value : label) value = std::max<std::int16_t>(value, 0);

  const auto locations = draw_locations(label, labels, rng);
  std::vector<std::int64_t> places;
  for (const auto& list : locations) places.push_back(static_cast<std::int64_t>(list.size()));
  for (const auto& list : locations) places.insert(places.end(), list.begin(), list.end());

  const auto image_bytes = bytes_of(data.image.voxels.data(), data.image.voxels.size());
  const auto label_bytes = bytes_of(label.data(), label.size());
  const auto place_bytes = bytes_of(places.data(), places.size());

  CaseHeader header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.classes = static_cast<std::uint32_t>(labels.names.size());
  header.stamp_s = static_cast<std::int64_t>(std::time(nullptr));
  header.channels = data.image.channels;
  std::copy_n(data.image.geometry.shape.begin(), 3, header.shape);
  header.image_offset = align_up(sizeof header);
  header.label_offset = align_up(header.image_offset + image_bytes.size());
  header.locations_offset = align_up(header.label_offset + label_bytes.size());
  header.file_bytes = header.locations_offset + place_bytes.size();
  std::memcpy(header.payload_hash, payload_hash(image_bytes, label_bytes, place_bytes).data(), 32);
  std::memcpy(header.header_hash, header_hash(header).data(), 32);

  write_path_atomic(file, [&](const fs::path& temporary) {
    Output out(temporary);
    out.write(bytes_of(&header, 1));
    out.pad_to(header.image_offset);
    out.write(image_bytes);
    out.pad_to(header.label_offset);
    out.write(label_bytes);
    out.pad_to(header.locations_offset);
    out.write(place_bytes);
    out.close(header.stamp_s);
  });
}

struct OpenedCase {
  MappedFile file;
  CachedCase view;
};

/// Maps a case file. `damage` gets the reason if it is not what we wrote, and nothing is returned.
/// The payload's hash is only computed when the modification time is not the one that a finished
/// file is given, so an untouched cache opens without being read.
std::optional<OpenedCase> open_case(const fs::path& path,
                                    const std::string& id,
                                    std::int64_t channels,
                                    std::int64_t classes,
                                    std::string& damage) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return std::nullopt;
    fail(ErrorKind::Io, "cannot read ", path.string(), ": ", std::strerror(errno));
  }
  OpenedCase opened{MappedFile(path), {}};
  const auto bytes = opened.file.bytes();
  const char* base = reinterpret_cast<const char*>(bytes.data());
  CaseHeader header;
  if (bytes.size() < sizeof header) {
    damage = concat_text("expected at least ", sizeof header, " bytes, found ", bytes.size());
    return std::nullopt;
  }
  std::memcpy(&header, base, sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.version != kVersion ||
      std::memcmp(header.header_hash, header_hash(header).data(), 32) != 0) {
    damage = "its header is not intact";
    return std::nullopt;
  }
  if (header.file_bytes != bytes.size()) {
    damage = concat_text("expected ", header.file_bytes, " bytes, found ", bytes.size());
    return std::nullopt;
  }
  // The header is as we wrote it (hash), so its numbers are consistent; check what the caller
  // relies on.
  if (header.channels != channels || header.classes != static_cast<std::uint64_t>(classes)) {
    damage = concat_text("expected ",
                         channels,
                         " channels and ",
                         classes,
                         " classes, found ",
                         header.channels,
                         " and ",
                         header.classes);
    return std::nullopt;
  }
  const std::uint64_t voxels =
      static_cast<std::uint64_t>(header.shape[0] * header.shape[1] * header.shape[2]);
  const std::string_view image(base + header.image_offset,
                               voxels * sizeof(float) * static_cast<std::uint64_t>(channels));
  const std::string_view label(base + header.label_offset, voxels * sizeof(std::int16_t));
  const std::string_view places(base + header.locations_offset,
                                bytes.size() - header.locations_offset);
  const bool untouched = status.st_mtim.tv_sec == header.stamp_s && status.st_mtim.tv_nsec == 0;
  if (!untouched) {
    if (std::memcmp(header.payload_hash, payload_hash(image, label, places).data(), 32) != 0) {
      damage = "its content is not what was written (hash)";
      return std::nullopt;
    }
    const timespec times[2] = {{header.stamp_s, 0}, {header.stamp_s, 0}};
    ::utimensat(
        AT_FDCWD, path.c_str(), times, 0);  // checked; a copied cache need not be read again
  }
  CachedCase& view = opened.view;
  view.id = id;
  view.shape = {header.shape[0], header.shape[1], header.shape[2]};
  view.channels = channels;
  view.image = reinterpret_cast<const float*>(image.data());
  view.label = reinterpret_cast<const std::int16_t*>(label.data());
  const auto* numbers = reinterpret_cast<const std::int64_t*>(places.data());
  const auto available = static_cast<std::int64_t>(places.size() / sizeof(std::int64_t));
  std::int64_t next = classes;
  for (std::int64_t k = 0; k < classes; ++k) {
    const std::int64_t count = next <= available ? numbers[k] : -1;
    bool good = count >= 0 && count <= available - next;
    for (std::int64_t i = 0; good && i < count; ++i) {
      good = numbers[next + i] >= 0 && numbers[next + i] < static_cast<std::int64_t>(voxels);
    }
    if (!good) {
      damage = "its list of class locations is not intact";
      return std::nullopt;
    }
    view.class_locations.emplace_back(numbers + next, numbers + next + count);
    next += count;
  }
  return opened;
}

constexpr const char* kOtherPlace =
    "; VOXNAS_DATA_CACHE names another place for the preprocessed cache";

/// Whether the cache can be added to; one on a read-only disk is used as far as it is complete.
/// \throws Error(Io) that says what helps if there is none and none can be made.
bool can_write(const fs::path& root) {
  try {
    create_folder(root);
  } catch (const Error& error) {
    fail(error.kind(), error.what(), kOtherPlace);
  }
  return ::access(root.c_str(), W_OK) == 0;
}

/// Content hashes of files, remembered by path, size, times and inode in `root`/content_index.json,
/// so that a second call reads nothing. Not shared between threads.
class ContentIndex {
 public:
  explicit ContentIndex(const fs::path& root) : file_(root / kIndexName) {
    if (can_write(root)) lock_.emplace(root / ".content_index.lock");
    merge_from_disk();
  }

  /// Hashes what is not remembered, on `threads` threads. \returns one hash per file, in order.
  std::vector<std::string> hashes(const std::vector<fs::path>& files, int threads) {
    std::vector<std::string> result(files.size());
    std::vector<Entry> fresh(files.size());
    parallel_for(
        static_cast<std::int64_t>(files.size()),
        [&](std::int64_t index) {
          const auto i = static_cast<std::size_t>(index);
          Entry now = identity(files[i]);
          const auto known = entries_.find(files[i].string());
          if (known != entries_.end() && same_file(known->second, now)) {
            result[i] = known->second.hash;
            return;
          }
          now.hash = hash_file(files[i]);
          result[i] = now.hash;
          // A file that changed in the last two seconds could change again within one tick of its
          // time stamp.
          if (std::time(nullptr) - now.changed_s > 2) fresh[i] = now;
        },
        threads);
    bool changed = false;
    for (std::size_t i = 0; i < files.size(); ++i) {
      if (fresh[i].hash.empty()) continue;
      entries_[files[i].string()] = fresh[i];
      changed = true;
    }
    if (changed && lock_) save();
    return result;
  }

 private:
  struct Entry {
    std::int64_t size = 0, modified_ns = 0, changed_ns = 0, inode = 0;
    std::int64_t changed_s = 0;  // not stored
    std::string hash;
  };

  static bool same_file(const Entry& a, const Entry& b) {
    return a.size == b.size && a.modified_ns == b.modified_ns && a.changed_ns == b.changed_ns &&
           a.inode == b.inode;
  }

  static Entry identity(const fs::path& file) {
    struct stat status {};
    if (::stat(file.c_str(), &status) != 0) {
      fail(ErrorKind::Io, "cannot read ", file.string(), ": ", std::strerror(errno));
    }
    Entry entry;
    entry.size = status.st_size;
    entry.modified_ns = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
    entry.changed_ns = status.st_ctim.tv_sec * 1'000'000'000 + status.st_ctim.tv_nsec;
    entry.changed_s = status.st_ctim.tv_sec;
    entry.inode = static_cast<std::int64_t>(status.st_ino);
    return entry;
  }

  void merge_from_disk() {
    if (!fs::exists(file_)) return;
    try {
      const Json json = read_json(file_);
      const JsonReader files = JsonReader(json, file_.string()).at("files");
      for (const std::string& path : files.keys()) {
        const JsonReader row = files.at(path);
        Entry entry;
        entry.size = row.at(std::size_t{0}).integer();
        entry.modified_ns = row.at(1).integer();
        entry.changed_ns = row.at(2).integer();
        entry.inode = row.at(3).integer();
        entry.hash = row.at(4).text();
        entries_[path] = entry;
      }
    } catch (const Error& error) {
      log_warning("the list of file hashes is not readable and is made again: ", error.what());
      entries_.clear();
    }
  }

  void save() const {
    Json files = Json::object();
    for (const auto& [path, entry] : entries_) {
      files[path] =
          Json::array({entry.size, entry.modified_ns, entry.changed_ns, entry.inode, entry.hash});
    }
    write_json(file_, Json{{"format", "voxnas.content_index"}, {"version", 1}, {"files", files}});
  }

  fs::path file_;
  std::optional<FileLock> lock_;  // none on a read-only disk
  std::map<std::string, Entry> entries_;
};

/// What decides the numbers in the cache; not the patch size, nor names.
Json key_part(const Preprocessing& preprocessing) {
  Json json = to_json(preprocessing);
  json["version"] = 1;  // of what is hashed here: regions say for themselves that they are there
  for (const char* name :
       {"configuration", "patch", "channel_names", "label_names", "regions_class_order"})
    json.erase(name);
  json["classes"] = preprocessing.labels.names.size();
  return json;
}

std::string cache_key(const DataSet& data,
                      const Preprocessing& preprocessing,
                      const std::map<std::string, std::vector<std::string>>& contents) {
  Hasher hasher;
  hasher.add(kRecipe).add(key_part(preprocessing).dump());
  for (const CaseFiles& files : data.training) {
    hasher.add(files.id);
    for (const std::string& hash : contents.at(files.id)) hasher.add(hash);
  }
  return hasher.hex();
}

fs::path case_file(const fs::path& folder, const std::string& id) {
  const bool plain =
      !id.empty() && id.size() < 200 && id.front() != '.' && id.find('/') == std::string::npos;
  return folder / ((plain ? id : hash_hex(id)) + ".case");
}

}  // namespace

const CachedCase& CaseCache::find(const std::string& id) const {
  for (const CachedCase& one : cases_) {
    if (one.id == id) return one;
  }
  fail(ErrorKind::Input,
       "case ",
       id,
       " is not among the ",
       cases_.size(),
       " preprocessed cases in ",
       folder_.string());
}

std::map<std::string, std::vector<std::string>> content_hashes(const fs::path& root,
                                                               const DataSet& data,
                                                               int threads) {
  std::vector<fs::path> files;
  for (const CaseFiles& one : data.training) {
    NAS_CHECK(!one.label.empty(), "case ", one.id, ": a training case needs a label file");
    for (const fs::path& image : one.images) {
      files.push_back(fs::absolute(image).lexically_normal());
    }
    files.push_back(fs::absolute(one.label).lexically_normal());
  }
  const std::vector<std::string> hashes = ContentIndex(root).hashes(files, threads);
  std::map<std::string, std::vector<std::string>> contents;
  auto next = hashes.begin();
  for (const CaseFiles& one : data.training) {
    const auto count = static_cast<std::ptrdiff_t>(one.images.size()) + 1;
    contents[one.id].assign(next, next + count);
    next += count;
  }
  return contents;
}

CaseCache open_case_cache(const fs::path& root,
                          const DataSet& data,
                          const Preprocessing& preprocessing,
                          int threads,
                          bool show_progress) {
  NAS_CHECK(!data.training.empty(), data.folder.string(), ": expected training cases, found none");
  CaseCache cache;
  cache.channels_ = static_cast<std::int64_t>(preprocessing.normalization.size());
  cache.labels_ = std::make_shared<const LabelScheme>(preprocessing.labels);
  const auto lists = static_cast<std::int64_t>(preprocessing.labels.names.size());
  cache.contents_ = content_hashes(root, data, threads);
  cache.key_ = cache_key(data, preprocessing, cache.contents_);
  cache.folder_ = root / cache.key_;

  const auto count = data.training.size();
  std::vector<std::optional<OpenedCase>> opened(count);
  const auto open_missing = [&](bool report) {
    std::vector<std::size_t> missing;
    for (std::size_t i = 0; i < count; ++i) {
      if (opened[i]) continue;
      const fs::path file = case_file(cache.folder_, data.training[i].id);
      std::string damage;
      opened[i] = open_case(file, data.training[i].id, cache.channels_, lists, damage);
      if (opened[i]) continue;
      missing.push_back(i);
      if (report && !damage.empty())
        log_warning(file.string(), ": damaged (", damage, "); it is made again");
    }
    return missing;
  };

  if (const auto lacking = open_missing(false); !lacking.empty()) {
    NAS_CHECK_KIND(Io,
                   can_write(root),
                   root.string(),
                   ": cannot be written, and ",
                   lacking.size(),
                   " of ",
                   count,
                   " cases are not in it",
                   kOtherPlace);
    const FileLock lock(cache.folder_ /
                        ".lock");  // another process may be at it: then wait and use its work
    remove_temporaries(
        cache.folder_);  // nobody else writes here now: these are of killed processes
    const std::vector<std::size_t> missing = open_missing(true);
    if (!missing.empty()) {
      write_json(cache.folder_ / "preprocessing.json", to_json(preprocessing));
      std::optional<Progress> progress;
      if (show_progress)
        progress.emplace("preprocessing", static_cast<std::int64_t>(missing.size()), "cases");
      parallel_for(
          static_cast<std::int64_t>(missing.size()),
          [&](std::int64_t index) {
            NAS_CHECK_KIND(Stopped,
                           !stop_requested(),
                           "stopped while preprocessing; finished cases stay in the cache and are "
                           "used next time");
            const std::size_t i = missing[static_cast<std::size_t>(index)];
            const CaseFiles& files = data.training[i];
            const Image image = read_case_image(data, files);
            const LabelMap label = read_case_label(data, files);
            PreprocessedCase done;
            try {
              done = preprocess_case(image, &label, preprocessing);
            } catch (const Error& error) {
              fail(error.kind(),
                   "case ",
                   files.id,
                   " (",
                   files.images.front().string(),
                   "): ",
                   error.what());
            }
            write_case(case_file(cache.folder_, files.id),
                       done,
                       *cache.labels_,
                       Rng("class locations").split(files.id));
            if (progress) progress->advance(1, files.id);
          },
          threads);
      if (progress) progress->finish();
      const std::vector<std::size_t> still = open_missing(true);
      NAS_CHECK_KIND(
          Io,
          still.empty(),
          case_file(cache.folder_, data.training[still.empty() ? 0 : still.front()].id).string(),
          ": cannot be read back after writing; is another program changing the cache folder?");
    }
  }
  for (auto& one : opened) {
    cache.files_.push_back(std::move(one->file));
    cache.cases_.push_back(std::move(one->view));
    cache.cases_.back().scheme = cache.labels_;
  }
  return cache;
}

fs::path default_cache_root() {
  const auto variable = [](const char* name) -> fs::path {
    const char* value = std::getenv(name);
    return value == nullptr ? fs::path{} : fs::path(value);
  };
  if (const fs::path given = variable("VOXNAS_DATA_CACHE"); !given.empty()) return given;
  if (const fs::path cache = variable("XDG_CACHE_HOME"); !cache.empty())
    return cache / "voxnas" / "preprocessed";
  const fs::path home = variable("HOME");
  NAS_CHECK_KIND(
      Usage,
      !home.empty(),
      "no place for the preprocessed cache: set VOXNAS_DATA_CACHE, XDG_CACHE_HOME or HOME");
  return home / ".cache" / "voxnas" / "preprocessed";
}

}  // namespace nas
