#pragma once
// Late interaction: for each row of a query the best cosine among the rows of a passage. Knows
// nothing of Python. Meaning: servers/kernel/native/late_interaction.py.
//
// The directions of sixteen rows of the query lie number by number beside one another, so that a
// number of the passage is multiplied with all of them, and no sum is added up across a register.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "astromesh/blocks.hpp"
#include "astromesh/rank.hpp"
#include "astromesh/sums.hpp"
#include "astromesh/tiles.hpp"

namespace astromesh {

inline constexpr std::size_t kLanes = 16;   // rows of a query that are done together
inline constexpr std::size_t kTerms = 128;  // that are added up before they join the total

// best[i] becomes the largest of what it is and of the products of lane i of `packed` with the
// rows, each times its scale.
using BestProducts = void (*)(const float* packed, const float* rows, const float* scales,
                              std::size_t count, std::size_t size, float* best);

inline void best_products_portable(const float* packed, const float* rows, const float* scales,
                                   std::size_t count, std::size_t size, float* best) {
  for (std::size_t j = 0; j < count; ++j) {
    float total[kLanes] = {};
    for (std::size_t start = 0; start < size; start += kTerms) {
      float sum[kLanes] = {};
      for (std::size_t at = start; at < std::min(size, start + kTerms); ++at)
        for (std::size_t i = 0; i < kLanes; ++i)
          sum[i] += packed[kLanes * at + i] * rows[j * size + at];
      for (std::size_t i = 0; i < kLanes; ++i) total[i] += sum[i];
    }
    for (std::size_t i = 0; i < kLanes; ++i) best[i] = std::max(best[i], total[i] * scales[j]);
  }
}

#if ASTROMESH_X86

ASTROMESH_AVX2 inline void best_products_avx2(const float* packed, const float* rows,
                                              const float* scales, std::size_t count,
                                              std::size_t size, float* best) {
  constexpr std::size_t some = 4;
  __m256 top[2] = {_mm256_loadu_ps(best), _mm256_loadu_ps(best + 8)};
  for (std::size_t j = 0; j < count; j += some) {
    const float* row[some];
    for (std::size_t r = 0; r < some; ++r) row[r] = rows + std::min(j + r, count - 1) * size;
    __m256 total[some][2] = {};
    for (std::size_t start = 0; start < size; start += kTerms) {
      const std::size_t end = std::min(size, start + kTerms);
      __m256 sum[some][2] = {};
      for (std::size_t at = start; at < end; ++at) {
        const __m256 low = _mm256_loadu_ps(packed + kLanes * at);
        const __m256 high = _mm256_loadu_ps(packed + kLanes * at + 8);
#pragma GCC unroll 4
        for (std::size_t r = 0; r < some; ++r) {
          const __m256 x = _mm256_broadcast_ss(row[r] + at);
          sum[r][0] = _mm256_fmadd_ps(low, x, sum[r][0]);
          sum[r][1] = _mm256_fmadd_ps(high, x, sum[r][1]);
        }
      }
      for (std::size_t r = 0; r < some; ++r)
        for (std::size_t i = 0; i < 2; ++i) total[r][i] = _mm256_add_ps(total[r][i], sum[r][i]);
    }
    for (std::size_t r = 0; r < some; ++r) {
      const __m256 scale = _mm256_set1_ps(scales[std::min(j + r, count - 1)]);
      for (std::size_t i = 0; i < 2; ++i)
        top[i] = _mm256_max_ps(top[i], _mm256_mul_ps(total[r][i], scale));
    }
  }
  _mm256_storeu_ps(best, top[0]);
  _mm256_storeu_ps(best + 8, top[1]);
}

// Two times sixteen rows of a query at once, which lie one behind the other, or one.
template <std::size_t packs>
ASTROMESH_AVX512 void best_products_avx512(const float* packed, const float* rows,
                                           const float* scales, std::size_t count,
                                           std::size_t size, float* best) {
  constexpr std::size_t some = packs == 1 ? 8 : 5;  // as many as there are registers for
  __m512 top[packs];
  for (std::size_t i = 0; i < packs; ++i) top[i] = _mm512_loadu_ps(best + kLanes * i);
  for (std::size_t j = 0; j < count; j += some) {
    const float* row[some];
    for (std::size_t r = 0; r < some; ++r) row[r] = rows + std::min(j + r, count - 1) * size;
    __m512 total[some][packs] = {};
    for (std::size_t start = 0; start < size; start += kTerms) {
      const std::size_t end = std::min(size, start + kTerms);
      __m512 sum[some][packs] = {};
      for (std::size_t at = start; at < end; ++at) {
        const __m512 first = _mm512_loadu_ps(packed + kLanes * at);
        const __m512 second = _mm512_loadu_ps(packed + kLanes * ((packs - 1) * size + at));
#pragma GCC unroll 8
        for (std::size_t r = 0; r < some; ++r) {
          const __m512 x = _mm512_set1_ps(row[r][at]);
          sum[r][0] = _mm512_fmadd_ps(first, x, sum[r][0]);
          if constexpr (packs == 2) sum[r][1] = _mm512_fmadd_ps(second, x, sum[r][1]);
        }
      }
      for (std::size_t r = 0; r < some; ++r)
        for (std::size_t i = 0; i < packs; ++i) total[r][i] = _mm512_add_ps(total[r][i], sum[r][i]);
    }
    for (std::size_t r = 0; r < some; ++r) {
      const __m512 scale = _mm512_set1_ps(scales[std::min(j + r, count - 1)]);
      for (std::size_t i = 0; i < packs; ++i)
        top[i] = _mm512_max_ps(top[i], _mm512_mul_ps(total[r][i], scale));
    }
  }
  for (std::size_t i = 0; i < packs; ++i) _mm512_storeu_ps(best + kLanes * i, top[i]);
}

#endif  // ASTROMESH_X86

struct MaxSimKernels {
  BestProducts one;  // pack
  BestProducts two;  // packs, one behind the other; not all processors have it
};

inline MaxSimKernels best_max_sim_kernels() {
#if ASTROMESH_X86
  if (has_avx512()) return {best_products_avx512<1>, best_products_avx512<2>};
  if (has_avx2()) return {best_products_avx2, nullptr};
#endif
  return {best_products_portable, nullptr};
}

// The directions of rows, in packs of kLanes: number `at` of row i of a pack is at kLanes * at + i.
inline std::vector<float> packed_directions(Queries queries) {
  const std::size_t size = queries.size, packs = (queries.count + kLanes - 1) / kLanes;
  std::vector<float> out(packs * kLanes * size);
  const Exact<float> exact = best_exact<float>();
  for (std::size_t i = 0; i < queries.count; ++i) {
    const double squares = exact(queries[i], queries[i], size).squares;
    const double scale = squares == 0 ? 0 : 1 / std::sqrt(squares);
    float* to = out.data() + i / kLanes * kLanes * size + i % kLanes;
    for (std::size_t at = 0; at < size; ++at)
      to[kLanes * at] = static_cast<float>(queries[i][at] * scale);
  }
  return out;
}

// For each query the largest cosine with one of the rows; -1, which is the least, without any.
inline std::vector<float> max_sim(Queries queries, std::span<const float> rows,
                                  MaxSimKernels kernels = best_max_sim_kernels()) {
  const std::size_t size = queries.size, count = rows.size() / size;
  std::vector<float> best((queries.count + kLanes - 1) / kLanes * kLanes, -1.0F);
  const Kernel kernel = best_kernel();
  std::vector<float> scales(count);
  bool are_safe = true;
  for (std::size_t j = 0; j < count; ++j) {
    const double squares = kernel(rows.data() + j * size, rows.data() + j * size, size).squares;
    are_safe = are_safe && is_safe(squares);
    scales[j] = static_cast<float>(1 / std::sqrt(squares));
  }
  if (are_safe && count > 0) {
    const std::vector<float> packed = packed_directions(queries);
    for (std::size_t i = 0; i < best.size();) {
      const bool both = kernels.two && best.size() - i >= 2 * kLanes;
      (both ? kernels.two : kernels.one)(packed.data() + i * size, rows.data(), scales.data(),
                                         count, size, best.data() + i);
      i += both ? 2 * kLanes : kLanes;
    }
  } else {  // rare: a row that is very long or short, or has no direction
    for (std::size_t i = 0; i < queries.count; ++i) {
      const double length = std::sqrt(sums_double(queries[i], queries[i], size).squares);
      for (std::size_t j = 0; j < count; ++j) {
        const double found = cosine(queries[i], length, rows.data() + j * size, size, sums_double);
        best[i] = std::max(best[i], static_cast<float>(found));
      }
    }
  }
  best.resize(queries.count);
  for (float& x : best) x = std::clamp(x, -1.0F, 1.0F);
  return best;
}

}  // namespace astromesh
