#pragma once
// Products of vectors of whole numbers from -127 to 127, which stand for longer ones: exact, and
// a quarter of the memory. Knows nothing of Python.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "astromesh/tiles.hpp"

namespace astromesh {

inline constexpr std::size_t kMostCodes = 65536;  // of a vector: sums stay within 32 bits

inline constexpr std::size_t kManyQueries = 16;

inline constexpr std::size_t kCodesAhead = 4096;  // how far before a row is read it is asked for

// out[4 * i + j] is queries[i] . rows[j]. Some kernels take one side as numbers without a sign:
// for them each code of a query is given with its first bit turned (`CodeKernels::turn`), and
// `row_sums` has the sum of each row's codes, which takes the difference off again.
using CodeDots = void (*)(const std::int8_t* const* queries, const std::int8_t* const* rows,
                          const std::int32_t* row_sums, std::size_t size, std::int32_t* out);

using CodeMany = void (*)(const std::int8_t* packed, const std::int8_t* rows, std::size_t count,
                          const std::int32_t* row_sums, std::size_t size, std::int32_t* out);

using CodeSpread = void (*)(const std::int32_t* products, std::size_t count,
                            const float* row_scales, const float* query_scales,
                            std::size_t queries, std::size_t stride, float* out);

// out[j] is query . row j, of `count` rows that follow one another.
using CodeRows = void (*)(const std::int8_t* query, const std::int8_t* rows, std::size_t count,
                          const std::int32_t* row_sums, std::size_t size, std::int32_t* out);

// Four numbers of each query, then the next four; zeros where there are no more.
inline std::vector<std::int8_t> packed(const std::int8_t* queries, std::size_t count,
                                       std::size_t size) {
  std::vector<std::int8_t> out((size + 3) / 4 * 4 * kManyQueries);
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t at = 0; at < size; at += 4)
      std::memcpy(out.data() + kManyQueries * at + 4 * i, queries + i * size + at,
                  size - at < 4 ? size - at : 4);
  return out;
}

inline void code_dots_portable(const std::int8_t* const* queries, const std::int8_t* const* rows,
                               const std::int32_t*, std::size_t size, std::int32_t* out) {
  for (std::size_t i = 0; i < 4; ++i)
    for (std::size_t j = 0; j < 4; ++j) {
      std::int32_t sum = 0;
      for (std::size_t at = 0; at < size; ++at) sum += queries[i][at] * rows[j][at];
      out[4 * i + j] = sum;
    }
}

#if ASTROMESH_X86

#define ASTROMESH_VNNI [[gnu::target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]]

ASTROMESH_AVX2 inline __m256i wide_codes(const std::int8_t* codes) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
}

ASTROMESH_AVX2 inline std::int32_t added_up(__m256i v) {
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

ASTROMESH_AVX2 inline void code_dots_avx2(const std::int8_t* const* queries,
                                          const std::int8_t* const* rows, const std::int32_t*,
                                          std::size_t size, std::int32_t* out) {
  const std::size_t whole = size / 16 * 16;
  for (std::size_t j = 0; j < 4; ++j) {
    __m256i sum[4] = {};
    for (std::size_t at = 0; at < whole; at += 16) {
      const __m256i r = wide_codes(rows[j] + at);
      for (std::size_t i = 0; i < 4; ++i)
        sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(wide_codes(queries[i] + at), r));
    }
    if (whole < size) {
      std::int8_t row[16] = {}, query[16] = {};
      std::memcpy(row, rows[j] + whole, size - whole);
      for (std::size_t i = 0; i < 4; ++i) {
        std::memcpy(query, queries[i] + whole, size - whole);
        sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(wide_codes(query), wide_codes(row)));
      }
    }
    for (std::size_t i = 0; i < 4; ++i) out[4 * i + j] = added_up(sum[i]);
  }
}

ASTROMESH_VNNI inline __m256i code_halved(__m512i v) {
  return _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
}

// The sums of the numbers of each of four.
ASTROMESH_VNNI inline __m128i four_sums(const __m512i* v) {
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]),
                                      _mm512_unpackhi_epi32(v[0], v[1]));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]),
                                      _mm512_unpackhi_epi32(v[2], v[3]));
  const __m256i all = code_halved(
      _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd)));
  return _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}

