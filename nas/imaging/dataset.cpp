// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/dataset.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <random>
#include <set>

#include "nas/core/error.h"
#include "nas/imaging/nifti.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxClasses = 1024;
constexpr std::int64_t kMaxChannels = 256;

std::string did_you_mean(const std::string& word, const std::vector<std::string>& known) {
  const std::string near = nearest_word(word, known);
  return near.empty() ? "" : " (did you mean \"" + near + "\"?)";
}

std::optional<std::int64_t> index_of(const std::string& text) {
  if (text.empty() || text.size() > 6) return std::nullopt;
  if (!std::all_of(
          text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c) != 0; })) {
    return std::nullopt;
  }
  return std::stoll(text);
}

/// Names by index from pairs that must number 0..n-1 without gap or repetition.
std::vector<std::string> in_order(const std::map<std::int64_t, std::string>& names,
                                  const std::string& where) {
  NAS_CHECK(!names.empty(), where, ": expected at least one entry, found none");
  std::vector<std::string> out;
  for (const auto& [index, name] : names) {
    NAS_CHECK(index == static_cast<std::int64_t>(out.size()),
              where,
              ": expected the numbers 0, 1, 2, ... without a gap, found ",
              index,
              " after ",
              static_cast<std::int64_t>(out.size()) - 1);
    out.push_back(name);
  }
  return out;
}

/// "CT" | ["FLAIR", "T1"] | {"0": "FLAIR", "1": "T1"}.
std::vector<std::string> read_channel_names(const JsonReader& value) {
  if (value.json().is_string()) return {value.text()};
  if (value.json().is_array()) {
    auto names = value.texts();
    NAS_CHECK(!names.empty(), value.where(), ": expected at least one channel, found none");
    return names;
  }
  std::map<std::int64_t, std::string> names;
  for (const std::string& key : value.keys()) {
    const auto index = index_of(key);
    NAS_CHECK(index && *index < kMaxChannels,
              value.where(),
              ": expected channel numbers as keys, found \"",
              key,
              "\"");
    NAS_CHECK(names.emplace(*index, value.at(key).text()).second,
              value.where(),
              ": channel ",
              *index,
              " appears twice");
  }
  return in_order(names, value.where());
}

/// ["background", "a"] | {"0": "background", "1": "a"} (MSD) | {"background": 0, "a": 1} (nnU-Net).
std::vector<std::string> read_label_names(const JsonReader& value) {
  std::vector<std::string> out;
  if (value.json().is_array()) {
    out = value.texts();
  } else {
    std::map<std::int64_t, std::string> names;
    for (const std::string& key : value.keys()) {
      const JsonReader item = value.at(key);
      std::int64_t index = 0;
      std::string name;
      if (item.json().is_array()) {
        fail(ErrorKind::Input,
             item.where(),
             ": expected one label number, found a list: regions made of several labels "
             "are not supported yet; give every label its own name");
      } else if (item.json().is_string()) {  // MSD; a few nnU-Net files have {"name": "1"}
        const auto key_index = index_of(key);
        const auto value_index = index_of(item.text());
        NAS_CHECK(key_index || value_index,
                  item.where(),
                  ": expected a label number on one side, found \"",
                  key,
                  "\": \"",
                  item.text(),
                  "\"");
        index = key_index ? *key_index : *value_index;
        name = key_index ? item.text() : key;
      } else {
        NAS_CHECK(key != "ignore",
                  item.where(),
                  ": voxels to ignore are not supported yet; make them background or leave those "
                  "cases out");
        index = item.integer(0, kMaxClasses - 1);
        name = key;
      }
      NAS_CHECK(index < kMaxClasses,
                item.where(),
                ": expected a label below ",
                kMaxClasses,
                ", found ",
                index);
      NAS_CHECK(
          names.emplace(index, name).second, value.where(), ": label ", index, " appears twice");
    }
    out = in_order(names, value.where());
  }
  NAS_CHECK(out.size() >= 2,
            value.where(),
            ": expected background and at least one more label, found ",
            out.size());
  NAS_CHECK(static_cast<std::int64_t>(out.size()) <= kMaxClasses,
            value.where(),
            ": expected at most ",
            kMaxClasses,
            " labels, found ",
            out.size());
  std::set<std::string> seen;
  for (const std::string& name : out) {
    NAS_CHECK(!name.empty() && seen.insert(name).second,
              value.where(),
              ": expected different names, found \"",
              name,
              name.empty() ? "\"" : "\" twice");
  }
  return out;
}

bool is_mac_leftover(const fs::path& file) { return file.filename().string().starts_with("._"); }

