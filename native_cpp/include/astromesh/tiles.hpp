#pragma once
// Products of four queries with four rows at once, so that a row is read once for all of them.
// The rows are float32 or float16. Knows nothing of Python.
//
// `best_tiles` chooses at run time. Results are near (kSumsTolerance), never final: nearest.hpp
// does what may be among the best again in double. So all processors give the same answers.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "astromesh/sums.hpp"

namespace astromesh {

// IEEE 754 binary16, in which models give and stores keep embeddings.
struct Half {
  std::uint16_t bits;
};

inline float number(float x) { return x; }

inline float number(Half x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000U) << 16;
  const std::uint32_t rest = x.bits & 0x7fffU;
  std::uint32_t bits = sign;
  if (rest >= 0x7c00) {
    bits |= 0x7f800000U | (rest & 0x3ffU) << 13;
  } else if (rest >= 0x400) {
    bits |= (rest << 13) + 0x38000000U;
  } else {
    const float tiny = static_cast<float>(rest) * 0x1p-24F;
    return sign ? -tiny : tiny;
  }
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

template <typename Row>
struct Tiles {
  // out[4 * i + j] is queries[i] . rows[j]; the same pointer may be there several times.
  void (*dots)(const float* const* queries, const Row* const* rows, std::size_t size, float* out);
  // One row against one query, read in order: for rows that come from memory.
  Sums (*sums)(const float* query, const Row* row, std::size_t size);
};

template <typename Row>
Sums sums_near(const float* query, const Row* row, std::size_t size) {
  constexpr std::size_t block = 128;  // even without SIMD the bound holds
  Sums total;
  for (std::size_t start = 0; start < size; start += block) {
    const std::size_t end = size - start < block ? size : start + block;
    float dot = 0;
    float squares = 0;
#pragma omp simd reduction(+ : dot, squares)
    for (std::size_t i = start; i < end; ++i) {
      const float r = number(row[i]);
      dot += query[i] * r;
      squares += r * r;
    }
    total.dot += double{dot};
    total.squares += double{squares};
  }
  return total;
}

template <typename Row>
void dots_portable(const float* const* queries, const Row* const* rows, std::size_t size,
                   float* out) {
  for (std::size_t i = 0; i < 4; ++i)
    for (std::size_t j = 0; j < 4; ++j)
      out[4 * i + j] = static_cast<float>(sums_near(queries[i], rows[j], size).dot);
}

#if ASTROMESH_X86

#define ASTROMESH_AVX2 [[gnu::target("avx2,fma,f16c")]]
#define ASTROMESH_AVX512 [[gnu::target("avx2,fma,f16c,avx512f,avx512bw,avx512vl")]]

ASTROMESH_AVX2 inline __m256 eight(const float* row) { return _mm256_loadu_ps(row); }
ASTROMESH_AVX2 inline __m256 eight(const Half* row) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row)));
}

// What is missing to eight counts as zeros.
template <typename Row>
ASTROMESH_AVX2 inline __m256 part(const Row* row, std::size_t count) {
  Row padded[8] = {};
  std::memcpy(padded, row, count * sizeof(Row));
  return eight(padded);
}

template <typename Row>
ASTROMESH_AVX2 void dots_avx2(const float* const* queries, const Row* const* rows,
                              std::size_t size, float* out) {
  double total[16] = {};
  for (std::size_t start = 0; start < size; start += kBlock) {
    const std::size_t end = size - start < kBlock ? size : start + kBlock;
    for (std::size_t j = 0; j < 4; j += 2) {  // two rows fill the registers
      __m256 sum[4][2] = {};
      std::size_t at = start;
      for (; at + 8 <= end; at += 8) {
        const __m256 a = eight(rows[j] + at), b = eight(rows[j + 1] + at);
        for (std::size_t i = 0; i < 4; ++i) {
          const __m256 q = _mm256_loadu_ps(queries[i] + at);
          sum[i][0] = _mm256_fmadd_ps(q, a, sum[i][0]);
          sum[i][1] = _mm256_fmadd_ps(q, b, sum[i][1]);
        }
      }
      if (at < end) {
        const __m256 a = part(rows[j] + at, end - at), b = part(rows[j + 1] + at, end - at);
        for (std::size_t i = 0; i < 4; ++i) {
          const __m256 q = part(queries[i] + at, end - at);
          sum[i][0] = _mm256_fmadd_ps(q, a, sum[i][0]);
          sum[i][1] = _mm256_fmadd_ps(q, b, sum[i][1]);
        }
      }
      for (std::size_t i = 0; i < 4; ++i)
        for (std::size_t k = 0; k < 2; ++k) total[4 * i + j + k] += double{added_up(sum[i][k])};
    }
  }
  for (std::size_t i = 0; i < 16; ++i) out[i] = static_cast<float>(total[i]);
}

