// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/dataset.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/text.h"
#include "nas/imaging/case_names.h"
#include "nas/imaging/dataset_json.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/splits.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

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

void sort_cases(std::vector<CaseFiles>& cases, const std::string& where) {
  for (const CaseFiles& one : cases) check_case_id(one.id, where);
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
    if (is_mac_leftover(listed.files.images.front())) continue;
    cases.push_back(std::move(listed));
  }
  return cases;
}

/// Names the cases of a list after their label, or their first image where there is none: by file
/// name, and where that is not unique (one folder per patient, in each the same names) by the
/// folders under the data set's that it lies in.
void name_cases(const DataSet& data, const std::vector<CaseFiles*>& cases) {
  const auto file_of = [](const CaseFiles& one) {
    return one.label.empty() ? one.images.front() : one.label;
  };
  std::map<std::string, int> uses;
  for (CaseFiles* one : cases) {
    one->id = nifti_stem(file_of(*one));
    const auto parts = split_channel(one->id);
    if (one->label.empty() && parts && one->images.size() > 1) one->id = parts->first;
    ++uses[one->id];
  }
  std::map<std::string, std::set<fs::path>> folders;
  for (CaseFiles* one : cases) folders[one->id].insert(file_of(*one).parent_path());
  for (CaseFiles* one : cases) {
    const std::string stem = one->id;
    // Two cases of one name in one folder stay what they are: a case that is listed twice.
    if (uses[stem] < 2 || folders[stem].size() != static_cast<std::size_t>(uses[stem])) continue;
    one->id.clear();
    for (const fs::path& part : file_of(*one).parent_path().lexically_relative(data.folder)) {
      if (part == "..") continue;
      one->id += (one->id.empty() ? "" : "_") + part.string();
    }
    if (one->id.empty() || one->id == ".") one->id = stem;
  }
}

void open_msd(DataSet& data, const JsonReader& root, const std::vector<std::string>& label_order) {
  data.layout = "msd";
  data.channel_names = stated_channel_names(root);
  data.labels = read_label_scheme(root, label_order);
  auto listed = read_case_list(data, root.at("training"), true);
  const std::size_t training = listed.size();
  if (root.has("validation")) {
    auto more = read_case_list(data, root.at("validation"), true);
    std::move(more.begin(), more.end(), std::back_inserter(listed));
  }
  std::vector<CaseFiles*> cases;
  for (auto& item : listed) cases.push_back(&item.files);
  name_cases(data, cases);
  Split stated;
  for (std::size_t i = training; i < listed.size(); ++i) {
    stated.val.push_back(listed[i].files.id);
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
  cases.clear();
  for (CaseFiles& one : data.test) cases.push_back(&one);
  name_cases(data, cases);
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

/// Files of a folder whose name ends in `ending` in either case, without hidden ones, by the name
/// before it. None if there is no folder. Links are listed wherever they point to.
std::map<std::string, fs::path> stems_in(const fs::path& folder, const std::string& ending) {
  std::map<std::string, fs::path> stems;
  std::error_code code;
  for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
    const fs::path& file = it->path();
    const std::string found = nifti_ending(file);
    if (!is_nifti_name(file) || found.size() != ending.size()) continue;
    const auto [place, fresh] = stems.emplace(nifti_stem(file), file);
    NAS_CHECK(fresh, file.string(), ": the same case as ", place->second.filename().string());
  }
  return stems;
}

/// The images of a case: one file per channel, or all channels in the one that is there.
std::vector<fs::path> nnunet_images(const DataSet& data,
                                    const std::map<std::string, fs::path>& files,
                                    const std::string& id,
                                    const fs::path& folder,
                                    const std::string& ending) {
  std::vector<fs::path> images;
  std::size_t present = 0;
  for (std::size_t c = 0; c < data.channel_names.size(); ++c) {
    const auto found = files.find(channel_file(id, c, ""));
    present += found != files.end() ? 1 : 0;
    images.push_back(found != files.end() ? found->second : folder / channel_file(id, c, ending));
  }
  if (present != 1 || images.size() == 1 || !files.contains(channel_file(id, 0, ""))) return images;
  try {
    const auto channels = static_cast<std::size_t>(read_nifti_header(images[0]).channels);
    if (channels == images.size()) images.resize(1);
  } catch (const Error&) {
    // Told where the file is read.
  }
  return images;
}

std::vector<CaseFiles> scan_nnunet(const DataSet& data,
                                   const fs::path& images,
                                   const fs::path& labels,
                                   const std::string& ending) {
  const auto image_files = stems_in(images, ending);
  const auto label_files =
      labels.empty() ? std::map<std::string, fs::path>{} : stems_in(labels, ending);
  std::set<std::string> ids;
  for (const auto& [id, file] : label_files) ids.insert(id);
  for (const auto& [stem, file] : image_files) {
    // A label of this very name, and no channel file for it: the name only looks like a channel's.
    NAS_CHECK(!label_files.contains(stem) || image_files.contains(channel_file(stem, 0, "")),
              file.string(),
              ": expected ",
              channel_file(stem, 0, ending),
              " (case and channel) for the label ",
              label_files.at(stem).filename().string(),
              ", found the case's name alone; rename the image, or list images and labels under "
              "\"training\"");
    const auto parts = split_channel(stem);
    NAS_CHECK(parts,
              file.string(),
              ": expected a name like CASE_0000",
              ending,
              " with the channel's number");
    ids.insert(parts->first);
  }
  std::vector<CaseFiles> cases;
  for (const std::string& id : ids) {
    CaseFiles one{.id = id,
                  .images = nnunet_images(data, image_files, id, images, ending),
                  .label = labels.empty() ? fs::path{} : labels / (id + ending)};
    if (const auto found = label_files.find(id); found != label_files.end()) {
      one.label = found->second;
    }
    cases.push_back(std::move(one));
  }
  return cases;
}

/// $NAME and ${NAME} in a path of "dataset", as nnU-Net expands them. \throws Error(Input) naming a
/// variable that is not set.
std::string expand_variables(const std::string& text, const std::string& where) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const bool braces = text[i] == '$' && i + 1 < text.size() && text[i + 1] == '{';
    std::size_t begin = i + (braces ? 2 : 1), end = begin;
    while (text[i] == '$' && end < text.size() &&
           (std::isalnum(static_cast<unsigned char>(text[end])) != 0 || text[end] == '_')) {
      ++end;
    }
    if (end == begin || (braces && (end == text.size() || text[end] != '}'))) {
      out += text[i++];
      continue;
    }
    const std::string name = text.substr(begin, end - begin);
    const char* value = std::getenv(name.c_str());
    NAS_CHECK(value != nullptr,
              where,
              ": expected the environment variable ",
              name,
              " of the path \"",
              text,
              "\", found it unset");
    out += value;
    i = end + (braces ? 1 : 0);
  }
  return out;
}

