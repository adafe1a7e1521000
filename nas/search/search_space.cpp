// SPDX-License-Identifier: Apache-2.0
#include "nas/search/search_space.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/hash.h"
#include "nas/core/text.h"

namespace nas {
namespace {

/// Attempts of a random draw before the search for a valid genotype becomes systematic.
constexpr int kAttempts = 256;

/// Indices of the genes in `groups` (all if empty). \throws Error(Usage) if a group has no gene.
std::vector<std::size_t> genes_in(const SearchSpace& space,
                                  const std::vector<std::string>& groups) {
  std::vector<std::size_t> found;
  for (std::size_t g = 0; g < space.genes().size(); ++g) {
    if (groups.empty() || std::ranges::find(groups, space.genes()[g].group) != groups.end()) {
      found.push_back(g);
    }
  }
  for (const std::string& group : groups) {
    if (std::ranges::any_of(space.genes(), [&](const Gene& gene) { return gene.group == group; }))
      continue;
    std::vector<std::string> known;
    for (const Gene& gene : space.genes()) known.push_back(gene.group);
    fail(ErrorKind::Usage,
         "space ",
         space.name(),
         ": no gene is in group '",
         group,
         "'",
         did_you_mean(group, known));
  }
  return found;
}

std::size_t index_below(std::size_t count, Rng& rng) {
  return static_cast<std::size_t>(rng.integer(0, static_cast<std::int64_t>(count)));
}

/// The linked genes of a space, and whether a gene is one of them.
struct Link {
  const LinkedGenes* genes;
  explicit Link(const SearchSpace& space) : genes(space.linked_genes()) {}
  std::size_t size() const { return genes ? genes->combinations.front().size() : 0; }
  bool holds(std::size_t g) const {
    return genes && g >= genes->first && g < genes->first + size();
  }
};

int size_of(const Gene& gene) { return static_cast<int>(gene.count()); }

/// Step of a local search, and deviation of a mutation, as shares of a number's range.
constexpr double kNeighbour = 0.05, kMutation = 0.2;
/// Values of a number that single_changes() tries, evenly over its range.
constexpr int kTried = 101;

/// Index of a number a share of its range away from value `i`, never `i` itself unless at an end.
int moved(const Gene& gene, int i, double share) {
  const int to = gene.index_of_unit(gene.unit(i) + share);
  if (to != i) return to;
  return std::clamp(i + (share < 0 ? -1 : 1), 0, size_of(gene) - 1);
}

/// Valid genotypes that differ from `parent` in exactly one of `genes`, in gene and value order.
std::vector<Genotype> single_changes(const SearchSpace& space,
                                     const Genotype& parent,
                                     const std::vector<std::size_t>& genes) {
  std::vector<Genotype> found;
  for (const std::size_t g : genes) {
    const Gene& gene = space.genes()[g];
    const int step = gene.ordered() ? std::max(1, size_of(gene) / kTried) : 1;
    for (int value = 0; value < size_of(gene); value += step) {
      if (value == parent.values[g]) continue;
      Genotype child = parent;
      child.values[g] = value;
      child = space.canonical(std::move(child));
      if (space.invalid_reason(child).empty()) found.push_back(std::move(child));
    }
  }
  return found;
}

}  // namespace

std::string SearchSpace::malformed_reason(const Genotype& genotype) const {
  if (genotype.values.size() != genes().size()) {
    return concat_text("expected ", genes().size(), " genes, got ", genotype.values.size());
  }
  for (std::size_t g = 0; g < genes().size(); ++g) {
    const int value = genotype.values[g];
    if (value < 0 || value >= size_of(genes()[g])) {
      return concat_text("gene ",
                         genes()[g].name,
                         ": expected a value in [0, ",
                         size_of(genes()[g]),
                         "), got ",
                         value);
    }
  }
  for (std::size_t g = 0; g < genes().size(); ++g) {
    const Gene& gene = genes()[g];
    if (gene.parent < 0 || genotype.values[g] == gene.planned || active(genotype, g)) continue;
    return concat_text("gene ",
                       gene.name,
                       " is not active here: expected its planned value ",
                       gene.text(gene.planned),
                       ", got ",
                       gene.text(genotype.values[g]));
  }
  return "";
}

bool SearchSpace::active(const Genotype& genotype, std::size_t g) const {
  // Parents stand before their children (Gene::malformed_reason), so this ends.
  for (const Gene* gene = &genes().at(g); gene->parent >= 0;) {
    const auto parent = static_cast<std::size_t>(gene->parent);
    if (std::ranges::find(gene->active_for, genotype.values.at(parent)) == gene->active_for.end())
      return false;
    gene = &genes()[parent];
  }
  return true;
}

Genotype SearchSpace::canonical(Genotype genotype) const {
  for (std::size_t g = 0; g < genes().size(); ++g) {
    if (genes()[g].parent >= 0 && !active(genotype, g)) genotype.values.at(g) = genes()[g].planned;
  }
  return genotype;
}

std::vector<Starter> SearchSpace::portfolio() const {
  std::vector<Starter> starters{{"plan", baseline()}};
  if (start() != baseline()) starters.push_back({"start", start()});
  return starters;
}

SuperNetwork SearchSpace::super_network(const Genotype&) const {
  fail(ErrorKind::Usage,
       "space ",
       name(),
       " has no super-network: none of its genes chooses between operations");
}

std::vector<int> picks(const SuperNetwork& network, const Genotype& genotype) {
  std::vector<int> result;
  result.reserve(network.genes.size());
  for (const std::size_t g : network.genes) {
    NAS_CHECK(g < genotype.values.size(),
              "super-network: expected a genotype of more than ",
              g,
              " genes, got ",
              genotype.values.size());
    result.push_back(genotype.values[g]);
  }
  return result;
}

Genotype SearchSpace::sample(Rng& rng,
                             const std::vector<std::string>& groups,
                             const Genotype* parent) const {
  std::vector<std::size_t> free = genes_in(*this, groups);
  const Genotype from = parent ? *parent : start();
  if (const std::string reason = malformed_reason(from); !reason.empty())
    fail(ErrorKind::Input, reason);
  // Linked genes that may all change are drawn as one.
  const Link link(*this);
  const bool whole =
      link.genes &&
      std::cmp_equal(std::ranges::count_if(free, [&](std::size_t g) { return link.holds(g); }),
                     link.size());
  if (whole) std::erase_if(free, [&](std::size_t g) { return link.holds(g); });
  for (int attempt = 0; attempt < kAttempts * kAttempts; ++attempt) {
    Genotype child = from;
    if (whole) {
      std::ranges::copy(link.genes->combinations[index_below(link.genes->combinations.size(), rng)],
                        child.values.begin() + static_cast<std::ptrdiff_t>(link.genes->first));
    }
    for (const std::size_t g : free) child.values[g] = genes()[g].draw(rng);
    child = canonical(std::move(child));
    if (invalid_reason(child).empty()) return child;
  }
  fail(ErrorKind::Input,
       "space ",
       name(),
       ": no valid genotype in ",
       kAttempts * kAttempts,
       " draws");
}

Genotype SearchSpace::mutate(const Genotype& parent,
                             Rng& rng,
                             const std::vector<std::string>& groups) const {
  check(parent);
  std::vector<std::size_t> free = genes_in(*this, groups);
  std::erase_if(free, [&](std::size_t g) { return size_of(genes()[g]) < 2 || !active(parent, g); });
  NAS_CHECK(!free.empty(),
            "space ",
            name(),
            ": nothing to mutate: no gene of these groups has two values");
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const std::size_t g = free[index_below(free.size(), rng)];
    const Gene& gene = genes()[g];
    Genotype child = parent;
    if (gene.ordered()) {
      child.values[g] = moved(gene, parent.values[g], kMutation * rng.normal());
      if (child == parent) continue;
    } else {
      // One of the other values, uniformly.
      const int drawn = static_cast<int>(rng.integer(0, size_of(gene) - 1));
      child.values[g] = drawn < parent.values[g] ? drawn : drawn + 1;
    }
    child = canonical(std::move(child));
    if (invalid_reason(child).empty()) return child;
  }
  const std::vector<Genotype> children = single_changes(*this, parent, free);
  if (!children.empty()) return children[index_below(children.size(), rng)];
  // An island: no single change is valid.
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    Genotype child = sample(rng, groups, &parent);
    if (child != parent) return child;
  }
  fail(ErrorKind::Input, "space ", name(), ": ", to_text(parent), " has no valid mutation");
}

