#pragma once
// How near a row is to a query, exactly: what counts in the end, whatever kernel looked first.
// Knows nothing of Python.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>

#include "astromesh/tiles.hpp"

namespace astromesh {

enum class Metric { cosine, dot, l2 };

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The more the better: of a distance its square, negative.
struct Terms {
  double dot = 0;
  double squares = 0;     // of the row
  double difference = 0;  // of the two, squared
};

// A row that isn't finite has no direction, and is far from everything.
inline double score(const Terms& terms, double length, Metric metric) {
  const bool is_finite = std::isfinite(terms.squares);
  if (metric == Metric::dot) return is_finite ? terms.dot : -kInfinity;
  if (metric == Metric::l2) return is_finite ? -terms.difference : -kInfinity;
  const double norms = is_finite ? length * std::sqrt(terms.squares) : 0;
  return norms == 0 ? 0 : std::clamp(terms.dot / norms, -1.0, 1.0);
}

// Eight sums beside one another, added up in one order: every processor gives the same.
inline double added_up(const double* sums) {
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

template <typename Row>
Terms exact_terms(const float* query, const Row* row, std::size_t size) {
  double dot[8] = {}, squares[8] = {}, difference[8] = {};
  for (std::size_t at = 0; at < size; at += 8)
    for (std::size_t i = 0; i < std::min<std::size_t>(8, size - at); ++i) {
      const double q = double{query[at + i]}, r = double{number(row[at + i])};
      dot[i] += q * r;
      squares[i] += r * r;
      difference[i] += (q - r) * (q - r);
    }
  return {added_up(dot), added_up(squares), added_up(difference)};
}

#if ASTROMESH_X86

// Without `fma`, which would round in another way.
#define ASTROMESH_AVX2_ROUNDING [[gnu::target("avx2,f16c")]]

ASTROMESH_AVX2_ROUNDING inline __m256 eight_to_round(const float* row) {
  return _mm256_loadu_ps(row);
}
ASTROMESH_AVX2_ROUNDING inline __m256 eight_to_round(const Half* row) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row)));
}

ASTROMESH_AVX2_ROUNDING inline double added_up(const __m256d* sums) {
  const __m256d four = _mm256_add_pd(sums[0], sums[1]);
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

template <typename Row>
ASTROMESH_AVX2_ROUNDING Terms exact_terms_avx2(const float* query, const Row* row,
                                               std::size_t size) {
  __m256d dot[2] = {}, squares[2] = {}, difference[2] = {};
  float last_query[8] = {};
  Row last_row[8] = {};
  for (std::size_t at = 0; at < size; at += 8) {
    const float* some = query + at;
    const Row* others = row + at;
    if (const std::size_t rest = size - at; rest < 8) {
      std::memcpy(last_query, some, rest * sizeof(float));
      std::memcpy(last_row, others, rest * sizeof(Row));
      some = last_query;
      others = last_row;
    }
    const __m256 a = _mm256_loadu_ps(some), b = eight_to_round(others);
    const __m256d q[2] = {_mm256_cvtps_pd(_mm256_castps256_ps128(a)),
                          _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1))};
    const __m256d r[2] = {_mm256_cvtps_pd(_mm256_castps256_ps128(b)),
                          _mm256_cvtps_pd(_mm256_extractf128_ps(b, 1))};
    for (std::size_t i = 0; i < 2; ++i) {
      const __m256d apart = _mm256_sub_pd(q[i], r[i]);
      dot[i] = _mm256_add_pd(dot[i], _mm256_mul_pd(q[i], r[i]));
      squares[i] = _mm256_add_pd(squares[i], _mm256_mul_pd(r[i], r[i]));
      difference[i] = _mm256_add_pd(difference[i], _mm256_mul_pd(apart, apart));
    }
  }
  return {added_up(dot), added_up(squares), added_up(difference)};
}

#endif

template <typename Row>
using Exact = Terms (*)(const float* query, const Row* row, std::size_t size);

template <typename Row>
Exact<Row> best_exact() {
#if ASTROMESH_X86
  if (has_f16c()) return exact_terms_avx2<Row>;
#endif
  return exact_terms<Row>;
}

}  // namespace astromesh
