#pragma once
// What kind of character a code point is, as far as chunking asks. Knows nothing of Python.

#include <cstdint>

namespace astromesh {

// Those that Python's str.strip() takes for white space.
inline bool is_space(std::uint32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x1f);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

inline bool is_digit(std::uint32_t c) { return c >= '0' && c <= '9'; }

inline bool is_ascii_letter(std::uint32_t c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; }

// What may be part of the same word as an ASCII letter.
inline bool is_letter_or_digit(std::uint32_t c) {
  return is_digit(c) || is_ascii_letter(c) || (c >= 0xc0 && c <= 0x52f);
}

// Lower case in Latin-1, Greek and Cyrillic.
inline bool is_lower(std::uint32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= 0xdf && c <= 0xff && c != 0xf7) ||
         (c >= 0x3b1 && c <= 0x3c9) || (c >= 0x430 && c <= 0x45f);
}

}  // namespace astromesh
