// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/search/run_search.h"

namespace nas {

/// Hears every event as a JSON object (docs/formats.md, "Plug-ins"): the one form in which programs,
/// web servers and tests are told.
class EventListener : public SearchListener {
 public:
  /// \param space is borrowed.
  explicit EventListener(const SearchSpace& space) : space_(space) {}

  void search_started(const SearchSpace& space, const Recipe& recipe) override;
  void search_ended(SearchEnd end) override;
  void stage_started(const StageSpec& stage,
                     const StageBudget& budget,
                     const Genotype& start,
                     std::int64_t planned) override;
  void proposed(const StageSpec& stage, const std::vector<std::int64_t>& trials) override;
  void trial_started(const Trial& trial) override;
  void trial_ended(const Trial& trial) override;
  void best_improved(const Trial& trial) override;
  void stage_ended(const StageSpec& stage, const Winner& winner) override;

 protected:
  virtual void heard(const Json& event) = 0;
  const SearchSpace& space_;

 private:
  Json event(const char* name, const Trial& trial) const;
};

}  // namespace nas
