// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/describe_folder.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/threads.h"
#include "nas/imaging/case_names.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/voxel_check.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

// The words by which folders and files are known, in small letters.
constexpr std::array<std::string_view, 5> kImageWords{"image", "img", "volume", "scan", "imaging"};
constexpr std::array<std::string_view, 8> kLabelWords{
    "label", "seg", "mask", "annotation", "truth", "gt", "lbl", "contour"};
constexpr float kAirHounsfield = -900;  // MRI has no such values; CT of a patient always has

/// Files of one case as they were found, and the words that tell its images apart ("t1", "0000").
struct FoundCase {
  std::map<std::string, fs::path> images;  // by channel word, "" for the only one
  fs::path label;
};
using FoundCases = std::map<std::string, FoundCase>;

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

/// Parts of a name between '_', '-', '.' and spaces.
std::vector<std::string> parts_of(const std::string& name) {
  std::vector<std::string> parts(1);
  for (const char c : name) {
    if (c == '_' || c == '-' || c == '.' || c == ' ') {
      if (!parts.back().empty()) parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  if (parts.size() > 1 && parts.back().empty()) parts.pop_back();
  return parts;
}

/// True if a part of the name begins with one of the words.
template <class Words>
bool has_word(const std::string& name, const Words& words) {
  for (const std::string& part : parts_of(lower(name))) {
    for (const std::string_view word : words) {
      if (part.starts_with(word)) return true;
    }
  }
  return false;
}

std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code code;
  for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
    if (!it->path().filename().string().starts_with('.')) entries.push_back(it->path());
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

std::vector<fs::path> nifti_files(const fs::path& folder) {
  std::vector<fs::path> files = sorted_entries(folder);
  std::erase_if(
      files, [](const fs::path& file) { return !is_nifti_name(file) || fs::is_directory(file); });
  return files;
}

/// What remains of a name without the words that say "image" or "label": "img0001" and "label0001"
/// are one case.
std::string bare_name(const std::string& stem) {
  std::string bare;
  for (std::string part : parts_of(stem)) {
    const std::string text = lower(part);
    std::size_t length = 0;
    const auto longest = [&](std::string_view word) {
      for (const char* ending : {"", "s", "mentation"}) {
        const std::string whole = std::string(word) + ending;
        if (text.starts_with(whole)) length = std::max(length, whole.size());
      }
    };
    std::for_each(kImageWords.begin(), kImageWords.end(), longest);
    std::for_each(kLabelWords.begin(), kLabelWords.end(), longest);
    const bool number = std::all_of(text.begin() + static_cast<std::ptrdiff_t>(length),
                                    text.end(),
                                    [](unsigned char c) { return std::isdigit(c) != 0; });
    if (length > 0 && number) part.erase(0, length);
    if (!part.empty()) bare += (bare.empty() ? "" : "_") + part;
  }
  return bare;
}

/// The images of a folder that belong to a label: the same name, or that and a word for the
/// channel.
FoundCases pair_by_name(const fs::path& images, const fs::path& labels) {
  FoundCases cases;
  std::map<std::string, std::string> ids;  // bare name -> case
  for (const fs::path& file : nifti_files(labels)) {
    const std::string id = nifti_stem(file);
    NAS_CHECK(cases.emplace(id, FoundCase{{}, file}).second,
              file.string(),
              ": the same case as ",
              cases.at(id).label.filename().string());
    ids.emplace(bare_name(id), id);
  }
  for (const fs::path& file : nifti_files(images)) {
    const std::string stem = nifti_stem(file);
    std::string id, channel;
    if (cases.contains(stem)) {
      id = stem;
    } else if (const auto same = ids.find(bare_name(stem)); same != ids.end()) {
      id = same->second;
    } else {  // the longest label name that begins this one
      std::size_t longest = 0;
      for (const auto& [bare, known] : ids) {
        for (const std::string& start : {known, bare}) {
          if (start.size() <= longest || stem.size() < start.size() + 2) continue;
          const char next = stem[start.size()];
          if (!stem.starts_with(start) || (next != '_' && next != '-')) continue;
          longest = start.size();
          id = known;
          channel = stem.substr(start.size() + 1);
        }
      }
    }
    NAS_CHECK(!id.empty(),
              file.string(),
              ": expected a label of this name in ",
              labels.string(),
              ", found none; images without label belong into another folder (imagesTs)");
    NAS_CHECK(cases.at(id).images.emplace(channel, file).second,
              file.string(),
              ": the same case and channel as ",
              cases.at(id).images.at(channel).filename().string());
  }
  for (const auto& [id, one] : cases) {
    NAS_CHECK(!one.images.empty(),
              one.label.string(),
              ": expected an image of this name in ",
              images.string(),
              ", found none");
  }
  return cases;
}

/// A folder of images and one of labels directly under `folder`.
std::optional<std::pair<fs::path, fs::path>> image_and_label_folders(const fs::path& folder) {
  std::vector<fs::path> images, labels;
  for (const fs::path& entry : sorted_entries(folder)) {
    if (!fs::is_directory(entry) || nifti_files(entry).empty()) continue;
    const std::string name = entry.filename().string();
    const std::string text = lower(name);
    if (text.ends_with("ts") && text.starts_with("images")) continue;  // test cases: imagesTs
    if (text == "test" || text == "labelsts") continue;
    if (has_word(name, kLabelWords)) {
      labels.push_back(entry);
    } else if (has_word(name, kImageWords)) {
      images.push_back(entry);
    }
  }
  if (images.empty() || labels.empty()) return std::nullopt;
  NAS_CHECK(images.size() == 1 && labels.size() == 1,
            folder.string(),
            ": expected one folder of images and one of labels, found ",
            images.size(),
            " and ",
            labels.size(),
            " (",
            images.back().filename().string(),
            ", ",
            labels.back().filename().string(),
            ", ...); write dataset.json by hand");
  return std::pair(images[0], labels[0]);
}

/// p1/t1.nii.gz, p1/seg.nii.gz, p2/...; or the patient's name before each: p1/p1_t1.nii.gz.
FoundCases patient_folders(const fs::path& folder) {
  FoundCases cases;
  for (const fs::path& patient : sorted_entries(folder)) {
    if (!fs::is_directory(patient)) continue;
    const std::vector<fs::path> files = nifti_files(patient);
    if (files.empty()) continue;
    const std::string id = patient.filename().string();
    FoundCase one;
    for (const fs::path& file : files) {
      std::string word = nifti_stem(file);
      if (word.starts_with(id) && word.size() > id.size()) word.erase(0, id.size() + 1);
      if (!has_word(word, kLabelWords)) {
        one.images.emplace(word, file);
        continue;
      }
      NAS_CHECK(one.label.empty(),
                file.string(),
                ": a second label of one patient, after ",
                one.label.filename().string(),
                "; write dataset.json by hand");
      one.label = file;
    }
    NAS_CHECK(!one.label.empty() && !one.images.empty(),
              patient.string(),
              ": expected images and a label (a name with \"seg\", \"label\" or \"mask\"), found ",
              one.label.empty() ? "no label" : "no image");
    cases.emplace(id, std::move(one));
  }
  return cases;
}

/// The channel words of all cases, which must be the same ones.
std::vector<std::string> common_channels(const FoundCases& cases) {
  std::vector<std::string> words;
  for (const auto& [word, file] : cases.begin()->second.images) words.push_back(word);
  for (const auto& [id, one] : cases) {
    std::vector<std::string> found;
    for (const auto& [word, file] : one.images) found.push_back(word);
    if (found == words) continue;
    const auto text = [](const std::vector<std::string>& list) {
      std::string joined;
      for (const std::string& word : list) {
        joined += (joined.empty() ? "\"" : ", \"") + word + "\"";
      }
      return joined;
    };
    fail(ErrorKind::Input,
         one.images.begin()->second.string(),
         ": expected the channels of case ",
         cases.begin()->first,
         ", ",
         text(words),
         ", found ",
         text(found));
  }
  return words;
}

std::int64_t largest_label(const FoundCases& cases, std::set<std::int64_t>& values, int threads) {
  std::vector<const FoundCase*> list;
  for (const auto& [id, one] : cases) list.push_back(&one);
  std::mutex mutex;
  parallel_for(
      static_cast<std::int64_t>(list.size()),
      [&](std::int64_t i) {
        const auto counts =
            count_labels(read_nifti_label(list[static_cast<std::size_t>(i)]->label));
        const std::lock_guard lock(mutex);
        for (std::size_t v = 0; v < counts.size(); ++v) {
          if (counts[v] > 0) values.insert(static_cast<std::int64_t>(v) - 32768);
        }
      },
      threads);
  NAS_CHECK(*values.begin() >= 0 && *values.rbegin() >= 1 && *values.rbegin() < 1024,
            cases.begin()->second.label.parent_path().string(),
            ": expected labels 0 (background), 1, 2, ... below 1024, found ",
            *values.begin(),
            " to ",
            *values.rbegin());
  return *values.rbegin();
}

/// A name for each channel, from words in file names, else a guess from the first image.
std::vector<std::string> name_channels(const FoundCases& cases,
                                       const std::vector<std::string>& channel_words,
                                       std::vector<std::string>& words) {
  const bool numbered = std::all_of(channel_words.begin(), channel_words.end(), [](const auto& w) {
    return std::all_of(w.begin(), w.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
  });
  if (!numbered && channel_words.size() > 1) return channel_words;
  std::vector<std::string> names;
  for (const auto& [word, file] : cases.begin()->second.images) {
    const Image image = read_nifti_image(file);
    for (std::int64_t c = 0; c < image.channels; ++c) {
      const auto values = image.channel(c);
      const bool ct = *std::min_element(values.begin(), values.end()) <= kAirHounsfield;
      names.push_back(
          ct ? "CT"
             : concat_text("image", names.empty() ? "" : "_" + std::to_string(names.size())));
      words.push_back(concat_text("channel ",
                                  names.size() - 1,
                                  ": ",
                                  ct ? "guessed to be CT, for its values reach those of air; "
                                     : "not CT, its values are brought to mean 0 and deviation 1; ",
                                  "rename it in dataset.json if that is wrong"));
    }
  }
  return names;
}

std::string relative_name(const fs::path& file, const fs::path& folder) {
  return file.lexically_relative(folder).generic_string();
}

/// True if the files are what nnU-Net's form says by itself: imagesTr/CASE_0000, labelsTr/CASE.
bool is_nnunet_layout(const FoundCases& cases,
                      const std::vector<std::string>& channel_words,
                      const fs::path& folder) {
  const std::string ending = nifti_ending(cases.begin()->second.label);
  if (ending != ".nii.gz" && ending != ".nii") return false;
  for (const auto& [id, one] : cases) {
    if (one.label != folder / "labelsTr" / (id + ending)) return false;
    for (std::size_t c = 0; c < channel_words.size(); ++c) {
      const auto found = one.images.find(channel_words[c]);
      if (found == one.images.end() ||
          found->second != folder / "imagesTr" / channel_file(id, c, ending)) {
        return false;
      }
    }
  }
  return true;
}

Json describe_cases(const FoundCases& cases,
                    const fs::path& folder,
                    std::vector<std::string>& words,
                    int threads) {
  const std::vector<std::string> channel_words = common_channels(cases);
  std::set<std::int64_t> values;
  const std::int64_t largest = largest_label(cases, values, threads);
  const std::vector<std::string> channels = name_channels(cases, channel_words, words);
  const bool nnunet = is_nnunet_layout(cases, channel_words, folder);
  Json json;
  std::string unused;
  for (std::int64_t v = 0; v <= largest; ++v) {
    const std::string name = v == 0 ? "background" : concat_text("label_", v);
    if (nnunet) {
      json["labels"][name] = v;
    } else {
      json["labels"][std::to_string(v)] = name;
    }
    if (!values.contains(v)) unused += concat_text(unused.empty() ? "" : ", ", v);
  }
  words.push_back(concat_text("labels 0 to ",
                              largest,
                              unused.empty() ? "" : "; no voxel has " + unused,
                              "; give them names in dataset.json"));
  for (std::size_t c = 0; c < channels.size(); ++c) {
    json[nnunet ? "channel_names" : "modality"][std::to_string(c)] = channels[c];
  }
  json["numTraining"] = cases.size();
  if (nnunet) {
    json["file_ending"] = nifti_ending(cases.begin()->second.label);
    return json;
  }
  for (const auto& [id, one] : cases) {
    Json images = Json::array();
    for (const std::string& word : channel_words) {
      images.push_back(relative_name(one.images.at(word), folder));
    }
    json["training"].push_back({{"image", images.size() == 1 ? images[0] : images},
                                {"label", relative_name(one.label, folder)}});
  }
  return json;
}

/// A MONAI data list beside the files: a JSON file with "training".
std::optional<FolderDescription> from_data_list(const fs::path& folder, int threads) {
  for (const fs::path& file : sorted_entries(folder)) {
    if (lower(file.extension().string()) != ".json") continue;
    Json list = read_json(file);
    const auto training = list.find("training");
    if (!list.is_object() || training == list.end() || !training->is_array()) continue;
    FolderDescription result;
    result.words.push_back(concat_text(
        file.filename().string(), ": a data list of ", training->size(), " training cases"));
    FoundCases cases;
    for (std::size_t i = 0; i < training->size(); ++i) {
      const JsonReader item = JsonReader(list, file.string()).at("training").at(i);
      FoundCase one;
      const JsonReader image = item.at("image");
      const auto names =
          image.json().is_array() ? image.texts() : std::vector<std::string>{image.text()};
      for (std::size_t c = 0; c < names.size(); ++c) {
        one.images.emplace(std::to_string(c), (folder / names[c]).lexically_normal());
      }
      one.label = (folder / item.at("label").text()).lexically_normal();
      cases.emplace(std::to_string(i), std::move(one));
    }
    NAS_CHECK(!cases.empty(), file.string(), ": training: expected cases, found none");
    Json described = describe_cases(cases, folder, result.words, threads);
    for (const char* key : {"labels", "modality"}) {
      if (!list.contains(key)) list[key] = described[key];
    }
    result.dataset = std::move(list);
    return result;
  }
  return std::nullopt;
}

}  // namespace

FolderDescription describe_folder(const fs::path& given, int threads) {
  std::error_code code;
  NAS_CHECK(fs::is_directory(given, code),
            given.string(),
            ": expected the folder of a data set, found ",
            what_lies_at(given));
  const fs::path folder = fs::absolute(given).lexically_normal();
  if (auto list = from_data_list(folder, threads)) return *list;
  FolderDescription result;
  FoundCases cases;
  if (const auto pair = image_and_label_folders(folder)) {
    cases = pair_by_name(pair->first, pair->second);
    result.words.push_back(concat_text("images in ",
                                       pair->first.filename().string(),
                                       ", labels in ",
                                       pair->second.filename().string(),
                                       ": ",
                                       cases.size(),
                                       " cases"));
  } else {
    cases = patient_folders(folder);
    result.words.push_back(concat_text("one folder per patient: ", cases.size(), " cases"));
  }
  NAS_CHECK(!cases.empty(),
            folder.string(),
            ": expected NIfTI images and labels (imagesTr and labelsTr, images and labels, one "
            "folder per patient, or a MONAI data list), found none of these; write dataset.json "
            "by hand");
  result.dataset = describe_cases(cases, folder, result.words, threads);
  Json tests = Json::array();
  for (const fs::path& file : nifti_files(folder / "imagesTs")) {
    tests.push_back(relative_name(file, folder));
  }
  if (!tests.empty() && result.dataset.contains("training") && common_channels(cases).size() == 1) {
    result.words.push_back(concat_text("test images in imagesTs: ", tests.size()));
    result.dataset["test"] = std::move(tests);
  }
  return result;
}

FolderDescription write_dataset_json(const fs::path& folder, int threads) {
  const fs::path file = folder / "dataset.json";
  std::error_code code;
  NAS_CHECK_KIND(Usage,
                 !fs::exists(file, code) && !fs::is_symlink(file, code),
                 "--write: ",
                 file.string(),
                 " is there already; it is not changed");
  FolderDescription description = describe_folder(folder, threads);
  data_set_from_json(description.dataset, folder);  // what is written can be read
  write_json(file, description.dataset);
  return description;
}

}  // namespace nas
