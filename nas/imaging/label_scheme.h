// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nas/core/json.h"

namespace nas {

/// What the values of label files mean, and what a network has to say about a voxel: one of several
/// classes, or which of several regions it lies in (they overlap: "whole tumour" holds "core"); and
/// perhaps a value of voxels of which nobody knows. nnU-Net 2's rules.
///
///   classes   values 0 (background) .. K-1; K network outputs, softmax, the largest wins
///   regions   values 0 .. L-1, each region a set of them; one output a region, sigmoid; each
///   region
///             above 1/2 writes its label, in the order of the regions, over what was there
///   ignore    the value after the last one: in loss, sampling and metrics it counts nowhere
///
/// Source: nnU-Net 2, documentation/region_based_training.md and ignore_label.md.
struct LabelScheme {
  std::vector<std::string> names;  // "background", then each class or region: what is scored
  std::vector<std::vector<std::int16_t>> regions = {};  // of names[k + 1]: its values, ascending;
                                                        // empty: classes
  std::vector<std::int16_t> region_labels = {};  // written for regions[k] ("regions_class_order")
  bool has_ignore = false;
  bool operator==(const LabelScheme&) const = default;

  bool has_regions() const { return !regions.empty(); }
  /// Values that mean something: 0 .. labels() - 1.
  std::int64_t labels() const;
  /// The value that counts nowhere; -1 if there is none.
  std::int64_t ignore_label() const { return has_ignore ? labels() : -1; }
  /// Values that a label file may hold: 0 .. values() - 1.
  std::int64_t values() const { return labels() + (has_ignore ? 1 : 0); }
  /// Channels that a network has.
  std::int64_t outputs() const;
  /// Classes or regions without background: what is learned, predicted and scored.
  std::int64_t foreground() const { return static_cast<std::int64_t>(names.size()) - 1; }
  /// Whether `value` belongs to names[k + 1].
  bool holds(std::int64_t k, std::int64_t value) const;
};

/// What of `then` is no longer so `now`, for people: "label names", "region core held labels 2 3, now
/// 2", ...; "" if they are equal.
std::string difference(const LabelScheme& then, const LabelScheme& now);

/// "3 classes", "3 regions of 4 labels, label 4 ignored": one line for people.
std::string to_text(const LabelScheme& scheme);

/// Whether "labels" says more than one name for each class: a list of values, or a number for
/// "ignore".
bool is_nnunet_scheme(const JsonReader& labels);
/// The scheme of nnU-Net's dataset.json: `labels` {name: value or list of values} and, with lists,
/// `regions_class_order`.
/// \param order names of `labels` in the order of the file, which numbers the regions; JSON readers
/// here sort them. \throws Error(Input) naming the key.
LabelScheme label_scheme_from_nnunet(const JsonReader& root, const std::vector<std::string>& order);
/// The keys of the object below `key` in the order of the text; none if there is no such object.
std::vector<std::string> keys_in_order(const std::string& json_text, const char* key);
/// {"labels", "regions_class_order"} as nnU-Net reads them, regions in their order.
OrderedJson nnunet_labels(const LabelScheme& scheme);

/// Members of preprocessing.json: label_names, and with regions or an ignored label `regions`,
/// `regions_class_order`, `ignore_label`.
void add_label_scheme(Json& object, const LabelScheme& scheme);
LabelScheme label_scheme_from_json(const JsonReader& object);

}  // namespace nas
