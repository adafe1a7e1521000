// SPDX-License-Identifier: Apache-2.0
#include "nas/search/search_space.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/hash.h"

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
    const std::string near = nearest_word(group, known);
    fail(ErrorKind::Usage,
         "space ",
         space.name(),
         ": no gene is in group '",
         group,
         "'",
         near.empty() ? "" : "; did you mean '" + near + "'?");
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

int size_of(const Gene& gene) { return static_cast<int>(gene.values.size()); }

/// Valid genotypes that differ from `parent` in exactly one of `genes`, in gene and value order.
std::vector<Genotype> single_changes(const SearchSpace& space,
                                     const Genotype& parent,
                                     const std::vector<std::size_t>& genes) {
  std::vector<Genotype> found;
  for (const std::size_t g : genes) {
    for (int value = 0; value < size_of(space.genes()[g]); ++value) {
      if (value == parent.values[g]) continue;
      Genotype child = parent;
      child.values[g] = value;
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
  return "";
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
    for (const std::size_t g : free)
      child.values[g] = static_cast<int>(rng.integer(0, size_of(genes()[g])));
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
  std::erase_if(free, [&](std::size_t g) { return size_of(genes()[g]) < 2; });
  NAS_CHECK(!free.empty(),
            "space ",
            name(),
            ": nothing to mutate: no gene of these groups has two values");
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const std::size_t g = free[index_below(free.size(), rng)];
    Genotype child = parent;
    // One of the other values, uniformly.
    const int drawn = static_cast<int>(rng.integer(0, size_of(genes()[g]) - 1));
    child.values[g] = drawn < parent.values[g] ? drawn : drawn + 1;
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

double SearchSpace::distance(const Genotype& a, const Genotype& b) const {
  for (const Genotype* genotype : {&a, &b}) {
    if (const std::string reason = malformed_reason(*genotype); !reason.empty())
      fail(ErrorKind::Input, reason);
  }
  double sum = 0;
  for (std::size_t g = 0; g < a.values.size(); ++g) sum += std::abs(a.values[g] - b.values[g]);
  return sum;
}

std::string SearchSpace::to_text(const Genotype& genotype) const {
  if (const std::string reason = malformed_reason(genotype); !reason.empty())
    fail(ErrorKind::Input, reason);
  std::string text;
  for (std::size_t g = 0; g < genes().size(); ++g) {
    text += (g ? " " : "") + genes()[g].name + "=" +
            genes()[g].values[static_cast<std::size_t>(genotype.values[g])];
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
  if (const std::string reason = malformed_reason(genotype); !reason.empty())
    fail(ErrorKind::Input, reason);
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
      differs |= genotype.values[i] != known.values[i];
      for (const std::string& value : genes()[i].values) {
        plain &= value.size() == 1 || std::isalpha(static_cast<unsigned char>(value.back())) != 0;
      }
    }
    const bool single = end == g + 1;
    if (!differs && (single || from != nullptr)) continue;
    for (std::size_t i = g; i < end; ++i) {
      values += (values.empty() || plain ? "" : "-") +
                genes()[i].values[static_cast<std::size_t>(genotype.values[i])];
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
  const auto suggestion = [](const std::string& word, const std::vector<std::string>& known) {
    const std::string near = nearest_word(word, known);
    return near.empty() ? std::string() : "; did you mean '" + near + "'?";
  };
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
           suggestion(gene_name, known));
    }
    const auto index = static_cast<std::size_t>(gene - genes().begin());
    NAS_CHECK_KIND(Usage, !seen[index], "genotype: gene ", gene_name, " is given twice");
    seen[index] = 1;
    const auto found = std::ranges::find(gene->values, value);
    if (found == gene->values.end()) {
      std::string known;
      for (const std::string& each : gene->values) known += (known.empty() ? "" : ", ") + each;
      fail(ErrorKind::Usage,
           "genotype: gene ",
           gene_name,
           " must be one of ",
           known,
           ", got '",
           value.substr(0, 64),
           "'",
           suggestion(value, gene->values));
    }
    genotype.values[index] = static_cast<int>(found - gene->values.begin());
  }
  return genotype;
}

std::string SearchSpace::genotype_id(const Genotype& genotype) const {
  return Hasher().add(name()).add(to_text(genotype)).hex().substr(0, 16);
}

}  // namespace nas
