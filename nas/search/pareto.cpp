// SPDX-License-Identifier: Apache-2.0
#include "nas/search/pareto.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "nas/core/error.h"

namespace nas {
namespace {

bool dominates(const std::vector<double>& a, const std::vector<double>& b) {
  bool better = false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] > b[i]) return false;
    better = better || a[i] < b[i];
  }
  return better;
}

}  // namespace

std::vector<int> pareto_fronts(const std::vector<std::vector<double>>& points) {
  const std::size_t n = points.size();
  std::vector<int> fronts(n, -1);
  std::size_t placed = 0;
  for (int front = 0; placed < n; ++front) {
    std::vector<std::size_t> members;
    for (std::size_t i = 0; i < n; ++i) {
      if (fronts[i] >= 0) continue;
      bool free = true;
      for (std::size_t j = 0; j < n && free; ++j) {
        free = fronts[j] >= 0 || !dominates(points[j], points[i]);
      }
      if (free) members.push_back(i);
    }
    for (const std::size_t i : members) fronts[i] = front;
    placed += members.size();
  }
  return fronts;
}

std::vector<double> crowding_distances(const std::vector<std::vector<double>>& points,
                                       const std::vector<int>& fronts) {
  constexpr double kEnd = std::numeric_limits<double>::infinity();
  std::vector<double> distances(points.size(), 0.0);
  if (points.empty()) return distances;
  const int last = *std::max_element(fronts.begin(), fronts.end());
  for (int front = 0; front <= last; ++front) {
    std::vector<std::size_t> members;
    for (std::size_t i = 0; i < points.size(); ++i) {
      if (fronts[i] == front) members.push_back(i);
    }
    for (std::size_t k = 0; k < points[0].size(); ++k) {
      std::stable_sort(members.begin(), members.end(), [&](std::size_t a, std::size_t b) {
        return points[a][k] < points[b][k];
      });
      const double range = points[members.back()][k] - points[members.front()][k];
      distances[members.front()] = distances[members.back()] = kEnd;
      if (range <= 0) continue;
      for (std::size_t m = 1; m + 1 < members.size(); ++m) {
        distances[members[m]] += (points[members[m + 1]][k] - points[members[m - 1]][k]) / range;
      }
    }
  }
  return distances;
}

Json pareto_story(const StrategyContext& context, const Ledger& ledger) {
  Json list = Json::array();
  if (!context.cost) return list;
  std::vector<const Ledger::Row*> rows;
  std::vector<TrialCost> costs;
  std::vector<std::vector<double>> points;
  for (const Ledger::Row& row : ledger.rows()) {
    if (!row.done() || row.proposal.purpose != TrialPurpose::Search) continue;
    rows.push_back(&row);
    costs.push_back(context.cost(row.proposal.genotype));
    points.push_back({-row.outcome.score});
    for (const std::string& name : cost_objectives()) {
      points.back().push_back(cost_value(costs.back(), name));
    }
  }
  const std::vector<int> fronts = pareto_fronts(points);
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (fronts[i] == 0) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return rows[a]->outcome.score > rows[b]->outcome.score;
  });
  for (const std::size_t i : order) {
    list.push_back({{"number", rows[i]->proposal.number},
                    {"trial", rows[i]->outcome.trial},
                    {"score", rows[i]->outcome.score},
                    {"parameters", costs[i].parameters},
                    {"macs", costs[i].macs},
                    {"memory_bytes", costs[i].memory_bytes},
                    {"step_seconds", costs[i].step_seconds}});
  }
  return list;
}

}  // namespace nas
