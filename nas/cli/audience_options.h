// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/listeners/audience.h"

namespace CLI {
class App;
}

namespace nas {

/// --handler, --webhook and --mlflow.
void add_audience(CLI::App& app, SearchAudience& audience);

}  // namespace nas