fs::path absolute_in(const fs::path& folder,
                     const std::string& relative,
                     const std::string& where) {
  NAS_CHECK(!relative.empty() && relative.find('\0') == std::string::npos,
            where,
            ": expected a file name, found \"",
            relative,
            "\"");
  return (folder / relative).lexically_normal();
}

/// "case_0003" -> ("case", 3).
std::optional<std::pair<std::string, std::int64_t>> split_channel(const std::string& stem) {
  if (stem.size() < 6 || stem[stem.size() - 5] != '_') return std::nullopt;
  const auto channel = index_of(stem.substr(stem.size() - 4));
  if (!channel) return std::nullopt;
  return std::pair(stem.substr(0, stem.size() - 5), *channel);
}

std::string channel_file(const std::string& id, std::size_t channel, const std::string& ending) {
  std::string digits = std::to_string(channel);
  digits.insert(0, digits.size() < 4 ? 4 - digits.size() : 0, '0');
  return id + "_" + digits + ending;
}

void sort_cases(std::vector<CaseFiles>& cases, const std::string& where) {
  std::sort(cases.begin(), cases.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  for (std::size_t i = 1; i < cases.size(); ++i) {
    NAS_CHECK(cases[i].id != cases[i - 1].id,
              where,
              ": expected every case once, found \"",
              cases[i].id,
              "\" twice");
  }
}

// ---- MSD ---------------------------------------------------------------------------------------

struct ListedCase {
  CaseFiles files;
  std::optional<std::int64_t> fold;  // MONAI data lists may number the folds here
};

/// Files of one "image" value: a name or a list of names. The image may stand for nnU-Net v1's
/// "<name>_0000...".
std::vector<fs::path> read_image_files(const DataSet& data, const JsonReader& value) {
  const auto names =
      value.json().is_array() ? value.texts() : std::vector<std::string>{value.text()};
  NAS_CHECK(!names.empty(), value.where(), ": expected at least one file, found none");
  std::vector<fs::path> files;
  for (const std::string& name : names)
    files.push_back(absolute_in(data.folder, name, value.where()));
  std::error_code ignored;
  if (files.size() == 1 && !fs::exists(files[0], ignored)) {
    const std::string stem = nifti_stem(files[0]);
    const std::string ending = files[0].filename().string().substr(stem.size());
    std::vector<fs::path> parts;
    for (std::size_t c = 0; c < data.channel_names.size(); ++c) {
      parts.push_back(files[0].parent_path() / channel_file(stem, c, ending));
    }
    if (fs::exists(parts[0], ignored)) return parts;
  }
  return files;
}

std::vector<ListedCase> read_case_list(const DataSet& data, const JsonReader& list, bool labelled) {
  NAS_CHECK(list.json().is_array(), list.where(), ": expected a list of cases");
  std::vector<ListedCase> cases;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const JsonReader item = list.at(i);
    ListedCase listed;
    if (item.json().is_object()) {
      listed.files.images = read_image_files(data, item.at("image"));
      if (labelled)
        listed.files.label =
            absolute_in(data.folder, item.at("label").text(), item.at("label").where());
      if (item.has("fold")) listed.fold = item.at("fold").integer(0, 1000);
    } else {
      NAS_CHECK(!labelled, item.where(), ": expected an object with \"image\" and \"label\"");
      listed.files.images = read_image_files(data, item);
    }
    const fs::path& first = listed.files.images.front();
    if (is_mac_leftover(first)) continue;
    listed.files.id = nifti_stem(labelled ? listed.files.label : first);
    const auto parts = split_channel(listed.files.id);
    if (!labelled && parts && listed.files.images.size() > 1) listed.files.id = parts->first;
    cases.push_back(std::move(listed));
  }
  return cases;
}

