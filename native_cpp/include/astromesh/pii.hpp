#pragma once
// Finds what tells of a person: addresses, numbers of phones, cards and accounts. Knows nothing
// of Python. Meaning: servers/kernel/native/pii.py, which is this code in the same order.
//
// Every beginning is looked at once and reads a bounded number of characters: linear time. What
// is found is decided by characters that were read; a beginning that wanted to read past the end
// may become something else when more text comes, and that is how a stream knows what to hold.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "astromesh/pii_letters.hpp"

namespace astromesh {

// Their order settles which one a text is that is several.
enum class Pii : int { email, iban, credit_card, ssn, ip, phone };
inline constexpr unsigned kAllPii = 0x3f;

struct PiiSpan {
  std::size_t start;
  std::size_t end;
  Pii kind;
};

struct PiiScan {
  std::vector<PiiSpan> spans;  // by position, none touches another's characters
  std::size_t held;            // what begins from here on may change with more text
};

// `Char` is any unsigned type that holds code points: the three widths of Python's texts.
template <typename Char>
class PiiScanner {
 public:
  PiiScanner(std::span<const Char> text, std::size_t begin, unsigned kinds)
      : text_(text), begin_(begin), kinds_(kinds) {}

  // `is_final`: no more text comes. What lies before `begin` is only looked back at.
  PiiScan scan(bool is_final) && {
    std::size_t held = text_.size();
    for (std::size_t i = begin_; i < text_.size(); ++i) {
      const std::uint32_t c = text_[i];
      touched_ = false;
      std::size_t start = i;
      if (c == '@')
        start = email(i);
      else if (i == 0 || !is_alnum(text_[i - 1]))
        begins(i, c);
      else
        continue;
      if (touched_) held = std::min(held, start);
    }
    if (wanted(Pii::email)) held = std::min(held, local_part(text_.size()));
    return merged(is_final ? text_.size() : held);
  }

 private:
  static constexpr std::size_t kMostDigits = 19, kMostLocal = 64, kMostDomain = 253;
  static constexpr std::size_t kLongest = 256;

  // A run of digits in a number that may be written in several.
  struct Group {
    std::size_t at, to;
    std::size_t digits;       // of the number up to here
    std::size_t gap;          // characters between it and the one before
    std::uint32_t separator;  // the first of them
    std::size_t size() const { return to - at; }
  };

  struct Shape {
    std::size_t groups;
    std::size_t sizes[4];
    char first_low, first_high;  // the first digit
    bool may_have_dots;
  };

  bool wanted(Pii kind) const { return (kinds_ >> static_cast<int>(kind)) & 1U; }
  std::uint32_t peek(std::size_t i) {
    if (i < text_.size()) return text_[i];
    touched_ = true;
    return 0;
  }
  // The character so many before i, or 0.
  std::uint32_t before(std::size_t i, std::size_t steps) const {
    return i >= steps ? std::uint32_t{text_[i - steps]} : 0;
  }
  void found(std::size_t start, std::size_t end, Pii kind) {
    candidates_.push_back({start, end, kind});
  }

  void begins(std::size_t i, std::uint32_t c) {
    if (is_digit(c)) {
      read_groups(i);
      if (wanted(Pii::credit_card)) credit_card(i);
      if (wanted(Pii::ssn)) ssn(i);
      if (wanted(Pii::ip)) ip(i);
      if (wanted(Pii::phone)) national_phone(i);
    } else if (c == '+' || c == '(') {
      if (wanted(Pii::phone)) c == '+' ? international_phone(i) : phone_in_brackets(i);
    } else if (is_ascii_letter(c) && wanted(Pii::iban)) {
      iban(i);
    }
  }

  // -- numbers ---------------------------------------------------------------------------------

  void read_groups(std::size_t i) {
    groups_.clear();
    std::size_t digits = 0, gap = 0;
    std::uint32_t separator = 0;
    for (;;) {
      const std::size_t at = i;
      while (digits <= kMostDigits && is_digit(peek(i))) ++i, ++digits;
      if (digits > kMostDigits) return;
      groups_.push_back({at, i, digits, gap, separator});
      gap = 0;
      separator = peek(i);
      while (gap < 4 && is_separator(peek(i))) ++i, ++gap;
      if (gap == 0 || gap == 4 || !is_digit(peek(i))) return;
    }
  }

