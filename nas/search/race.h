// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/search/strategy.h"

namespace nas {

/// Kind "race": every contestant is one training that is continued. The portfolio comes first
/// (StrategyContext::portfolio, or the space's), then random draws; after the plan the order is what
/// cost and horizon let expect (expected_score), so that a short race sees cheap networks.
/// All are trained to the same effort and compared; then those that may yet be best go on to twice
/// the effort, and so on:
/// - each curve is continued to the horizon, the effort of the winner's final training
///   (nas/search/curve.h), and what counts is how likely a contestant is to be best there;
/// - a contestant is dropped when it is worse than the best by more than `margin` with
///   `confidence`; one that is merely not promoted rests and may go on later;
/// - the race ends when one is left, or when going on can bring less than the effort would bring
///   the final training: unspent effort is that training's.
/// `goal` "best": the highest expected score. "smallest" (parameters), "fastest" (measured step
/// time, else multiply-adds): the cheapest that with `confidence` is not worse than the best by
/// more than `margin`; where there is none, the best.
const StrategyKind& race_kind();

}  // namespace nas