void open_msd(DataSet& data, const JsonReader& root) {
  data.layout = "msd";
  data.channel_names = root.has("modality")        ? read_channel_names(root.at("modality"))
                       : root.has("channel_names") ? read_channel_names(root.at("channel_names"))
                                                   : std::vector<std::string>{"image"};
  data.label_names = read_label_names(root.at("labels"));
  auto listed = read_case_list(data, root.at("training"), true);
  Split stated;
  if (root.has("validation")) {
    for (auto& item : read_case_list(data, root.at("validation"), true)) {
      stated.val.push_back(item.files.id);
      listed.push_back(std::move(item));
    }
  }
  std::set<std::int64_t> folds;
  std::size_t numbered = 0;
  for (const auto& item : listed) {
    data.training.push_back(item.files);
    if (item.fold) folds.insert(*item.fold), ++numbered;
  }
  for (const char* key : {"test", "testing"}) {
    if (!root.has(key)) continue;
    for (auto& item : read_case_list(data, root.at(key), false))
      data.test.push_back(std::move(item.files));
  }
  sort_cases(data.training, root.where());
  sort_cases(data.test, root.where());

  const auto training_of = [&](const std::vector<std::string>& val) {
    const std::set<std::string> held(val.begin(), val.end());
    std::vector<std::string> train;
    for (const auto& one : data.training) {
      if (!held.contains(one.id)) train.push_back(one.id);
    }
    return train;
  };
  if (!stated.val.empty()) {
    std::sort(stated.val.begin(), stated.val.end());
    stated.train = training_of(stated.val);
    data.splits = {stated};
    data.splits_source = "dataset.json \"validation\"";
  } else if (folds.size() >= 2 && numbered == listed.size()) {
    for (const std::int64_t fold : folds) {
      Split split;
      for (const auto& item : listed) {
        if (item.fold == fold) split.val.push_back(item.files.id);
      }
      std::sort(split.val.begin(), split.val.end());
      split.train = training_of(split.val);
      data.splits.push_back(std::move(split));
    }
    data.splits_source = "dataset.json \"fold\"";
  }
}

// ---- nnU-Net -----------------------------------------------------------------------------------

/// Regular files of a folder whose name ends in `ending`, without hidden ones; sorted. None if
/// there is no folder.
std::vector<std::string> stems_in(const fs::path& folder, const std::string& ending) {
  std::vector<std::string> stems;
  std::error_code code;
  for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with('.') || !name.ends_with(ending) || name.size() == ending.size()) continue;
    stems.push_back(name.substr(0, name.size() - ending.size()));
  }
  std::sort(stems.begin(), stems.end());
  return stems;
}

std::vector<CaseFiles> scan_nnunet(const DataSet& data,
                                   const fs::path& images,
                                   const fs::path& labels,
                                   const std::string& ending) {
  std::set<std::string> ids;
  for (const std::string& stem : stems_in(images, ending)) {
    const auto parts = split_channel(stem);
    NAS_CHECK(parts,
              (images / (stem + ending)).string(),
              ": expected a name like CASE_0000",
              ending,
              " with the channel's number");
    ids.insert(parts->first);
  }
  if (!labels.empty()) {
    for (std::string& stem : stems_in(labels, ending)) ids.insert(std::move(stem));
  }
  std::vector<CaseFiles> cases;
  for (const std::string& id : ids) {
    CaseFiles files{
        .id = id, .images = {}, .label = labels.empty() ? fs::path{} : labels / (id + ending)};
    for (std::size_t c = 0; c < data.channel_names.size(); ++c) {
      files.images.push_back(images / channel_file(id, c, ending));
    }
    cases.push_back(std::move(files));
  }
  return cases;
}

void open_nnunet(DataSet& data, const JsonReader& root) {
  data.layout = "nnunet";
  data.channel_names = read_channel_names(root.at("channel_names"));
  data.label_names = read_label_names(root.at("labels"));
  if (root.has("regions_class_order") && !root.at("regions_class_order").json().is_null()) {
    fail(ErrorKind::Input,
         root.where(),
         ": regions_class_order: regions made of several labels are not supported yet");
  }
  const std::string ending = root.has("file_ending") ? root.at("file_ending").text() : ".nii.gz";
  NAS_CHECK(ending == ".nii.gz" || ending == ".nii",
            root.where(),
            ": file_ending: expected \".nii.gz\" or \".nii\", found \"",
            ending,
            "\"; convert the images to NIfTI");
  if (root.has("dataset")) {  // files listed one by one
    const JsonReader list = root.at("dataset");
    for (const std::string& id : list.keys()) {
      const JsonReader item = list.at(id);
      CaseFiles files{.id = id,
                      .images = {},
                      .label = absolute_in(data.folder, item.at("label").text(), item.where())};
      for (const std::string& name : item.at("images").texts()) {
        files.images.push_back(absolute_in(data.folder, name, item.where()));
      }
      NAS_CHECK(files.images.size() == data.channel_names.size(),
                item.where(),
                ": images: expected ",
                data.channel_names.size(),
                " files, one per channel, found ",
                files.images.size());
      data.training.push_back(std::move(files));
    }
  } else {
    data.training = scan_nnunet(data, data.folder / "imagesTr", data.folder / "labelsTr", ending);
  }
  data.test = scan_nnunet(data, data.folder / "imagesTs", {}, ending);
  sort_cases(data.training, root.where());
  sort_cases(data.test, root.where());
}

