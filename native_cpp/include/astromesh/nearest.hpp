#pragma once
// The rows nearest to each of several queries, by cosine, dot product or Euclidean distance.
// Knows nothing of Python. Meaning: servers/kernel/native/nearest.py.
//
// Rows are read once for all queries, and most are passed by after a product that is only near.
// Those that may be among the best are done again in double: what counts is never the kernel's.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "astromesh/blocks.hpp"
#include "astromesh/rank.hpp"
#include "astromesh/terms.hpp"
#include "astromesh/tiles.hpp"

namespace astromesh {

template <typename Row>
class PlainRows {
 public:
  static constexpr double error = kSumsTolerance;

  PlainRows(Queries queries, const Row* rows, std::size_t count, Tiles<Row> tiles,
            Exact<Row> exact = best_exact<Row>())
      : queries_(queries), rows_(rows), count_(count), tiles_(tiles), exact_(exact) {
    for (std::size_t i = 0; i < queries.count; ++i)
      squares_.push_back(sums_double(queries[i], queries[i], queries.size).squares);
  }

  std::size_t count() const { return count_; }
  std::size_t bytes() const { return queries_.size * sizeof(Row); }
  std::size_t at_once() const { return 4; }
  double squares(std::size_t query) const { return squares_[query]; }

  // In order, as memory likes it; what follows finds the rows in the cache.
  void measure(std::size_t first, std::size_t rows, Block& block) const {
    const float* query = queries_[0];
    for (std::size_t j = 0; j < rows; ++j) {
      const Sums sums = tiles_.sums(query, row(first + j), queries_.size);
      block.dots[j] = static_cast<float>(sums.dot);
      block.squares[j] = sums.squares;
      block.lengths[j] = safe_length(sums.squares);
    }
  }

  void multiply(std::size_t query, std::size_t first, std::size_t rows, Block& block) const {
    const float* queries[4];
    for (std::size_t i = 0; i < 4; ++i)
      queries[i] = queries_[std::min(query + i, queries_.count - 1)];
    for (std::size_t j = 0; j < rows; j += 4) {
      const Row* some[4];
      for (std::size_t i = 0; i < 4; ++i) some[i] = row(first + std::min(j + i, rows - 1));
      float dots[16];
      tiles_.dots(queries, some, queries_.size, dots);
      for (std::size_t i = 0; i < 4; ++i)
        std::copy_n(dots + 4 * i, 4, block.dots.data() + i * block.squares.size() + j);
    }
  }

  double score(std::size_t query, std::size_t row_index, Metric metric) const {
    return astromesh::score(exact_(queries_[query], row(row_index), queries_.size),
                            std::sqrt(squares_[query]), metric);
  }
  double score(std::size_t query, std::size_t first, std::size_t j, const Block&,
               Metric metric) const {
    return score(query, first + j, metric);
  }

 private:
  const Row* row(std::size_t i) const { return rows_ + i * queries_.size; }

  Queries queries_;
  const Row* rows_;
  std::size_t count_;
  Tiles<Row> tiles_;
  Exact<Row> exact_;
  std::vector<double> squares_;
};

// Of the rows from `begin` to `end` the k nearest to each query. k must be 1 or more.
template <typename Rows>
std::vector<Best> nearest_of(const Rows& rows, std::size_t begin, std::size_t end,
                             std::size_t queries, std::size_t k, Metric metric) {
  std::vector<Best> best(queries, Best{k});
  std::vector<Bar> bars;
  for (std::size_t i = 0; i < queries; ++i)
    bars.emplace_back(-kInfinity, rows.squares(i), metric, Rows::error);

  constexpr std::size_t cache = 128 * 1024;
  const std::size_t size = std::clamp<std::size_t>(cache / rows.bytes() / 4 * 4, 4, kMostRows);
  const std::size_t at_once = rows.at_once();
  const Reaching reaching = best_reaching();
  Block block{size, at_once};
  for (std::size_t first = begin; first < end; first += size) {
    const std::size_t some = std::min(size, end - first);
    rows.measure(first, some, block);
    for (std::size_t query = 0; query < queries; ++query) {
      if (queries > 1 && query % at_once == 0) rows.multiply(query, first, some, block);
      const float* dots = block.dots.data() + query % at_once * size;
      Bar& bar = bars[query];
      // Most rows are passed by.
      for (std::size_t j = 0; (j = reaching(bar, block, dots, j, some)) < some; ++j) {
        best[query].show({first + j, rows.score(query, first, j, block, metric)});
        bar = Bar{best[query].worst(), rows.squares(query), metric, Rows::error};
      }
    }
  }
  return best;
}

// The k best of some rows, which must be in order.
template <typename Rows>
std::vector<Hit> best_of(const Rows& rows, std::size_t query, std::span<const std::int64_t> some,
                         std::size_t k, Metric metric) {
  k = std::min(k, some.size());
  if (k == 0) return {};
  Best best{k};
  for (const std::int64_t row : some)
    best.show({static_cast<std::size_t>(row), rows.score(query, static_cast<std::size_t>(row),
                                                         metric)});
  return std::move(best).in_order();
}

}  // namespace astromesh
