#pragma once
// One row against a query: their dot product and the row's squared length, in one pass over the
// row. The inner loop of every similarity. Knows nothing of Python.
//
// There are several kernels and `best_kernel` chooses at run time, so that one build is right
// for every processor. Each takes one row at a time: four rows at once keep more arithmetic in
// flight but were measured at half the speed, since memory then is not read in order. For the
// same reason there is none for AVX-512 yet: memory, not arithmetic, is what rows wait for.

#include <cstddef>

#if defined(__x86_64__) && defined(__GNUC__)
#define ASTROMESH_X86 1
#include <immintrin.h>
#endif

namespace astromesh {

struct Sums {
  double dot = 0;      // query . row
  double squares = 0;  // row . row
};

using Kernel = Sums (*)(const float* query, const float* row, std::size_t size);

// Bound on |dot - exact| / (|query| |row|) and on |squares - exact| / exact, for any size and
// any kernel: floats are added up in blocks, and blocks in double. Sums of whole numbers below
// 2^24 are exact. Holds while nothing overflows or underflows; `is_safe` says when that is.
inline constexpr double kSumsTolerance = 1e-5;

// Whether a vector of that squared length can go through the float kernels: products of two
// such vectors neither overflow nor lose anything that matters to underflow.
inline bool is_safe(double squares) { return squares >= 0x1p-80 && squares <= 0x1p+80; }

// The slow one without limits: no finite float overflows in double.
inline Sums sums_double(const float* query, const float* row, std::size_t size) {
  Sums total;
  for (std::size_t i = 0; i < size; ++i) {
    total.dot += double{query[i]} * double{row[i]};
    total.squares += double{row[i]} * double{row[i]};
  }
  return total;
}

// For processors we have nothing special for. The pragma lets the compiler add in any order.
inline Sums sums_portable(const float* query, const float* row, std::size_t size) {
  constexpr std::size_t block = 128;  // even without SIMD the bound above holds
  Sums total;
  for (std::size_t start = 0; start < size; start += block) {
    const std::size_t end = size - start < block ? size : start + block;
    float dot = 0;
    float squares = 0;
#pragma omp simd reduction(+ : dot, squares)
    for (std::size_t i = start; i < end; ++i) {
      dot += query[i] * row[i];
      squares += row[i] * row[i];
    }
    total.dot += double{dot};
    total.squares += double{squares};
  }
  return total;
}

#if ASTROMESH_X86

// Four accumulators for each of the two sums hide the latency of the additions. The prefetch
// carries on into the rows that follow, where the hardware's own prefetcher would start anew.
inline constexpr std::size_t kBlock = 1024;  // floats; at most 32 additions per accumulator
inline constexpr std::size_t kAhead = 256;   // floats

[[gnu::target("avx2,fma")]] inline float added_up(__m256 v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

[[gnu::target("avx2,fma")]] inline Sums sums_avx2(const float* query, const float* row,
                                                  std::size_t size) {
  Sums total;
  while (size > 0) {
    std::size_t rest = size < kBlock ? size : kBlock;
    size -= rest;
    __m256 dot[4] = {}, squares[4] = {};
    for (; rest >= 32; rest -= 32, query += 32, row += 32) {
      // A prefetch never faults, but a pointer past the end may not be computed: hence as number.
      const auto ahead = reinterpret_cast<std::size_t>(row) + kAhead * sizeof(float);
      _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(ahead + 64), _MM_HINT_T0);
      for (std::size_t j = 0; j < 4; ++j) {
        const __m256 r = _mm256_loadu_ps(row + 8 * j);
        dot[j] = _mm256_fmadd_ps(_mm256_loadu_ps(query + 8 * j), r, dot[j]);
        squares[j] = _mm256_fmadd_ps(r, r, squares[j]);
      }
    }
    for (; rest > 0;) {
      // What is missing to a whole vector counts as zeros.
      const std::size_t step = rest < 8 ? rest : 8;
      const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
      const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(step)), lanes);
      const __m256 r = _mm256_maskload_ps(row, mask);
      dot[0] = _mm256_fmadd_ps(_mm256_maskload_ps(query, mask), r, dot[0]);
      squares[0] = _mm256_fmadd_ps(r, r, squares[0]);
      rest -= step;
      query += step;
      row += step;
    }
    total.dot += double{added_up(_mm256_add_ps(_mm256_add_ps(dot[0], dot[1]),
                                               _mm256_add_ps(dot[2], dot[3])))};
    total.squares += double{added_up(_mm256_add_ps(_mm256_add_ps(squares[0], squares[1]),
                                                   _mm256_add_ps(squares[2], squares[3])))};
  }
  return total;
}

inline bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

#endif  // ASTROMESH_X86

// The fastest kernel that this processor can run.
inline Kernel best_kernel() {
#if ASTROMESH_X86
  if (has_avx2()) return sums_avx2;
#endif
  return sums_portable;
}

}  // namespace astromesh
