#pragma once
// What is looked at together: some rows in a row, and the bar that a product of each must reach.
// Knows nothing of Python.

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "astromesh/terms.hpp"

namespace astromesh {

inline constexpr std::size_t kMostRows = 256;  // that are looked at together

struct Queries {
  const float* data;
  std::size_t count;
  std::size_t size;  // at least 1; all numbers are finite

  const float* operator[](std::size_t i) const { return data + i * size; }
};

// What is known of some rows in a row. Where a length is NaN, products mean nothing.
struct Block {
  // `rows` must be a multiple of four; `queries` are done at once.
  Block(std::size_t rows, std::size_t queries)
      : lengths(rows), squares(rows), dots(queries * rows), whole(queries * rows) {}

  std::vector<double> lengths, squares;  // of the rows
  std::vector<float> dots;               // of all rows with a query, then with the next
  std::vector<std::int32_t> whole;       // of codes: of all queries with a row, then with the next
};

inline double safe_length(double squares) {
  return is_safe(squares) ? std::sqrt(squares) : std::numeric_limits<double>::quiet_NaN();
}

// Rows whose product with a query is below this can't be among its best.
struct Bar {
  double base = -kInfinity, by_length = 0, by_squares = 0;

  // What follows from the worst score that is kept, products being near by `error`.
  Bar(double worst, double squares, Metric metric, double error) {
    if (worst == -kInfinity || (squares != 0 && !is_safe(squares))) return;
    const double length = std::sqrt(squares);
    if (metric == Metric::cosine) {
      base = 0;
      by_length = (worst - 3 * error) * length;
      return;
    }
    by_length = -2 * error * length;
    if (metric == Metric::dot) {
      base = worst;
    } else {
      base = (squares + worst) / 2 - 1e-12 * (squares - worst);
      by_squares = 0.5 - error;
    }
  }

  bool misses(const Block& block, const float* dots, std::size_t j) const {
    return dots[j] < base + by_length * block.lengths[j] + by_squares * block.squares[j];
  }

  bool any_of_eight(const Block& block, const float* dots, std::size_t j) const {
    int missed = 0;
    for (std::size_t c = 0; c < 8; ++c) missed += misses(block, dots, j + c);
    return missed < 8;
  }
};

// The first row from `j` on that reaches the bar; `some` where none does.
using Reaching = std::size_t (*)(const Bar& bar, const Block& block, const float* dots,
                                 std::size_t j, std::size_t some);

inline std::size_t reaching_portable(const Bar& bar, const Block& block, const float* dots,
                                     std::size_t j, std::size_t some) {
  while (j + 8 <= some && !bar.any_of_eight(block, dots, j)) j += 8;
  while (j < some && bar.misses(block, dots, j)) ++j;
  return j;
}

#if ASTROMESH_X86

ASTROMESH_AVX512 inline std::size_t reaching_avx512(const Bar& bar, const Block& block,
                                                    const float* dots, std::size_t j,
                                                    std::size_t some) {
  const __m512d base = _mm512_set1_pd(bar.base), by_length = _mm512_set1_pd(bar.by_length),
                by_squares = _mm512_set1_pd(bar.by_squares);
  for (; j + 8 <= some; j += 8) {
    const __m512d with_length =
        _mm512_fmadd_pd(by_length, _mm512_loadu_pd(block.lengths.data() + j), base);
    const __m512d least =
        _mm512_fmadd_pd(by_squares, _mm512_loadu_pd(block.squares.data() + j), with_length);
    const __m512d near = _mm512_cvtps_pd(_mm256_loadu_ps(dots + j));
    const unsigned missed = _mm512_cmp_pd_mask(near, least, _CMP_LT_OQ);
    if (missed != 0xff) return j + static_cast<std::size_t>(std::countr_one(missed));
  }
  return reaching_portable(bar, block, dots, j, some);
}

#endif

inline Reaching best_reaching() {
#if ASTROMESH_X86
  if (has_avx512()) return reaching_avx512;
#endif
  return reaching_portable;
}

}  // namespace astromesh
