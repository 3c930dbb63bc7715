#pragma once
// Finds a separator again and again, 64 characters at a time: words are short, and to guess wrong
// where each of them ends would take longer than to look. Knows nothing of Python.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace astromesh {

// Bit i tells whether text[i] is `c`; the text must have 64 characters.
template <typename Char>
std::uint64_t matches(const Char* text, Char c) {
  std::uint64_t found = 0;
#if defined(__SSE2__)  // which every x86-64 has
  const auto load = [&](std::size_t i) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(text + i));
  };
  for (std::size_t i = 0; i < 64; i += 16) {
    __m128i equal;
    if constexpr (sizeof(Char) == 1) {
      equal = _mm_cmpeq_epi8(load(i), _mm_set1_epi8(static_cast<char>(c)));
    } else if constexpr (sizeof(Char) == 2) {
      const __m128i wanted = _mm_set1_epi16(static_cast<short>(c));
      equal = _mm_packs_epi16(_mm_cmpeq_epi16(load(i), wanted),
                              _mm_cmpeq_epi16(load(i + 8), wanted));
    } else {
      const __m128i wanted = _mm_set1_epi32(static_cast<int>(c));
      equal = _mm_packs_epi16(_mm_packs_epi32(_mm_cmpeq_epi32(load(i), wanted),
                                              _mm_cmpeq_epi32(load(i + 4), wanted)),
                              _mm_packs_epi32(_mm_cmpeq_epi32(load(i + 8), wanted),
                                              _mm_cmpeq_epi32(load(i + 12), wanted)));
    }
    found |= std::uint64_t{static_cast<std::uint32_t>(_mm_movemask_epi8(equal))} << i;
  }
#else
  for (std::size_t i = 0; i < 64; ++i) found |= std::uint64_t{text[i] == c} << i;
#endif
  return found;
}

// Where `what`, which must not be empty, begins in text[start, end): in order, as they are asked.
template <typename Char>
class Finder {
 public:
  Finder(std::span<const Char> text, std::u32string_view what, std::size_t start, std::size_t end)
      : text_(text), what_(what), end_(end), at_(start), stop_(start) {
    if (end - start < what.size()) return;
    if constexpr (sizeof(Char) < 4)  // a text has no characters wider than its own
      if (std::ranges::any_of(what, [](char32_t c) { return c > static_cast<Char>(-1); })) return;
    stop_ = end - what.size() + 1;
    if (at_ < stop_) mask_ = block();
  }

  // The first one at `from` or later, the end where there is none. `from` must never decrease.
  std::size_t next(std::size_t from) {
    while (true) {
      while (mask_ == 0) {
        if (stop_ - at_ <= 64) return end_;
        at_ += 64;
        mask_ = block();
      }
      const std::size_t found = at_ + static_cast<std::size_t>(std::countr_zero(mask_));
      mask_ &= mask_ - 1;
      if (found >= from && is_there(found)) return found;
    }
  }

 private:
  std::uint64_t block() const {
    const Char first = static_cast<Char>(what_[0]);
    if (stop_ - at_ >= 64) return matches(text_.data() + at_, first);
    std::uint64_t found = 0;
    for (std::size_t i = at_; i < stop_; ++i)
      found |= std::uint64_t{text_[i] == first} << (i - at_);
    return found;
  }

  bool is_there(std::size_t at) const {
    for (std::size_t i = 1; i < what_.size(); ++i)
      if (text_[at + i] != what_[i]) return false;
    return true;
  }

  std::span<const Char> text_;
  std::u32string_view what_;
  std::size_t end_;
  std::size_t at_;    // where the block begins that `mask_` is of
  std::size_t stop_;  // none begins here or later
  std::uint64_t mask_ = 0;
};

}  // namespace astromesh
