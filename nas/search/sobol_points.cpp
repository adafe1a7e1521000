// SPDX-License-Identifier: Apache-2.0
#include "nas/search/sobol_points.h"

#include <boost/random/sobol.hpp>
#include <cmath>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr int kBits = 53;  // of a double

}  // namespace

SobolPoints::SobolPoints(std::size_t dimensions) : dimensions_(dimensions) {
  NAS_CHECK_KIND(Usage,
                 dimensions <= kMostDimensions,
                 "Sobol points: expected at most ",
                 kMostDimensions,
                 " genes, found ",
                 dimensions);
}

void SobolPoints::reach(std::size_t index) {
  if (dimensions_ == 0) return;
  const std::size_t have = digits_.size() / dimensions_;
  if (index < have) return;
  const std::size_t want = std::max(index + 1, 2 * have);
  boost::random::sobol sequence(dimensions_);
  sequence.discard(static_cast<boost::uintmax_t>(have * dimensions_));
  static_assert(boost::random::sobol::max() == ~std::uint64_t{0}, "64 bits a number");
  for (std::size_t i = have * dimensions_; i < want * dimensions_; ++i) {
    digits_.push_back(sequence() >> (64 - kBits));
  }
}

std::vector<std::uint64_t> SobolPoints::shift(Rng rng) const {
  std::vector<std::uint64_t> bits(dimensions_);
  for (std::uint64_t& each : bits) each = rng.bits64() >> (64 - kBits);
  return bits;
}

std::vector<double> SobolPoints::point(std::size_t index, const std::vector<std::uint64_t>& shift) {
  reach(index);
  std::vector<double> point(dimensions_);
  for (std::size_t d = 0; d < dimensions_; ++d) {
    point[d] = std::ldexp(static_cast<double>(digits_[index * dimensions_ + d] ^ shift[d]), -kBits);
  }
  return point;
}

}  // namespace nas
