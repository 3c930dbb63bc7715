#pragma once
// The tokens of a tokenizer by their bytes: is this one, and how early was it merged? Knows
// nothing of Python.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace astromesh {

inline constexpr std::uint32_t kNoToken = ~std::uint32_t{0};

// Views of bytes that are given to a Vocabulary must have so many readable ones behind them.
inline constexpr std::size_t kPadding = 8;

// The first bytes as a number, at most eight: it is only compared.
inline std::uint64_t few_bytes(const char* data, std::size_t size) {
  std::uint64_t out;
  std::memcpy(&out, data, 8);
  if (size >= 8) return out;
  return std::endian::native == std::endian::little ? out & ((std::uint64_t{1} << 8 * size) - 1)
                                                    : size ? out >> (64 - 8 * size) : 0;
}

inline std::uint64_t mixed(std::uint64_t a, std::uint64_t b) {
  a = (a ^ b) * 0x9e3779b97f4a7c15U;
  return a ^ a >> 32;
}

inline std::uint64_t hash_of(const char* data, std::size_t size) {
  std::uint64_t out = size;
  for (; size > 8; data += 8, size -= 8) out = mixed(out, few_bytes(data, 8));
  return mixed(out, few_bytes(data, size)) * 0x9e3779b97f4a7c15U;
}

// An open table. Most questions are about bytes that are no token: a tag of one byte answers
// them, and all tags together stay in the cache.
class Vocabulary {
 public:
  // Token i has the rank i. None may be there twice.
  explicit Vocabulary(std::span<const std::string> tokens)
      : shift_(64 - static_cast<int>(std::bit_width(2 * tokens.size() + 1))),
        tags_(std::size_t{1} << (64 - shift_)), slots_(tags_.size()), pairs_(65536, kNoToken) {
    starts_.push_back(0);
    for (const std::string& each : tokens) {
      bytes_ += each;
      starts_.push_back(static_cast<std::uint32_t>(bytes_.size()));
      longest_ = each.size() > longest_ ? each.size() : longest_;
    }
    bytes_.append(kPadding, '\0');
    for (std::uint32_t rank = 0; rank < tokens.size(); ++rank) {
      const std::string_view token{bytes_.data() + starts_[rank], tokens[rank].size()};
      const std::uint64_t hash = hash_of(token.data(), token.size());
      std::size_t at = hash >> shift_;
      while (tags_[at] != 0) at = next(at);
      tags_[at] = tag_of(hash);
      slots_[at] = {few_bytes(token.data(), token.size()), rank,
                    static_cast<std::uint32_t>(token.size())};
      if (token.size() == 2) pairs_[two_bytes(token.data())] = rank;
    }
  }

  // kNoToken where the bytes are none.
  std::uint32_t rank(std::string_view bytes, std::uint64_t hash) const {
    const std::uint8_t tag = tag_of(hash);
    for (std::size_t at = hash >> shift_; tags_[at] != 0; at = next(at)) {
      if (tags_[at] != tag) continue;
      const Slot& slot = slots_[at];
      if (slot.size != bytes.size() || slot.key != few_bytes(bytes.data(), bytes.size())) continue;
      if (bytes.size() <= 8 ||
          std::memcmp(bytes_.data() + starts_[slot.rank], bytes.data(), bytes.size()) == 0)
        return slot.rank;
    }
    return kNoToken;
  }

  std::uint32_t rank(std::string_view bytes) const {
    if (bytes.size() > longest_) return kNoToken;
    return rank(bytes, hash_of(bytes.data(), bytes.size()));
  }

  std::uint32_t rank_of_two(const char* bytes) const { return pairs_[two_bytes(bytes)]; }

 private:
  struct Slot {
    std::uint64_t key;  // the first bytes
    std::uint32_t rank;
    std::uint32_t size;
  };

  static std::uint8_t tag_of(std::uint64_t hash) {
    return static_cast<std::uint8_t>(hash | 1);  // 0 is for nothing at all
  }
  static std::uint16_t two_bytes(const char* bytes) {
    std::uint16_t out;
    std::memcpy(&out, bytes, 2);
    return out;
  }
  std::size_t next(std::size_t at) const { return (at + 1) & (tags_.size() - 1); }

  int shift_;
  std::vector<std::uint8_t> tags_;  // at most half of them taken
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> pairs_;  // the ranks of tokens of two bytes
  std::string bytes_;
  std::vector<std::uint32_t> starts_;
  std::size_t longest_ = 0;
};

}  // namespace astromesh
