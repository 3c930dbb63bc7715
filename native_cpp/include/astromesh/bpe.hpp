#pragma once
// Counts the tokens of a text, and cuts it where one ends. Knows nothing of Python. Meaning:
// servers/kernel/native/bpe.py.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "astromesh/merges.hpp"
#include "astromesh/pretokens.hpp"
#include "astromesh/vocabulary.hpp"

namespace astromesh {

// Writes the code point and returns the end; null where it is none but half of one.
inline char* write_utf8(std::uint32_t c, char* out) {
  const auto byte = [](std::uint32_t bits) { return static_cast<char>(bits); };
  if (c < 0x80) return *out = byte(c), out + 1;
  if (c < 0x800) {
    *out++ = byte(0xc0 | c >> 6);
  } else if (c < 0x10000) {
    if (c >= 0xd800 && c < 0xe000) return nullptr;
    *out++ = byte(0xe0 | c >> 12);
    *out++ = byte(0x80 | (c >> 6 & 63));
  } else {
    *out++ = byte(0xf0 | c >> 18);
    *out++ = byte(0x80 | (c >> 12 & 63));
    *out++ = byte(0x80 | (c >> 6 & 63));
  }
  *out = byte(0x80 | (c & 63));
  return out + 1;
}

// Words come again and again: how many tokens the last ones had that are no token themselves.
// Pieces of up to 8 * `words` - 2 bytes; the last two bytes of a slot are for size and count.
template <std::size_t words, int bits>
class Remembered {
 public:
  static constexpr std::size_t most = 8 * words - 2;

  // 0 where the piece isn't there.
  std::size_t count(std::string_view piece, std::uint64_t hash) const {
    const Slot key = key_of(piece);
    const Slot& slot = slots_[hash >> (64 - bits)];
    std::uint64_t different = slot.back() << 8 ^ key.back() << 8;
    for (std::size_t i = 0; i + 1 < words; ++i) different |= slot[i] ^ key[i];
    return different ? 0 : slot.back() >> 56;
  }

  void keep(std::string_view piece, std::uint64_t hash, std::size_t count) {
    Slot& slot = slots_[hash >> (64 - bits)] = key_of(piece);
    slot.back() |= std::uint64_t{count} << 56;
  }

 private:
  using Slot = std::array<std::uint64_t, words>;

  static Slot key_of(std::string_view piece) {
    Slot key{};
    for (std::size_t i = 0; i < words && 8 * i < piece.size(); ++i)
      key[i] = few_bytes(piece.data() + 8 * i, piece.size() - 8 * i);
    key.back() |= std::uint64_t{piece.size()} << 48;
    return key;
  }

  std::vector<Slot> slots_ = std::vector<Slot>(std::size_t{1} << bits);
};

class Bpe {
 public:
  // Every single byte must be among the tokens; `kinds` has a Kind for each of kCodePoints.
  Bpe(std::span<const std::string> tokens, std::vector<std::uint8_t> kinds, Pattern pattern)
      : vocabulary_(tokens), kinds_(std::move(kinds)), pattern_(pattern) {}

  // Nothing where the text has half a character (a surrogate) in it.
  template <typename Char>
  std::optional<std::size_t> count(std::span<const Char> text) const {
    return pattern_ == Pattern::o200k ? counted<Char, Pattern::o200k>(text)
                                      : counted<Char, Pattern::cl100k>(text);
  }

  // How many characters the longest beginning has that consists of whole characters, is what
  // some of the first tokens say, and has at most `most` tokens itself.
  template <typename Char>
  std::optional<std::size_t> fitting(std::span<const Char> text, std::size_t most) const {
    return pattern_ == Pattern::o200k ? fit<Char, Pattern::o200k>(text, most)
                                      : fit<Char, Pattern::cl100k>(text, most);
  }

 private:
  struct Desk {
    explicit Desk(const Vocabulary& vocabulary) : merges(vocabulary) {}
    Merges merges;
    Remembered<2, 16> words;   // 1 MB
    Remembered<4, 14> longer;  // 0.5 MB
    std::string bytes;
  };

  // A desk for each that counts at the same time; they are kept for the next.
  class Borrowed {
   public:
    explicit Borrowed(const Bpe& from) : from_(from) {
      const std::lock_guard lock{from_.desks_lock_};
      if (from_.desks_.empty()) {
        desk_ = std::make_unique<Desk>(from_.vocabulary_);
      } else {
        desk_ = std::move(from_.desks_.back());
        from_.desks_.pop_back();
      }
    }
    ~Borrowed() {
      const std::lock_guard lock{from_.desks_lock_};
      if (from_.desks_.size() < 4) from_.desks_.push_back(std::move(desk_));
    }
    Borrowed(const Borrowed&) = delete;
    Desk* operator->() const { return desk_.get(); }

