// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "nas/core/json.h"
#include "nas/report/text.h"

/// The tables of the report, the same for HTML and Markdown. `data` is report_data(); a table that
/// has nothing to say has no rows.
namespace nas {

/// Every trial in the order of ids; classes "chosen", "baseline", "failed".
Table trial_table(const Json& data);
/// Gene by gene what the searched network has against the planned one; class "changed".
/// Empty where the run began with nothing of an earlier one.
Table from_table(const Json& data);
/// What others than the strategies wanted tried.
Table enqueued_table(const Json& data);
Table annotation_table(const Json& data);
Table gene_table(const Json& data);
/// Size, settings and times of the final trainings.
Table network_table(const Json& data);
/// Means over the held-out cases for each class.
Table class_table(const Json& data);
/// Every held-out case, worst first.
Table case_table(const Json& data);
Table budget_table(const Json& data);
Table data_table(const Json& data);
/// Foreground intensities by channel.
Table intensity_table(const Json& data);

}  // namespace nas