  bool is_plain(const Group& group) const { return group.gap == 1 && is_plain_separator(group.separator); }
  bool follows_point(std::size_t i) const { return before(i, 1) == '.' && is_digit(before(i, 2)); }
  bool goes_on_after(std::size_t to, std::uint32_t mark) {
    return peek(to) == mark && is_digit(peek(to + 1));
  }
  bool ends(std::size_t to) { return !is_alnum(peek(to)); }
  bool ends_phone(std::size_t to) { return ends(to) && !goes_on_after(to, ':'); }

  void credit_card(std::size_t i) {
    if (text_[i] == '0' || follows_point(i)) return;
    std::size_t end = 0;
    for (std::size_t k = 0; k < groups_.size(); ++k) {
      const Group& group = groups_[k];
      if (k > 0 && (!is_plain(group) || groups_[k - 1].size() < 4)) break;
      const bool is_time = group.digits == 13 && text_[i] == '1';
      if (group.digits >= 13 && !is_time && ends(group.to) && passes_luhn(i, group.to))
        end = group.to;
    }
    if (end) found(i, end, Pii::credit_card);
  }

  bool passes_luhn(std::size_t i, std::size_t to) const {
    std::uint32_t sum = 0;
    bool twice = false;
    for (; to > i; --to) {
      const std::uint32_t c = text_[to - 1];
      if (!is_digit(c)) continue;
      const std::uint32_t digit = (c - '0') * (twice ? 2 : 1);
      sum += digit > 9 ? digit - 9 : digit;
      twice = !twice;
    }
    return sum % 10 == 0;
  }

  void ssn(std::size_t i) {
    if (groups_.size() < 3 || groups_[0].size() != 3 || groups_[1].size() != 2 ||
        groups_[2].size() != 4 || !is_plain(groups_[1]) || !is_plain(groups_[2]) ||
        is_dash(groups_[1].separator) != is_dash(groups_[2].separator))
      return;
    const std::size_t area = number(groups_[0]);
    if (area == 0 || area == 666 || area >= 900 || number(groups_[1]) == 0 ||
        number(groups_[2]) == 0)
      return;
    const std::size_t to = groups_[2].to;
    if (is_dash(before(i, 1)) && is_digit(before(i, 2))) return;
    if (ends(to) && !(is_dash(peek(to)) && is_digit(peek(to + 1)))) found(i, to, Pii::ssn);
  }

  std::size_t number(const Group& group) const {
    std::size_t value = 0;
    for (std::size_t i = group.at; i < group.to; ++i) value = value * 10 + (text_[i] - '0');
    return value;
  }

  void ip(std::size_t i) {
    if (follows_point(i) || groups_.size() < 4) return;
    for (std::size_t k = 0; k < 4; ++k) {
      const Group& group = groups_[k];
      if (group.size() > 3 || number(group) > 255) return;
      if (k > 0 && (group.gap != 1 || group.separator != '.')) return;
    }
    const std::size_t to = groups_[3].to;
    if (ends(to) && !goes_on_after(to, '.')) found(i, to, Pii::ip);
  }

  // -- phones ----------------------------------------------------------------------------------

  // The last group with which the number has so many digits, `more` among them, and ends.
  std::size_t last_of(std::size_t low, std::size_t high, std::size_t more = 0) {
    std::size_t end = 0;
    for (const Group& group : groups_)
      if (group.digits + more >= low && group.digits + more <= high && ends_phone(group.to))
        end = group.to;
    return end;
  }

  void phone(std::size_t i, std::size_t end) {
    if (end) found(i, end, Pii::phone);
  }

  void international_phone(std::size_t i) {
    std::size_t first = i + 1;
    if (peek(first) == '(') ++first;
    if (before(i, 1) == '+' || !is_digit(peek(first)) || peek(first) == '0') return;
    read_groups(first);
    phone(i, last_of(8, 15));
  }