double SearchSpace::count() const {
  const Link link(*this);
  double product = link.genes ? static_cast<double>(link.genes->combinations.size()) : 1;
  for (std::size_t g = 0; g < genes().size(); ++g) {
    if (!link.holds(g)) product *= size_of(genes()[g]);
  }
  return product;
}

std::vector<Genotype> SearchSpace::neighbours(const Genotype& genotype,
                                              const std::vector<std::string>& groups) const {
  check(genotype);
  std::vector<Genotype> found;
  for (const std::size_t g : genes_in(*this, groups)) {
    const Gene& gene = genes()[g];
    if (!active(genotype, g)) continue;
    const int here = genotype.values[g];
    for (const int way : {-1, 1}) {
      Genotype near = genotype;
      near.values[g] = gene.ordered() ? moved(gene, here, way * kNeighbour) : here + way;
      if (near.values[g] == here || near.values[g] < 0 || near.values[g] >= size_of(gene)) continue;
      near = canonical(std::move(near));
      if (invalid_reason(near).empty()) found.push_back(std::move(near));
    }
  }
  return found;
}

std::vector<double> SearchSpace::encode(const Genotype& genotype) const {
  check_form(genotype);
  std::vector<double> code;
  for (std::size_t g = 0; g < genes().size(); ++g) {
    const Gene& gene = genes()[g];
    const int value = genotype.values[g];
    if (gene.ordered()) {
      code.push_back(gene.unit(value));
    } else {
      for (int i = 0; i < size_of(gene); ++i) code.push_back(i == value ? 1 : 0);
    }
  }
  return code;
}