ASTROMESH_AVX2 inline Sums halves_avx2(const float* query, const Half* row, std::size_t size) {
  Sums total;
  for (std::size_t start = 0; start < size; start += kBlock) {
    const std::size_t end = size - start < kBlock ? size : start + kBlock;
    __m256 dot[2] = {}, squares[2] = {};
    std::size_t at = start;
    for (; at + 16 <= end; at += 16) {
      const auto ahead = reinterpret_cast<std::size_t>(row + at) + kAhead * sizeof(float);
      _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T0);
      for (std::size_t j = 0; j < 2; ++j) {
        const __m256 r = eight(row + at + 8 * j);
        dot[j] = _mm256_fmadd_ps(_mm256_loadu_ps(query + at + 8 * j), r, dot[j]);
        squares[j] = _mm256_fmadd_ps(r, r, squares[j]);
      }
    }
    for (; at < end; at += 8) {
      const std::size_t count = end - at < 8 ? end - at : 8;
      const __m256 r = part(row + at, count);
      dot[0] = _mm256_fmadd_ps(part(query + at, count), r, dot[0]);
      squares[0] = _mm256_fmadd_ps(r, r, squares[0]);
    }
    total.dot += double{added_up(_mm256_add_ps(dot[0], dot[1]))};
    total.squares += double{added_up(_mm256_add_ps(squares[0], squares[1]))};
  }
  return total;
}

inline Sums near_avx2(const float* query, const float* row, std::size_t size) {
  return sums_avx2(query, row, size);
}
inline Sums near_avx2(const float* query, const Half* row, std::size_t size) {
  return halves_avx2(query, row, size);
}

ASTROMESH_AVX512 inline __m512 sixteen(const float* row) { return _mm512_loadu_ps(row); }
ASTROMESH_AVX512 inline __m512 sixteen(const Half* row) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row)));
}
ASTROMESH_AVX512 inline __m512 sixteen(const float* row, __mmask16 some) {
  return _mm512_maskz_loadu_ps(some, row);
}
ASTROMESH_AVX512 inline __m512 sixteen(const Half* row, __mmask16 some) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(some, row));
}

// The sums of the numbers of each of four.
ASTROMESH_AVX512 inline __m128 four_sums(const __m512* v) {
  const __m512 ab =
      _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
  const __m512 cd =
      _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
  const __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512 all = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
  const __m256 half =
      _mm256_add_ps(_mm512_castps512_ps256(all),
                    _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(all), 1)));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

template <typename Row>
ASTROMESH_AVX512 void dots_avx512(const float* const* queries, const Row* const* rows,
                                  std::size_t size, float* out) {
  constexpr std::size_t block = 2 * kBlock;
  const float* const query[4] = {queries[0], queries[1], queries[2], queries[3]};
  const Row* const row[4] = {rows[0], rows[1], rows[2], rows[3]};
  __m256d total[4] = {};
  for (std::size_t start = 0; start < size; start += block) {
    const std::size_t end = size - start < block ? size : start + block;
    __m512 sum[4][4] = {};
    std::size_t at = start;
    for (; at + 16 <= end; at += 16) {
      const __m512 r[4] = {sixteen(row[0] + at), sixteen(row[1] + at), sixteen(row[2] + at),
                           sixteen(row[3] + at)};
      for (std::size_t i = 0; i < 4; ++i) {
        const __m512 q = _mm512_loadu_ps(query[i] + at);
        for (std::size_t j = 0; j < 4; ++j) sum[i][j] = _mm512_fmadd_ps(q, r[j], sum[i][j]);
      }
    }
    if (at < end) {
      const auto some = static_cast<__mmask16>((1U << (end - at)) - 1);
      const __m512 r[4] = {sixteen(row[0] + at, some), sixteen(row[1] + at, some),
                           sixteen(row[2] + at, some), sixteen(row[3] + at, some)};
      for (std::size_t i = 0; i < 4; ++i) {
        const __m512 q = sixteen(query[i] + at, some);
        for (std::size_t j = 0; j < 4; ++j) sum[i][j] = _mm512_fmadd_ps(q, r[j], sum[i][j]);
      }
    }
    for (std::size_t i = 0; i < 4; ++i)
      total[i] = _mm256_add_pd(total[i], _mm256_cvtps_pd(four_sums(sum[i])));
  }
  for (std::size_t i = 0; i < 4; ++i) _mm_storeu_ps(out + 4 * i, _mm256_cvtpd_ps(total[i]));
}

inline bool has_f16c() { return has_avx2() && __builtin_cpu_supports("f16c"); }

inline bool has_avx512() {
  return has_f16c() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl");
}

#endif  // ASTROMESH_X86

// The fastest that this processor can run. One query waits for memory, and wider registers do
// not make that faster.
template <typename Row>
Tiles<Row> best_tiles() {
#if ASTROMESH_X86
  if (has_avx512()) return {dots_avx512<Row>, near_avx2};
  if (has_f16c()) return {dots_avx2<Row>, near_avx2};
#endif
  return {dots_portable<Row>, sums_near<Row>};
}

}  // namespace astromesh