// ---- splits ------------------------------------------------------------------------------------

std::vector<Split> read_splits(const DataSet& data, const fs::path& file) {
  const Json json = read_json(file);
  const JsonReader root(json, file.string());
  NAS_CHECK(root.json().is_array() && root.size() > 0,
            root.where(),
            ": expected a list of {\"train\": [...], \"val\": [...]}");
  std::vector<std::string> ids;
  for (const auto& one : data.training) ids.push_back(one.id);
  const std::set<std::string> known(ids.begin(), ids.end());
  std::vector<Split> splits;
  for (std::size_t i = 0; i < root.size(); ++i) {
    const JsonReader item = root.at(i);
    Split split{.train = item.at("train").texts(), .val = item.at("val").texts()};
    std::set<std::string> seen;
    for (const auto* list : {&split.train, &split.val}) {
      NAS_CHECK(!list->empty(),
                item.where(),
                list == &split.val ? ": val" : ": train",
                ": expected at least one case, found none");
      for (const std::string& id : *list) {
        NAS_CHECK(known.contains(id),
                  item.where(),
                  ": expected ids of training cases, found \"",
                  id,
                  "\"",
                  did_you_mean(id, ids));
        NAS_CHECK(seen.insert(id).second,
                  item.where(),
                  ": expected every case once in train and val together, found \"",
                  id,
                  "\" twice");
      }
    }
    splits.push_back(std::move(split));
  }
  return splits;
}

void plan_splits(DataSet& data) {
  std::error_code ignored;
  for (const char* name : {"splits.json", "splits_final.json"}) {
    const fs::path file = data.folder / name;
    if (!fs::exists(file, ignored)) continue;
    data.splits = read_splits(data, file);
    data.splits_source = name;
    return;
  }
  if (!data.splits.empty()) return;  // dataset.json had them
  const auto n = static_cast<std::int64_t>(data.training.size());
  if (n < 2) {
    data.splits_source = "none: a split needs two cases";
    return;
  }
  const int folds = static_cast<int>(std::min<std::int64_t>(5, n));
  for (const auto& val : nnunet_folds(n, folds)) {
    Split split;
    std::size_t next = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const bool held = next < val.size() && val[next] == i;
      if (held) ++next;
      (held ? split.val : split.train).push_back(data.training[static_cast<std::size_t>(i)].id);
    }
    data.splits.push_back(std::move(split));
  }
  data.splits_source = folds == 5
                           ? "nnU-Net's 5-fold rule"
                           : concat_text("nnU-Net's rule with ", folds, " folds for ", n, " cases");
}

void check_same_grid(const Geometry& a,
                     const fs::path& file_a,
                     const Geometry& b,
                     const fs::path& file_b) {
  NAS_CHECK(a.shape == b.shape,
            file_b.string(),
            ": expected the shape of ",
            file_a.filename().string(),
            ", ",
            to_text(a.shape),
            " (D H W), found ",
            to_text(b.shape));
  for (std::size_t i = 0; i < 3; ++i) {
    NAS_CHECK(std::abs(a.spacing_mm[i] - b.spacing_mm[i]) <= 1e-3 * a.spacing_mm[i],
              file_b.string(),
              ": expected the spacing of ",
              file_a.filename().string(),
              ", ",
              a.spacing_mm[i],
              " mm along ",
              "DHW"[i],
              ", found ",
              b.spacing_mm[i]);
  }
}

}  // namespace

const CaseFiles& DataSet::find(const std::string& id) const {
  for (const auto* list : {&training, &test}) {
    for (const CaseFiles& one : *list) {
      if (one.id == id) return one;
    }
  }
  std::vector<std::string> ids;
  for (const auto* list : {&training, &test}) {
    for (const CaseFiles& one : *list) ids.push_back(one.id);
  }
  fail(ErrorKind::Input, folder.string(), ": no case \"", id, "\"", did_you_mean(id, ids));
}

DataSet open_data_set(const fs::path& folder) {
  std::error_code code;
  NAS_CHECK(fs::is_directory(folder, code),
            folder.string(),
            ": expected the folder of a data set, found ",
            fs::exists(folder, code) ? "a file" : "nothing");
  const fs::path file = folder / "dataset.json";
  NAS_CHECK(
      fs::exists(file, code),
      folder.string(),
      ": expected dataset.json (Medical Segmentation Decathlon or nnU-Net v2 raw), found none");
  return data_set_from_json(read_json(file), folder);
}