double SearchSpace::distance(const Genotype& a, const Genotype& b) const {
  check_form(a);
  check_form(b);
  double sum = 0;
  for (std::size_t g = 0; g < genes().size(); ++g) {
    const Gene& gene = genes()[g];
    if (gene.ordered()) {
      sum += std::abs(gene.unit(a.values[g]) - gene.unit(b.values[g]));
    } else {
      sum += a.values[g] != b.values[g] ? 1 : 0;
    }
  }
  return sum;
}

double SearchSpace::steps_between(const Genotype& a, const Genotype& b) const {
  check_form(a);
  check_form(b);
  double sum = 0;
  for (std::size_t g = 0; g < a.values.size(); ++g) sum += std::abs(a.values[g] - b.values[g]);
  return sum;
}

std::string SearchSpace::to_text(const Genotype& genotype) const {
  check_form(genotype);
  std::string text;
  for (std::size_t g = 0; g < genes().size(); ++g) {
    text += (g ? " " : "") + genes()[g].name + "=" + genes()[g].text(genotype.values[g]);
  }
  return text;
}

std::string SearchSpace::short_text(const Genotype& genotype, const Genotype* from) const {
  const std::string genes = short_genes(genotype, from);
  if (from != nullptr) return genes.empty() ? kAsTheStart : genes;
  return name() + (genes.empty() ? " as planned" : " " + genes);
}

