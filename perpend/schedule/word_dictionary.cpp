#include "perpend/schedule/word_dictionary.h"

#include <algorithm>
#include <array>
#include <bit>

namespace perpend {
namespace {

constexpr std::size_t kFirstSlots = 32;

std::uint64_t mix(std::uint64_t hash, std::uint64_t word) {
  hash = (hash ^ word) * 0x9E3779B97F4A7C15U;
  return hash ^ hash >> 29;
}

// Several chains, since each waits for its own multiplications only.
std::uint32_t hash_of(std::span<const std::uint64_t> words) {
  constexpr std::size_t kChains = 4;
  std::array<std::uint64_t, kChains> chains = {words.size(), 1, 2, 3};
  for (; words.size() >= kChains; words = words.subspan(kChains)) {
    for (std::size_t i = 0; i < kChains; ++i) chains[i] = mix(chains[i], words[i]);
  }
  for (std::size_t i = 0; i < words.size(); ++i) chains[i] = mix(chains[i], words[i]);
  const std::uint64_t joined = mix(mix(chains[0], chains[1]), mix(chains[2], chains[3]));
  return static_cast<std::uint32_t>(joined >> 16);
}

}  // namespace

WordDictionary::Place WordDictionary::add(std::span<const std::uint64_t> words) {
  if (2 * ends_.size() >= slots_.size()) grow();
  const std::uint32_t hash = hash_of(words);
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = hash & mask;
  for (; slots_[at].index >= 0; at = (at + 1) & mask) {
    if (slots_[at].hash == hash && std::ranges::equal((*this)[slots_[at].index], words)) {
      return {slots_[at].index, false};
    }
  }
  slots_[at] = {hash, count()};
  words_.insert(words_.end(), words.begin(), words.end());
  ends_.push_back(words_.size());
  return {slots_[at].index, true};
}

void WordDictionary::clear() {
  if (ends_.empty()) return;
  // A table that was filled far more once is not worth sweeping each time.
  slots_.assign(std::clamp(std::bit_ceil(2 * ends_.size()), kFirstSlots, slots_.size()), Slot{});
  words_.clear();
  ends_.clear();
}

void WordDictionary::grow() {
  const std::vector<Slot> old = std::move(slots_);
  slots_ = std::vector<Slot>(old.empty() ? kFirstSlots : 2 * old.size());
  const std::size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.index < 0) continue;
    std::size_t at = slot.hash & mask;
    while (slots_[at].index >= 0) at = (at + 1) & mask;
    slots_[at] = slot;
  }
}

}  // namespace perpend