fs::path listed_file(const DataSet& data, const std::string& name, const std::string& where) {
  return absolute_in(data.folder, expand_variables(name, where), where);
}

void open_nnunet(DataSet& data,
                 const JsonReader& root,
                 const std::vector<std::string>& label_order) {
  data.layout = "nnunet";
  data.channel_names = read_channel_names(root.at("channel_names"));
  data.labels = read_label_scheme(root, label_order);
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
                      .label = listed_file(data, item.at("label").text(), item.where())};
      for (const std::string& name : item.at("images").texts()) {
        files.images.push_back(listed_file(data, name, item.where()));
      }
      NAS_CHECK(files.images.size() == 1 || files.images.size() == data.channel_names.size(),
                item.where(),
                ": images: expected ",
                data.channel_names.size(),
                " files, one per channel, or one with all, found ",
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
  fail(ErrorKind::Input, folder.string(), ": no case \"", id, "\"", did_you_mean(id, ids, "\""));
}

std::vector<std::string> prediction_names(const CaseFiles& files) {
  std::vector<std::string> names{files.id};
  const auto add = [&](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  if (!files.label.empty()) add(nifti_stem(files.label));
  if (!files.images.empty()) {  // predictions are called after the first channel
    const std::string stem = nifti_stem(files.images.front());
    add(stem);
    if (const auto parts = split_channel(stem)) add(parts->first);
  }
  return names;
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
      ": expected dataset.json (Medical Segmentation Decathlon or nnU-Net v2 raw), found none; "
      "`voxnas doctor ",
      folder.string(),
      " --write` makes one for images and labels in imagesTr and labelsTr, in images and "
      "labels, or in one folder per patient");
  const Json json = read_json(file);
  return data_set_from_json(json, folder, keys_in_order(read_file(file, 256 << 20), "labels"));
}

DataSet data_set_from_json(const Json& json,
                           const fs::path& folder,
                           const std::vector<std::string>& label_order) {
  DataSet data;
  data.folder = fs::absolute(folder).lexically_normal();
  if (data.folder.filename().empty()) data.folder = data.folder.parent_path();  // "Task04/"
  data.name = data.folder.filename().string();
  const fs::path file = folder / "dataset.json";
  const JsonReader root(json, file.string());
  NAS_CHECK(json.is_object(), file.string(), ": expected an object, found another kind of value");
  if (root.has("channel_names") && !root.has("training")) {
    open_nnunet(data, root, label_order);
  } else {
    NAS_CHECK(root.has("training"),
              file.string(),
              ": expected \"training\" (MSD: a list of images and labels) or \"channel_names\" "
              "(nnU-Net v2), "
              "found neither");
    // A converted nnU-Net folder may keep the MSD list, which its own files then do not match.
    const bool converted = root.has("channel_names") && root.has("file_ending");
    converted ? open_nnunet(data, root, label_order) : open_msd(data, root, label_order);
  }
  NAS_CHECK(!data.training.empty(),
            file.string(),
            ": expected at least one training case, found none",
            data.layout == "nnunet" ? " in imagesTr and labelsTr" : "");
  std::vector<std::string> ids;
  for (const CaseFiles& one : data.training) ids.push_back(one.id);
  plan_splits(data.folder, ids, data.splits, data.splits_source);
  return data;
}

OrderedJson nnunet_dataset_json(const DataSet& data) {
  OrderedJson json;
  for (std::size_t i = 0; i < data.channel_names.size(); ++i) {
    json["channel_names"][std::to_string(i)] = data.channel_names[i];
  }
  json.update(nnunet_labels(data.labels));
  json["numTraining"] = data.training.size();
  json["file_ending"] = ".nii.gz";
  return json;
}

}  // namespace nas