   private:
    const Bpe& from_;
    std::unique_ptr<Desk> desk_;
  };

  // The bytes of a piece, valid until the next call; none where it has half a character.
  template <typename Char>
  static std::string_view read(std::span<const Char> piece, const Borrowed& desk) {
    std::string& bytes = desk->bytes;
    if (bytes.size() < 4 * piece.size() + kPadding) bytes.resize(8 * piece.size() + kPadding);
    char* end = bytes.data();
    for (const Char c : piece)
      if (end = write_utf8(c, end); !end) return {};
    return {bytes.data(), static_cast<std::size_t>(end - bytes.data())};
  }

  // Without a copy where the bytes are those of the text, and some follow.
  static std::string_view read_ascii(std::span<const std::uint8_t> text, std::size_t at,
                                     std::size_t end, const Borrowed& desk) {
    if (end + kPadding > text.size()) return read(text.subspan(at, end - at), desk);
    return {reinterpret_cast<const char*>(text.data()) + at, end - at};
  }

  std::size_t tokens_of(std::string_view piece, const Borrowed& desk) const {
    const std::uint64_t hash = hash_of(piece.data(), piece.size());
    if (vocabulary_.rank(piece, hash) != kNoToken) return 1;
    if (piece.size() <= desk->words.most) return merged(piece, hash, desk->words, desk);
    if (piece.size() <= desk->longer.most) return merged(piece, hash, desk->longer, desk);
    return desk->merges.ends(piece).size();
  }

  template <typename Memory>
  static std::size_t merged(std::string_view piece, std::uint64_t hash, Memory& memory,
                            const Borrowed& desk) {
    if (const std::size_t known = memory.count(piece, hash)) return known;
    const std::size_t count = desk->merges.ends(piece).size();
    memory.keep(piece, hash, count);
    return count;
  }

  template <typename Char, Pattern pattern>
  std::optional<std::size_t> counted(std::span<const Char> text) const {
    const Pretokens<Char, pattern> pieces{text, kinds_.data()};
    const Borrowed desk{*this};
    std::size_t total = 0;
    if constexpr (sizeof(Char) == 1) {
      if (std::ranges::all_of(text, [](Char c) { return c < 0x80; })) {
        for (std::size_t at = 0, end; at < text.size(); at = end) {
          end = pieces.end_of(at);
          total += tokens_of(read_ascii(text, at, end, desk), desk);
        }
        return total;
      }
    }
    for (std::size_t at = 0, end; at < text.size(); at = end) {
      end = pieces.end_of(at);
      const std::string_view bytes = read(text.subspan(at, end - at), desk);
      if (bytes.empty()) return {};
      total += tokens_of(bytes, desk);
    }
    return total;
  }

  template <typename Char, Pattern pattern>
  std::optional<std::size_t> fit(std::span<const Char> text, std::size_t most) const {
    std::vector<std::size_t> ends;  // of the tokens, in whole characters
    if (!token_ends<Char, pattern>(text, most, ends)) return {};
    if (ends.size() <= most) return text.size();
    for (std::size_t kept = most; kept > 0; --kept) {
      // Cut off, the end may be read as other tokens, and once in a while as more.
      const std::size_t end = ends[kept - 1];
      if (*counted<Char, pattern>(text.first(end)) <= most) return end;
    }
    return 0;
  }

  // Of the first tokens, until there are more than `most`.
  template <typename Char, Pattern pattern>
  bool token_ends(std::span<const Char> text, std::size_t most,
                  std::vector<std::size_t>& ends) const {
    const Pretokens<Char, pattern> pieces{text, kinds_.data()};
    const Borrowed desk{*this};
    for (std::size_t at = 0, end; at < text.size() && ends.size() <= most; at = end) {
      end = pieces.end_of(at);
      const std::string_view bytes = read(text.subspan(at, end - at), desk);
      if (bytes.empty()) return false;
      const auto is_first = [](char byte) { return (static_cast<unsigned char>(byte) & 0xc0) != 0x80; };
      std::size_t byte = 0, characters = at;
      const auto add = [&](std::size_t stop) {
        for (; byte < stop; ++byte) characters += is_first(bytes[byte]);
        const bool is_whole = stop == bytes.size() || is_first(bytes[stop]);
        ends.push_back(characters - !is_whole);
      };
      if (vocabulary_.rank(bytes) != kNoToken) {
        add(bytes.size());
      } else {
        for (const std::uint32_t stop : desk->merges.ends(bytes)) add(stop);
      }
    }
    return true;
  }

  Vocabulary vocabulary_;
  std::vector<std::uint8_t> kinds_;
  Pattern pattern_;
  mutable std::mutex desks_lock_;
  mutable std::vector<std::unique_ptr<Desk>> desks_;
};

}  // namespace astromesh