std::string SearchSpace::short_genes(const Genotype& genotype,
                                     const Genotype* from,
                                     std::size_t first) const {
  check_form(genotype);
  const Genotype known = from != nullptr ? *from : start();
  const auto stem = [&](std::size_t g) {
    const std::string& name = genes()[g].name;
    const std::size_t digit = name.find_first_of("0123456789");
    return digit == std::string::npos ? std::string() : name.substr(0, digit);
  };
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : " ") + part; };
  for (std::size_t g = first, end = 0; g < genes().size(); g = end) {
    const std::string numbered = stem(g);
    end = g + 1;
    while (!numbered.empty() && end < genes().size() && stem(end) == numbered) ++end;
    std::string values;
    bool differs = false, plain = true;  // plain: values can be told apart without a separator
    for (std::size_t i = g; i < end; ++i) {
      differs |= genotype.values[i] != known.values[i] && active(genotype, i);
      plain &= !genes()[i].ordered();
      for (const std::string& value : genes()[i].values) {
        plain &= value.size() == 1 || std::isalpha(static_cast<unsigned char>(value.back())) != 0;
      }
    }
    const bool single = end == g + 1;
    if (!differs && (single || from != nullptr)) continue;
    for (std::size_t i = g; i < end; ++i) {
      values += (values.empty() || plain ? "" : "-") + genes()[i].text(genotype.values[i]);
    }
    if (single) {
      add(genes()[g].name + "=" + values);
    } else {
      const std::string word = short_word(numbered);
      add(word.empty() ? values : word + " " + values);
    }
  }
  return text;
}

void SearchSpace::check_form(const Genotype& genotype) const {
  const std::string reason = malformed_reason(genotype);
  NAS_CHECK(reason.empty(), reason);
}

void SearchSpace::check(const Genotype& genotype) const {
  const std::string reason = invalid_reason(genotype);
  NAS_CHECK(reason.empty(), "space ", name(), ": invalid genotype: ", reason);
}

std::size_t SearchSpace::place_of(std::string_view gene) const {
  const auto found = std::ranges::find(genes(), gene, &Gene::name);
  NAS_CHECK_KIND(Internal, found != genes().end(), "space ", name(), ": no gene ", gene);
  return static_cast<std::size_t>(found - genes().begin());
}

Genotype SearchSpace::from_text(const std::string& text) const {
  Genotype genotype = text.find_first_not_of(" \t\n") == std::string::npos ? baseline() : start();
  std::vector<char> seen(genes().size(), 0);
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    NAS_CHECK_KIND(Usage,
                   equals != std::string::npos,
                   "genotype: expected gene=value, got '",
                   word.substr(0, 64),
                   "'");
    const std::string gene_name = word.substr(0, equals);
    const std::string value = word.substr(equals + 1);
    const auto gene = std::ranges::find(genes(), gene_name, &Gene::name);
    if (gene == genes().end()) {
      std::vector<std::string> known;
      for (const Gene& each : genes()) known.push_back(each.name);
      fail(ErrorKind::Usage,
           "genotype: space ",
           name(),
           " has no gene '",
           gene_name.substr(0, 64),
           "'",
           did_you_mean(gene_name, known));
    }
    const auto index = static_cast<std::size_t>(gene - genes().begin());
    NAS_CHECK_KIND(Usage, !seen[index], "genotype: gene ", gene_name, " is given twice");
    seen[index] = 1;
    const std::optional<int> found = gene->index(value);
    if (!found) {
      fail(ErrorKind::Usage,
           "genotype: gene ",
           gene_name,
           gene->ordered() ? " must be one of the " : " must be one of ",
           gene->range_text(),
           ", got '",
           value.substr(0, 64),
           "'",
           did_you_mean(value, gene->values));
    }
    genotype.values[index] = *found;
  }
  for (std::size_t g = 0; g < genes().size(); ++g) {
    const Gene& gene = genes()[g];
    if (!seen[g] || genotype.values[g] == gene.planned || active(genotype, g)) continue;
    const Gene& parent = genes()[static_cast<std::size_t>(gene.parent)];
    fail(ErrorKind::Usage,
         "genotype: gene ",
         gene.name,
         " has no meaning where ",
         parent.name,
         "=",
         parent.text(genotype.values[static_cast<std::size_t>(gene.parent)]),
         "; leave it out");
  }
  return canonical(std::move(genotype));
}

std::string SearchSpace::genotype_id(const Genotype& genotype) const {
  return Hasher().add(name()).add(to_text(genotype)).hex().substr(0, 16);
}

}  // namespace nas