  void phone_in_brackets(std::size_t i) {
    std::size_t next = i + 1;
    while (next - i <= 6 && is_digit(peek(next))) ++next;
    const std::size_t area = next - i - 1;
    if (area < 2 || area > 5 || peek(next) != ')') return;
    ++next;
    for (int skipped = 0; skipped < 2 && is_separator(peek(next)); ++skipped) ++next;
    if (!is_digit(peek(next))) return;
    read_groups(next);
    phone(i, last_of(9, 12, area));
  }

  void national_phone(std::size_t i) {
    if (groups_.empty()) return;
    if (text_[i] == '0') {
      const std::uint32_t second = peek(i + 1), third = peek(i + 2);
      if (second == '0' && is_digit(third) && third != '0')
        phone(i, last_of(10, 17));
      else if (is_digit(second) && second != '0' && !is_date(i))
        phone(i, last_of(9, 12));
    }
    const Group& first = groups_[0];
    const bool is_local = first.size() == 10 && text_[i] >= '2';
    const bool is_long = first.size() == 11 && text_[i] == '1' && text_[i + 1] >= '2';
    if ((is_local || is_long) && !follows_point(i) && ends_phone(first.to) &&
        !goes_on_after(first.to, '.'))
      phone(i, first.to);
    for (const Shape& shape : kShapes) of_shape(i, shape);
  }

  static constexpr Shape kShapes[] = {
      {3, {3, 3, 4, 0}, '0', '9', true},  {4, {1, 3, 3, 4}, '1', '1', true},
      {2, {3, 7, 0, 0}, '2', '9', false}, {3, {2, 4, 4, 0}, '1', '9', false},
      {3, {2, 5, 4, 0}, '1', '9', false}, {3, {3, 4, 4, 0}, '1', '1', false},
      {2, {5, 5, 0, 0}, '6', '9', false}, {3, {3, 3, 3, 0}, '6', '9', false},
  };

  void of_shape(std::size_t i, const Shape& shape) {
    const std::size_t count = shape.groups;
    if (groups_.size() < count) return;
    for (std::size_t k = 0; k < count; ++k) {
      const Group& group = groups_[k];
      if (group.size() != shape.sizes[k]) return;
      const bool is_dot = shape.may_have_dots && group.gap == 1 && group.separator == '.';
      if (k > 0 && !is_plain(group) && !is_dot) return;
    }
    const bool fits = text_[i] >= static_cast<Char>(shape.first_low) &&
                      text_[i] <= static_cast<Char>(shape.first_high);
    const std::size_t to = groups_[count - 1].to;
    if (!fits || !ends_phone(to)) return;
    if (groups_[count - 1].digits == 9) {  // 612 345 678 may be a part of a larger number
      if (groups_.size() > count && is_plain(groups_[count])) return;
      if (is_plain_separator(before(i, 1)) && is_digit(before(i, 2))) return;
    }
    phone(i, to);
  }

  // 01.02.2026, 05/06/26, and the rest of a date or a time that began before.
  bool is_date(std::size_t i) const {
    const std::uint32_t last = before(i, 1);
    const bool follows_digit = is_digit(before(i, 2));
    if (last == ':' && follows_digit) return true;
    if (groups_.size() < 2 || groups_[0].size() != 2) return false;
    const Group& second = groups_[1];
    const bool is_mark = last == '.' || last == '/' || is_dash(last);
    if (is_mark && follows_digit && second.gap == 1 && second.separator == last) return true;
    if (groups_.size() < 3 || second.size() != 2) return false;
    const bool has_slashes = second.separator == '/' && groups_[2].separator == '/';
    return groups_[2].size() == 4 || has_slashes;
  }

  // -- words -----------------------------------------------------------------------------------