DataSet data_set_from_json(const Json& json, const fs::path& folder) {
  DataSet data;
  data.folder = fs::absolute(folder).lexically_normal();
  if (data.folder.filename().empty()) data.folder = data.folder.parent_path();  // "Task04/"
  data.name = data.folder.filename().string();
  const fs::path file = folder / "dataset.json";
  const JsonReader root(json, file.string());
  NAS_CHECK(json.is_object(), file.string(), ": expected an object, found another kind of value");
  if (root.has("channel_names") && !root.has("training")) {
    open_nnunet(data, root);
  } else {
    NAS_CHECK(root.has("training"),
              file.string(),
              ": expected \"training\" (MSD: a list of images and labels) or \"channel_names\" "
              "(nnU-Net v2), "
              "found neither");
    // A converted nnU-Net folder may keep the MSD list, which its own files then do not match.
    const bool converted = root.has("channel_names") && root.has("file_ending");
    converted ? open_nnunet(data, root) : open_msd(data, root);
  }
  NAS_CHECK(!data.training.empty(),
            file.string(),
            ": expected at least one training case, found none",
            data.layout == "nnunet" ? " in imagesTr and labelsTr" : "");
  plan_splits(data);
  return data;
}

std::vector<std::vector<std::int64_t>> nnunet_folds(std::int64_t cases,
                                                    int folds,
                                                    std::uint32_t seed) {
  NAS_CHECK(folds >= 2 && cases >= folds,
            "folds: expected 2 to ",
            cases,
            " (the number of cases), found ",
            folds);
  // NumPy's legacy shuffle: for i from n-1 down to 1 swap with a draw from [0, i], taken by masking
  // 32-bit words with the next power of two minus one and rejecting what is too large.
  std::mt19937 generator(seed);
  std::vector<std::int64_t> order(static_cast<std::size_t>(cases));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  for (std::size_t i = order.size() - 1; i >= 1; --i) {
    const auto most = static_cast<std::uint32_t>(i);
    std::uint32_t mask = most;
    for (const int shift : {1, 2, 4, 8, 16}) mask |= mask >> shift;
    std::uint32_t draw = 0;
    do {
      draw = static_cast<std::uint32_t>(generator()) & mask;
    } while (draw > most);
    std::swap(order[i], order[draw]);
  }
  // The first cases % folds folds have one more; indices in ascending order, as a mask gives them.
  std::vector<std::vector<std::int64_t>> out;
  auto from = order.begin();
  for (int fold = 0; fold < folds; ++fold) {
    const std::int64_t count = cases / folds + (fold < cases % folds ? 1 : 0);
    out.emplace_back(from, from + count);
    std::sort(out.back().begin(), out.back().end());
    from += count;
  }
  return out;
}

Image read_case_image(const DataSet& data, const CaseFiles& files) {
  NAS_CHECK(!files.images.empty(), "case ", files.id, ": expected image files, found none");
  Image image = read_nifti_image(files.images[0]);
  const auto expected = static_cast<std::int64_t>(data.channel_names.size());
  image.voxels.reserve(image.voxels.size() * files.images.size());
  for (std::size_t i = 1; i < files.images.size(); ++i) {
    const Image next = read_nifti_image(files.images[i]);
    check_same_grid(image.geometry, files.images[0], next.geometry, files.images[i]);
    image.voxels.insert(image.voxels.end(), next.voxels.begin(), next.voxels.end());
    image.channels += next.channels;
  }
  NAS_CHECK(image.channels == expected,
            files.images[0].string(),
            ": expected ",
            expected,
            " channels (",
            data.name,
            "/dataset.json), found ",
            image.channels);
  return image;
}

LabelMap read_case_label(const DataSet& data, const CaseFiles& files) {
  NAS_CHECK(!files.label.empty(),
            "case ",
            files.id,
            ": expected a label file, found none (a test case?)");
  LabelMap label = read_nifti_label(files.label);
  const auto classes = static_cast<std::int64_t>(data.label_names.size());
  for (const std::int16_t value : label.voxels) {
    NAS_CHECK(value >= 0 && value < classes,
              files.label.string(),
              ": expected labels 0 to ",
              classes - 1,
              " (dataset.json), found ",
              value);
  }
  return label;
}

Json nnunet_dataset_json(const DataSet& data) {
  Json json;
  for (std::size_t i = 0; i < data.channel_names.size(); ++i) {
    json["channel_names"][std::to_string(i)] = data.channel_names[i];
  }
  for (std::size_t i = 0; i < data.label_names.size(); ++i) json["labels"][data.label_names[i]] = i;
  json["numTraining"] = data.training.size();
  json["file_ending"] = ".nii.gz";
  return json;
}

}  // namespace nas
