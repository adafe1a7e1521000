// SPDX-License-Identifier: Apache-2.0
#include "nas/cli/audience_options.h"

#include <CLI/CLI.hpp>

namespace nas {

void add_audience(CLI::App& app, SearchAudience& audience) {
  app.add_option("--handler",
                 audience.handlers,
                 "A program of yours that hears what happens in lines of JSON, and may stop the "
                 "search, have genotypes tried and note things (docs/formats.md, Plug-ins); may be "
                 "given several times")
      ->allow_extra_args(false);
  app.add_option("--webhook",
                 audience.webhooks,
                 "An address (http://...) that gets every event as a POST of JSON; may be given "
                 "several times")
      ->allow_extra_args(false);
  app.add_option("--mlflow",
                 audience.mlflow,
                 "The address of an MLflow server that gets a run for every trial");
}

}  // namespace nas
