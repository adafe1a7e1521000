// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <vector>

#include "nas/imaging/dataset.h"
#include "nas/imaging/finding.h"
#include "nas/imaging/volume.h"

/// What the cases of a data set say together; told and stopped at as case_headers.h.
namespace nas {

/// What the grids of cases, turned to one orientation, say together: voxel sizes far from the
/// median (fatal where resampling to it is refused), volumes of one slice (fatal if the median has
/// one). \param cases the training cases, then perhaps test cases, in which nothing is fatal.
/// Medians are over the former. \param grids one per case; empty where it is not known.
std::vector<Finding> check_grids(const DataSet& data,
                                 const std::vector<CaseFiles>& cases,
                                 const std::vector<std::optional<Geometry>>& grids);

/// Files beside the listed ones that dataset.json leaves out: a further channel of a listed case
/// (warning), other images (note); and listed files outside the data set's folder (note).
std::vector<Finding> check_listing(const DataSet& data);

/// Everything above that headers can tell of the training cases, before work on them begins.
/// \throws Error(Input) with what is fatal; warnings are logged.
void check_before_training(const DataSet& data, int threads = 0);

}  // namespace nas