  void iban(std::size_t i) {
    if (!is_ascii_letter(peek(i + 1)) || !is_digit(peek(i + 2)) || !is_digit(peek(i + 3))) return;
    const char country[2] = {upper(text_[i]), upper(text_[i + 1])};
    const std::size_t size = iban_size({country, 2});
    std::size_t next = i + 4;
    std::uint32_t rest = 0;
    for (std::size_t count = 4; count < size; ++count) {
      if (is_plain_separator(peek(next))) ++next;
      const std::uint32_t c = peek(next);
      if (!is_digit(c) && !is_ascii_letter(c)) return;
      rest = remainder(rest, c);
      ++next;
    }
    for (const std::size_t k : {i, i + 1, i + 2, i + 3}) rest = remainder(rest, text_[k]);
    if (size && ends(next) && rest == 1) found(i, next, Pii::iban);
  }

  static std::uint32_t remainder(std::uint32_t rest, std::uint32_t c) {
    if (is_digit(c)) return (rest * 10 + (c - '0')) % 97;
    return (rest * 100 + static_cast<std::uint32_t>(upper(c) - 'A' + 10)) % 97;
  }

  // Where the local part of an address would begin that ends here.
  std::size_t local_part(std::size_t end) const {
    std::size_t start = end;
    while (start > begin_ && end - start < kMostLocal && is_local(text_[start - 1])) --start;
    return start;
  }

  // Gives where the address begins.
  std::size_t email(std::size_t at) {
    if (!wanted(Pii::email)) return at;
    std::size_t start = local_part(at);
    while (start < at && !is_alnum(text_[start]) && text_[start] != '_') ++start;
    if (start == at || !is_alnum(peek(at + 1))) return start;
    std::size_t end = 0, next = at + 1;
    while (next - at <= kMostDomain) {
      const std::uint32_t c = peek(next);
      if (is_alnum(c) || c == '-') {
        ++next;
      } else if (c == '.' && is_alnum(peek(next + 1))) {
        std::size_t letters = next + 1;
        while (letters - at <= kMostDomain && is_letter(peek(letters))) ++letters;
        if (letters - next > 2) end = letters;
        next = letters > next + 1 ? letters : next + 1;
      } else {
        break;
      }
    }
    if (end) found(start, end, Pii::email);
    return start;
  }

  // -- the answer ------------------------------------------------------------------------------

  // Candidates that share characters are one: all of them, and of the longest's kind. A chain of
  // them is cut where one begins kLongest behind the first, or a stream would hold it for ever.
  PiiScan merged(std::size_t held) {
    std::sort(candidates_.begin(), candidates_.end(), [](const PiiSpan& a, const PiiSpan& b) {
      return a.start != b.start ? a.start < b.start : a.kind < b.kind;
    });
    std::vector<PiiSpan> chains;
    std::size_t longest = 0;
    for (const PiiSpan& each : candidates_) {
      const std::size_t size = each.end - each.start;
      if (chains.empty() || each.start >= chains.back().end ||
          each.start - chains.back().start >= kLongest) {
        chains.push_back(each);
        longest = size;
        continue;
      }
      PiiSpan& last = chains.back();
      last.end = std::max(last.end, each.end);
      if (size > longest) {
        longest = size;
        last.kind = each.kind;
      }
    }
    PiiScan out{{}, held};
    std::size_t covered = 0;
    for (const PiiSpan& chain : chains) {
      if (chain.end > held && chain.start + kLongest > held) {  // more may belong to it
        out.held = std::min(held, chain.start);
        break;
      }
      if (chain.end > covered)
        out.spans.push_back({std::max(chain.start, covered), chain.end, chain.kind});
      covered = std::max(covered, chain.end);
    }
    return out;
  }

  std::span<const Char> text_;
  std::size_t begin_;
  unsigned kinds_;
  bool touched_ = false;
  std::vector<Group> groups_;
  std::vector<PiiSpan> candidates_;
};

template <typename Char>
PiiScan pii_scan(std::span<const Char> text, std::size_t begin = 0, bool is_final = true,
                 unsigned kinds = kAllPii) {
  return PiiScanner<Char>{text, std::min(begin, text.size()), kinds}.scan(is_final);
}

}  // namespace astromesh