ASTROMESH_VNNI inline void code_dots_vnni(const std::int8_t* const* queries,
                                          const std::int8_t* const* rows,
                                          const std::int32_t* row_sums, std::size_t size,
                                          std::int32_t* out) {
  const std::int8_t* const query[4] = {queries[0], queries[1], queries[2], queries[3]};
  const std::int8_t* const row[4] = {rows[0], rows[1], rows[2], rows[3]};
  __m512i sum[4][4] = {};
  for (std::size_t at = 0; at < size; at += 64) {
    const std::size_t rest = size - at;
    const __mmask64 some = rest >= 64 ? ~__mmask64{0} : (__mmask64{1} << rest) - 1;
    __m512i r[4];
    for (std::size_t j = 0; j < 4; ++j) r[j] = _mm512_maskz_loadu_epi8(some, row[j] + at);
    for (std::size_t i = 0; i < 4; ++i) {
      const __m512i q = _mm512_maskz_loadu_epi8(some, query[i] + at);
      for (std::size_t j = 0; j < 4; ++j) sum[i][j] = _mm512_dpbusd_epi32(sum[i][j], q, r[j]);
    }
  }
  const __m128i raise = _mm_mullo_epi32(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(row_sums)), _mm_set1_epi32(128));
  for (std::size_t i = 0; i < 4; ++i)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 4 * i),
                     _mm_sub_epi32(four_sums(sum[i]), raise));
}

// All products of kManyQueries with `count` rows that follow one another: out[kManyQueries * j + i]
// is that of query i with row j. The queries lie as `packed` gives them: a register has four
// numbers of each, which are multiplied with the same four of a row, so that no sum has to be
// added up across a register in the end.
ASTROMESH_VNNI inline void code_many_vnni(const std::int8_t* packed, const std::int8_t* rows,
                                          std::size_t count, const std::int32_t* row_sums,
                                          std::size_t size, std::int32_t* out) {
  constexpr std::size_t some = 8;
  for (std::size_t first = 0; first < count; first += some) {
    const std::int8_t* row[some];
    for (std::size_t j = 0; j < some; ++j)
      row[j] = rows + (first + j < count ? first + j : count - 1) * size;
    const auto ahead = reinterpret_cast<std::size_t>(row[0] + some * size);
    __m512i sum[some] = {};
    std::size_t at = 0;
    for (; at + 4 <= size; at += 4) {
      _mm_prefetch(reinterpret_cast<const char*>(ahead + some * at), _MM_HINT_T0);
      const __m512i q = _mm512_loadu_si512(packed + kManyQueries * at);
#pragma GCC unroll 8
      for (std::size_t j = 0; j < some; ++j) {
        std::int32_t four;
        std::memcpy(&four, row[j] + at, 4);
        sum[j] = _mm512_dpbusd_epi32(sum[j], q, _mm512_set1_epi32(four));
      }
    }
    for (std::size_t j = 0; j < some && first + j < count; ++j) {
      if (at < size) {
        std::int32_t four = 0;
        std::memcpy(&four, row[j] + at, size - at);
        const __m512i q = _mm512_loadu_si512(packed + kManyQueries * at);
        sum[j] = _mm512_dpbusd_epi32(sum[j], q, _mm512_set1_epi32(four));
      }
      const __m512i raise = _mm512_set1_epi32(128 * row_sums[first + j]);
      _mm512_storeu_si512(out + kManyQueries * (first + j), _mm512_sub_epi32(sum[j], raise));
    }
  }
}

// out[j + stride * i] is products[kManyQueries * j + i] by both scales, of `queries` queries.
ASTROMESH_VNNI inline void code_spread_vnni(const std::int32_t* products, std::size_t count,
                                            const float* row_scales, const float* query_scales,
                                            std::size_t queries, std::size_t stride, float* out) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i steps = _mm512_slli_epi32(lanes, 4);  // kManyQueries apart
  for (std::size_t i = 0; i < queries; ++i) {
    const __m512 scale = _mm512_set1_ps(query_scales[i]);
    for (std::size_t j = 0; j < count; j += 16) {
      const std::size_t rest = count - j;
      const auto some = static_cast<__mmask16>(rest >= 16 ? 0xffffU : (1U << rest) - 1);
      const __m512i whole = _mm512_mask_i32gather_epi32(
          _mm512_setzero_si512(), some, steps, products + kManyQueries * j + i, 4);
      const __m512 scales = _mm512_mul_ps(_mm512_maskz_loadu_ps(some, row_scales + j), scale);
      _mm512_mask_storeu_ps(out + i * stride + j, some,
                            _mm512_mul_ps(_mm512_cvtepi32_ps(whole), scales));
    }
  }
}

