#pragma once
// The letters of pii.hpp: which characters stand in addresses and between digits, and how long
// the accounts of a country are.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace astromesh {

inline bool is_digit(std::uint32_t c) { return c - '0' < 10; }
inline bool is_ascii_letter(std::uint32_t c) { return (c | 0x20) - 'a' < 26; }

// Latin, Greek and Cyrillic letters. Scripts without spaces between words end a number.
inline bool is_letter(std::uint32_t c) {
  if (c < 0x80) return is_ascii_letter(c);
  return (c >= 0xc0 && c <= 0x24f && c != 0xd7 && c != 0xf7) || (c >= 0x370 && c <= 0x52f);
}
inline bool is_alnum(std::uint32_t c) { return is_digit(c) || is_letter(c); }

inline bool is_dash(std::uint32_t c) {
  return c == '-' || (c >= 0x2010 && c <= 0x2013) || c == 0x2212;
}
inline bool is_blank(std::uint32_t c) {
  return c == ' ' || c == 0xa0 || c == 0x2007 || c == 0x2009 || c == 0x202f;
}
inline bool is_plain_separator(std::uint32_t c) { return is_blank(c) || is_dash(c); }
inline bool is_separator(std::uint32_t c) {
  return is_plain_separator(c) || c == '.' || c == '/' || c == '(' || c == ')';
}

// In the part of an address before the @.
inline bool is_local(std::uint32_t c) {
  return is_alnum(c) || c == '.' || c == '_' || c == '%' || c == '+' || c == '-' || c == '\'' ||
         c == '&';
}

inline char upper(std::uint32_t c) { return static_cast<char>(c & ~std::uint32_t{0x20}); }

// Of the IBAN registry (ISO 13616); 0 for a country that has none.
inline std::size_t iban_size(std::string_view country) {
  static constexpr std::string_view sizes =
      "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29"
      "ES24FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20"
      "LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29"
      "PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20"
      "YE30";
  for (std::size_t i = 0; i < sizes.size(); i += 4)
    if (sizes.substr(i, 2) == country)
      return static_cast<std::size_t>((sizes[i + 2] - '0') * 10 + (sizes[i + 3] - '0'));
  return 0;
}

}  // namespace astromesh
