#include "tests/parity/random_attention_case.h"

#include <algorithm>
#include <array>

#include "tests/mask/random_mask.h"

namespace perpend {
namespace {

class CaseMaker {
 public:
  explicit CaseMaker(Random& random) : random_(random) {}

  AttentionCase make() {
    choose_types();
    choose_layout();
    choose_sequences();
    bound_work(one_in(20) ? 20e6 : 2e6);
    choose_masks();
    choose_scores();
    case_.seed = random_.next_u32();
    return case_;
  }

 private:
  std::int64_t below(std::int64_t bound) {
    return static_cast<std::int64_t>(random_.next_below(static_cast<std::uint64_t>(bound)));
  }
  bool one_in(int n) { return below(n) == 0; }

  void choose_types() {
    constexpr std::array kDtypes = {DType::kF32, DType::kF16, DType::kBF16};
    constexpr std::array<std::int64_t, 8> kDims = {32, 64, 128, 64, 72, 80, 96, 256};
    case_.q_dtype = kDtypes[static_cast<std::size_t>(below(3))];
    // Mostly one type; also f32 queries on a 16-bit cache and other mixtures.
    case_.kv_dtype = one_in(3) ? kDtypes[static_cast<std::size_t>(below(3))] : case_.q_dtype;
    if (one_in(10)) case_.q_dtype = case_.kv_dtype = DType::kF64;
    case_.f32_outputs = one_in(4);
    case_.head_dim = one_in(4) ? 1 + below(256) : kDims[static_cast<std::size_t>(below(8))];
    case_.shape.num_kv_heads = static_cast<int>(1 + below(3));
    case_.shape.num_q_heads = case_.shape.num_kv_heads * static_cast<int>(1 + below(8));
  }

  void choose_layout() {
    case_.layout = {.ragged = one_in(2), .head_major = one_in(2), .gap = one_in(2) ? below(9) : 0};
    if (one_in(4)) case_.page_size = 64 * (1 + below(2));
    case_.without_lse = one_in(8);
    case_.d_lse = !one_in(3);
    case_.scratch = one_in(2);
  }

  SequenceShape sequence() {
    SequenceShape s{one_in(3) ? 1 + below(4) : below(301), below(301), 0};
    // As in self-attention on a cache; or anywhere, also with more queries than keys.
    s.q_offset = one_in(2) ? std::max<std::int64_t>(0, s.kv_len - s.q_len) : below(300);
    return s;
  }

  void choose_sequences() {
    case_.shape.sequences = {sequence()};
    for (std::int64_t i = below(4); i > 0; --i) {
      SequenceShape next = sequence();
      // A dense batch has sequences of one shape.
      if (!case_.layout.ragged) next.q_len = case_.shape.sequences.front().q_len;
      if (!case_.layout.ragged && case_.page_size == 0) {
        next.kv_len = case_.shape.sequences.front().kv_len;
      }
      case_.shape.sequences.push_back(next);
    }
  }

  // Pairs times values, of all heads.
  double work() const {
    double pairs = 0;
    for (const SequenceShape& s : case_.shape.sequences) {
      pairs += static_cast<double>(s.q_len) * static_cast<double>(s.kv_len);
    }
    return pairs * case_.shape.num_q_heads * static_cast<double>(case_.head_dim);
  }

  // Drops sequences, then heads, then tokens, until the work is at most `bound`.
  void bound_work(double bound) {
    while (work() > bound) {
      if (case_.shape.sequences.size() > 2 && one_in(2)) {
        case_.shape.sequences.pop_back();
      } else if (case_.shape.num_kv_heads > 1) {
        case_.shape.num_q_heads = case_.shape.group_size();
        case_.shape.num_kv_heads = 1;
      } else if (case_.shape.num_q_heads > 1 && one_in(2)) {
        case_.shape.num_q_heads = (case_.shape.num_q_heads + 1) / 2;
      } else {
        const std::int64_t part = 5 + below(4);
        for (SequenceShape& s : case_.shape.sequences) {
          s.q_len = ceil_div(s.q_len * part, 8);
          s.kv_len = ceil_div(s.kv_len * part, 8);
        }
      }
    }
  }

  // One mask for all sequences fits any length; one of a sequence's own may name its positions.
  void choose_masks() {
    const std::size_t num_sequences = case_.shape.sequences.size();
    const std::size_t count = one_in(2) ? num_sequences : 1;
    for (std::size_t i = 0; i < count; ++i) {
      const SequenceShape& s = case_.shape.sequences[i];
      const std::int64_t length = std::max(s.kv_len, s.q_offset + s.q_len);
      const auto depth = static_cast<int>(below(6));
      const Mask mask = count == num_sequences ? random_mask_of_length(random_, 160, length, depth)
                                               : random_mask(random_, 160, depth);
      case_.masks.push_back(one_in(2) ? mask & Mask::causal() : mask);
    }
  }

  void choose_scores() {
    if (one_in(4)) case_.scale = 0.02F + 0.3F * random_.next_float();
    if (one_in(4)) case_.soft_cap = 1 + 20 * random_.next_float();
    case_.alibi = one_in(4);
  }

  Random& random_;
  AttentionCase case_;
};

}  // namespace

AttentionCase random_attention_case(Random& random) { return CaseMaker(random).make(); }

}  // namespace perpend