// One query: a row at a time, in the order of memory.
ASTROMESH_VNNI inline std::int32_t code_dot_vnni(const std::int8_t* query, const std::int8_t* row,
                                                 std::int32_t row_sum, std::size_t size) {
  __m512i sum[2] = {};
  std::size_t at = 0;
  for (; at + 128 <= size; at += 128)
    for (std::size_t k = 0; k < 2; ++k) {
      const auto ahead = reinterpret_cast<std::size_t>(row + at + 64 * k) + 1024;
      _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T0);
      const __m512i q = _mm512_loadu_si512(query + at + 64 * k);
      sum[k] = _mm512_dpbusd_epi32(sum[k], q, _mm512_loadu_si512(row + at + 64 * k));
    }
  for (; at < size; at += 64) {
    const std::size_t rest = size - at;
    const __mmask64 some = rest >= 64 ? ~__mmask64{0} : (__mmask64{1} << rest) - 1;
    const __m512i q = _mm512_maskz_loadu_epi8(some, query + at);
    sum[0] = _mm512_dpbusd_epi32(sum[0], q, _mm512_maskz_loadu_epi8(some, row + at));
  }
  return added_up(code_halved(_mm512_add_epi32(sum[0], sum[1]))) - 128 * row_sum;
}

// Four rows at a time, which lie one behind the other: their sums are added up together.
ASTROMESH_VNNI inline void code_rows_vnni(const std::int8_t* query, const std::int8_t* rows,
                                          std::size_t count, const std::int32_t* row_sums,
                                          std::size_t size, std::int32_t* out) {
  std::size_t j = 0;
  for (; j + 4 <= count; j += 4) {
    const std::int8_t* row = rows + j * size;
    const auto ahead = reinterpret_cast<std::size_t>(row) + kCodesAhead;
    __m512i sum[4] = {};
    for (std::size_t at = 0; at < size; at += 64) {
      const std::size_t rest = size - at;
      const __mmask64 some = rest >= 64 ? ~__mmask64{0} : (__mmask64{1} << rest) - 1;
      const __m512i q = _mm512_maskz_loadu_epi8(some, query + at);
      for (std::size_t k = 0; k < 4; ++k) {
        _mm_prefetch(reinterpret_cast<const char*>(ahead + 4 * at + 64 * k), _MM_HINT_T0);
        const __m512i r = _mm512_maskz_loadu_epi8(some, row + k * size + at);
        sum[k] = _mm512_dpbusd_epi32(sum[k], q, r);
      }
    }
    const __m128i sums = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row_sums + j));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + j),
                     _mm_sub_epi32(four_sums(sum), _mm_slli_epi32(sums, 7)));
  }
  for (; j < count; ++j) out[j] = code_dot_vnni(query, rows + j * size, row_sums[j], size);
}

ASTROMESH_AVX2 inline std::int32_t code_dot_avx2(const std::int8_t* query, const std::int8_t* row,
                                                 std::int32_t, std::size_t size) {
  __m256i sum[2] = {};
  std::size_t at = 0;
  for (; at + 32 <= size; at += 32)
    for (std::size_t k = 0; k < 2; ++k)
      sum[k] = _mm256_add_epi32(sum[k], _mm256_madd_epi16(wide_codes(query + at + 16 * k),
                                                          wide_codes(row + at + 16 * k)));
  std::int32_t total = added_up(_mm256_add_epi32(sum[0], sum[1]));
  for (; at < size; ++at) total += query[at] * row[at];
  return total;
}

ASTROMESH_AVX2 inline void code_rows_avx2(const std::int8_t* query, const std::int8_t* rows,
                                          std::size_t count, const std::int32_t* row_sums,
                                          std::size_t size, std::int32_t* out) {
  for (std::size_t j = 0; j < count; ++j)
    out[j] = code_dot_avx2(query, rows + j * size, row_sums[j], size);
}

inline bool has_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }

#endif  // ASTROMESH_X86

inline void code_rows_portable(const std::int8_t* query, const std::int8_t* rows,
                               std::size_t count, const std::int32_t*, std::size_t size,
                               std::int32_t* out) {
  for (std::size_t j = 0; j < count; ++j) {
    std::int32_t sum = 0;
    for (std::size_t at = 0; at < size; ++at) sum += query[at] * rows[j * size + at];
    out[j] = sum;
  }
}

struct CodeKernels {
  int turn;  // each code of a query is given xor this
  CodeDots dots;
  CodeRows rows;
  CodeMany many;  // not all processors have these two
  CodeSpread spread;
};

inline CodeKernels best_code_kernels() {
#if ASTROMESH_X86
  if (has_vnni()) 
    return {0x80, code_dots_vnni, code_rows_vnni, code_many_vnni, code_spread_vnni};
  if (has_avx2()) return {0, code_dots_avx2, code_rows_avx2, nullptr, nullptr};
#endif
  return {0, code_dots_portable, code_rows_portable, nullptr, nullptr};
}

}  // namespace astromesh
