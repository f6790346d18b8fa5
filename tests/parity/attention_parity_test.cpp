// Attention on every instruction set of this machine against the f64 definition: random masks,
// shapes, dtypes, head groups, strides, ragged and paged batches.

#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/core/half.h"
#include "perpend/kernels/cpu/attention.h"
#include "perpend/kernels/table.h"
#include "tests/campaign.h"
#include "tests/kernels/machine_isas.h"
#include "tests/mask/random_mask.h"
#include "tests/oracle/attention_oracle.h"

namespace perpend {
namespace {

enum class Layout { kDense, kRagged, kPaged };

// Tokens of one operand in one buffer with gaps: [token, head, dim] with padded strides.
struct Operand {
  Operand(DType type, std::int64_t num_tokens, std::int64_t num_heads, std::int64_t head_dim,
          Random& random, bool poison)
      : dtype(type), tokens(num_tokens), heads(num_heads), dim(head_dim) {
    token_stride = heads * (dim + 8) + 24;
    bytes.resize(static_cast<std::size_t>(std::max<std::int64_t>(1, tokens) * token_stride) *
                 size_of(dtype));
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(bytes.size() / size_of(dtype)); ++i) {
      set(i, std::numeric_limits<float>::quiet_NaN());
    }
    if (poison) return;
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t h = 0; h < heads; ++h) {
        for (std::int64_t d = 0; d < dim; ++d) {
          set(index(t, h, d), 4 * random.next_float() - 2);
        }
      }
    }
  }

  std::int64_t index(std::int64_t t, std::int64_t h, std::int64_t d) const {
    return t * token_stride + h * (dim + 8) + d;
  }
  void set(std::int64_t i, float value) {
    if (dtype == DType::kF32) {
      reinterpret_cast<float*>(bytes.data())[i] = value;
    } else {
      reinterpret_cast<std::uint16_t*>(bytes.data())[i] =
          dtype == DType::kF16 ? f32_to_f16(value) : f32_to_bf16(value);
    }
  }
  double get(std::int64_t t, std::int64_t h, std::int64_t d) const {
    const std::int64_t i = index(t, h, d);
    if (dtype == DType::kF32) return reinterpret_cast<const float*>(bytes.data())[i];
    const std::uint16_t bits = reinterpret_cast<const std::uint16_t*>(bytes.data())[i];
    return dtype == DType::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
  }
  // [tokens, heads, dim], or [batch, tokens / batch, heads, dim].
  TensorView view(std::int64_t batch = 0) {
    if (batch == 0) {
      return {bytes.data(), dtype, {tokens, heads, dim}, {token_stride, dim + 8, 1}, {}};
    }
    return {bytes.data(),
            dtype,
            {batch, tokens / batch, heads, dim},
            {tokens / batch * token_stride, token_stride, dim + 8, 1},
            {}};
  }
  std::vector<double> rows(std::int64_t first, std::int64_t count, std::int64_t head) const {
    std::vector<double> values;
    for (std::int64_t t = first; t < first + count; ++t) {
      for (std::int64_t d = 0; d < dim; ++d) values.push_back(get(t, head, d));
    }
    return values;
  }

  DType dtype;
  std::int64_t tokens;
  std::int64_t heads;
  std::int64_t dim;
  std::int64_t token_stride = 0;
  std::vector<std::byte> bytes;
};

struct Case {
  Layout layout = Layout::kDense;
  AttentionShape shape;
  Mask mask;
  DType q_dtype = DType::kF32;
  DType kv_dtype = DType::kF32;
  std::int64_t head_dim = 64;
  Tiling tiling = plain_tiling(64, 64);

  std::string name() const {
    std::string text =
        concat(mask, " layout ", static_cast<int>(layout), " q ", q_dtype, " kv ", kv_dtype,
               " dim ", head_dim, " heads ", shape.num_q_heads, "/", shape.num_kv_heads);
    for (const auto& s : shape.sequences) {
      text += concat(" (", s.q_len, ", ", s.kv_len, ", ", s.q_offset, ")");
    }
    return text;
  }
};

class CaseRunner {
 public:
  CaseRunner(const Case& c, Random& random)
      : case_(c),
        q_tokens_(total(&SequenceShape::q_len)),
        kv_tokens_(total(&SequenceShape::kv_len)),
        q_(random_operand(c.q_dtype, q_tokens_, c.shape.num_q_heads, c.head_dim, random)),
        k_(random_operand(c.kv_dtype, kv_tokens_, c.shape.num_kv_heads, c.head_dim, random)),
        v_(random_operand(c.kv_dtype, kv_tokens_, c.shape.num_kv_heads, c.head_dim, random)),
        schedule_(compile(c.mask, c.shape, c.tiling)) {}

  // Runs and compares; returns the bytes of the output for bit-wise tests.
  std::vector<std::byte> check(const AttentionMicro& micro, ThreadPool& pool) {
    Random random(1);
    Operand o(case_.q_dtype, q_tokens_, case_.shape.num_q_heads, case_.head_dim, random, true);
    std::vector<float> lse(static_cast<std::size_t>(q_tokens_ * case_.shape.num_q_heads),
                           std::numeric_limits<float>::quiet_NaN());
    AttentionArgs args = arguments(o, lse);
    cpu_attention_forward(micro, args, schedule_, {&pool});
    compare(o, lse);
    return o.bytes;
  }

  AttentionArgs arguments(Operand& o, std::vector<float>& lse) {
    const auto batch = static_cast<std::int64_t>(case_.shape.sequences.size());
    AttentionArgs args;
    if (case_.layout == Layout::kDense) {
      args.q = q_.view(batch);
      args.k = k_.view(batch);
      args.v = v_.view(batch);
      args.o = o.view(batch);
      args.lse = TensorView::dense(lse.data(), {batch, q_.heads, q_tokens_ / batch});
      return args;
    }
    args.q = q_.view();
    args.o = o.view();
    args.lse = TensorView::dense(lse.data(), {q_.heads, q_tokens_});
    q_indptr_ = indptr(&SequenceShape::q_len);
    args.q_indptr = TensorView::dense(q_indptr_.data(), DType::kI32, {batch + 1});
    if (case_.layout == Layout::kRagged) {
      args.k = k_.view();
      args.v = v_.view();
      kv_indptr_ = indptr(&SequenceShape::kv_len);
      args.kv_indptr = TensorView::dense(kv_indptr_.data(), DType::kI32, {batch + 1});
    } else {
      make_pages(args);
    }
    return args;
  }
  const Schedule& schedule() const { return schedule_; }

 private:
  // Each operand draws from a stream of its own, so that its first tokens do not depend on how many
  // follow.
  static Operand random_operand(DType dtype, std::int64_t tokens, std::int64_t heads,
                                std::int64_t dim, Random& random) {
    Random own(random.next_below(1U << 30U));
    return Operand(dtype, tokens, heads, dim, own, false);
  }
  std::int64_t total(std::int64_t SequenceShape::*length) const {
    std::int64_t sum = 0;
    for (const auto& sequence : case_.shape.sequences) sum += sequence.*length;
    return sum;
  }
  std::vector<std::int32_t> indptr(std::int64_t SequenceShape::*length) const {
    std::vector<std::int32_t> result = {0};
    for (const auto& sequence : case_.shape.sequences) {
      result.push_back(result.back() + static_cast<std::int32_t>(sequence.*length));
    }
    return result;
  }

  // Scatters keys and values over pages in a shuffled order; all else is NaN.
  void make_pages(AttentionArgs& args) {
    constexpr std::int64_t kPage = 64;
    std::int64_t num_pages = 1;
    std::int64_t max_pages = 1;
    for (const auto& s : case_.shape.sequences) {
      num_pages += ceil_div(s.kv_len, kPage);
      max_pages = std::max(max_pages, ceil_div(s.kv_len, kPage));
    }
    Random random(3);
    const auto heads = case_.shape.num_kv_heads;
    k_pages_.emplace(case_.kv_dtype, num_pages * kPage, heads, case_.head_dim, random, true);
    v_pages_.emplace(case_.kv_dtype, num_pages * kPage, heads, case_.head_dim, random, true);
    const auto batch = static_cast<std::int64_t>(case_.shape.sequences.size());
    page_table_.assign(static_cast<std::size_t>(batch * max_pages), -1);
    std::int64_t next = num_pages - 1;
    std::int64_t first = 0;
    for (std::int64_t s = 0; s < batch; ++s) {
      const auto kv_len = case_.shape.sequences[static_cast<std::size_t>(s)].kv_len;
      for (std::int64_t key = 0; key < kv_len; ++key) {
        auto& page = page_table_[static_cast<std::size_t>(s * max_pages + key / kPage)];
        if (page < 0) page = static_cast<std::int32_t>(next--);
        for (std::int64_t h = 0; h < heads; ++h) {
          for (std::int64_t d = 0; d < case_.head_dim; ++d) {
            const std::int64_t to = k_pages_->index(page * kPage + key % kPage, h, d);
            k_pages_->set(to, static_cast<float>(k_.get(first + key, h, d)));
            v_pages_->set(to, static_cast<float>(v_.get(first + key, h, d)));
          }
        }
      }
      first += kv_len;
    }
    args.k = k_pages_->view(num_pages);
    args.v = v_pages_->view(num_pages);
    args.page_table = TensorView::dense(page_table_.data(), DType::kI32, {batch, max_pages});
  }

  void compare(const Operand& o, const std::vector<float>& lse) const {
    double error = 0;
    double norm = 0;
    std::int64_t q_first = 0;
    std::int64_t kv_first = 0;
    const auto batch = static_cast<std::int64_t>(case_.shape.sequences.size());
    for (std::int64_t s = 0; s < batch; ++s) {
      const auto& sequence = case_.shape.sequences[static_cast<std::size_t>(s)];
      for (std::int64_t head = 0; head < o.heads; ++head) {
        const std::int64_t kv_head = head / case_.shape.group_size();
        const auto expected = oracle::attention(
            q_.rows(q_first, sequence.q_len, head), k_.rows(kv_first, sequence.kv_len, kv_head),
            v_.rows(kv_first, sequence.kv_len, kv_head), sequence.q_len, sequence.kv_len, o.dim,
            1 / std::sqrt(static_cast<double>(o.dim)), [&](std::int64_t row, std::int64_t key) {
              return case_.mask.visible(sequence.q_offset + row, key,
                                        {static_cast<int>(head), static_cast<int>(kv_head)});
            });
        for (std::int64_t row = 0; row < sequence.q_len; ++row) {
          const std::int64_t at = case_.layout == Layout::kDense
                                      ? (s * o.heads + head) * sequence.q_len + row
                                      : head * q_tokens_ + q_first + row;
          const double expected_lse = expected.lse[static_cast<std::size_t>(row)];
          const float found_lse = lse[static_cast<std::size_t>(at)];
          if (std::isinf(expected_lse)) {
            EXPECT_EQ(found_lse, -std::numeric_limits<float>::infinity()) << case_.name();
          } else {
            EXPECT_NEAR(found_lse, expected_lse, 2e-5 * (1 + std::abs(expected_lse)))
                << case_.name();
          }
          for (std::int64_t d = 0; d < o.dim; ++d) {
            const double want = expected.o[static_cast<std::size_t>(row * o.dim + d)];
            const double found = o.get(q_first + row, head, d);
            if (std::isinf(expected_lse)) {
              EXPECT_EQ(found, 0.0) << case_.name();
            }
            error += std::isnan(found) ? 1e9 : (found - want) * (found - want);
            norm += want * want;
          }
        }
      }
      q_first += sequence.q_len;
      kv_first += sequence.kv_len;
    }
    const double bound = case_.q_dtype == DType::kF32   ? 3e-6
                         : case_.q_dtype == DType::kF16 ? 5e-4
                                                        : 4e-3;
    EXPECT_LT(std::sqrt(error / std::max(norm, 1e-30)), bound) << case_.name();
  }

  Case case_;
  std::int64_t q_tokens_;
  std::int64_t kv_tokens_;
  Operand q_;
  Operand k_;
  Operand v_;
  Schedule schedule_;
  std::vector<std::int32_t> q_indptr_;
  std::vector<std::int32_t> kv_indptr_;
  std::vector<std::int32_t> page_table_;
  std::optional<Operand> k_pages_;
  std::optional<Operand> v_pages_;
};

Case random_case(Random& random) {
  const auto below = [&](std::uint64_t bound) {
    return static_cast<std::int64_t>(random.next_below(bound));
  };
  constexpr DType kDtypes[] = {DType::kF32, DType::kF16, DType::kBF16};
  constexpr std::int64_t kDims[] = {32, 40, 64, 72, 80, 96, 128, 5, 256};
  Case c;
  c.layout = static_cast<Layout>(below(3));
  c.q_dtype = kDtypes[below(3)];
  c.kv_dtype = kDtypes[below(3)];
  c.head_dim = kDims[below(9)];
  c.shape.num_kv_heads = static_cast<int>(1 + below(3));
  c.shape.num_q_heads = c.shape.num_kv_heads * static_cast<int>(1 + below(4));
  const bool decode = below(3) == 0;
  const SequenceShape first{decode ? 1 + below(2) : below(150), below(200), below(160)};
  c.shape.sequences = {first};
  for (std::int64_t i = below(3); i > 0; --i) {
    // A dense batch has sequences of one shape.
    if (c.layout == Layout::kDense) {
      c.shape.sequences.push_back({first.q_len, first.kv_len, below(100)});
    } else {
      c.shape.sequences.push_back({decode ? 1 : below(90), below(150), below(100)});
    }
  }
  c.mask = random_mask(random, 160);
  if (below(2) == 0) c.mask = c.mask & Mask::causal();
  return c;
}

TEST(AttentionParity, RandomCasesMatchTheDefinition) {
  Random random(20260101);
  ThreadPool pool(2);
  for (int i = num_trials(150); i > 0; --i) {
    const Case c = random_case(random);
    CaseRunner runner(c, random);
    for (CpuIsa isa : machine_isas()) runner.check(attention_micro(isa), pool);
  }
}

TEST(AttentionParity, BitsDependNeitherOnThreadsNorOnBatchMates) {
  Random random(5);
  ThreadPool one(1);
  ThreadPool three(3);
  for (const SequenceShape& sequence :
       {SequenceShape{1, 3000, 2999}, SequenceShape{100, 100, 0}, SequenceShape{2, 1100, 1098}}) {
    Case c;
    c.layout = Layout::kRagged;
    c.mask = Mask::causal();
    c.shape = {{sequence}, 6, 2};
    Random same(9);
    CaseRunner alone(c, same);
    const auto& micro = attention_micro(hardware_cpu_isa());
    const auto expected = alone.check(micro, one);
    const auto threaded = alone.check(micro, three);
    EXPECT_EQ(std::memcmp(expected.data(), threaded.data(), expected.size()), 0);
    // Mates of both kinds: few rows, which are split over keys, and many, which are packed.
    for (const SequenceShape& mate : {SequenceShape{1, 200, 199}, SequenceShape{150, 150, 0}}) {
      Case both = c;
      both.shape.sequences.push_back(mate);
      Random again(9);
      CaseRunner together(both, again);
      const auto found = together.check(micro, three);
      EXPECT_EQ(std::memcmp(expected.data(), found.data(), expected.size()), 0) << both.name();
    }
  }
}

TEST(AttentionParity, WrongArgumentsAreRefused) {
  Random random(6);
  ThreadPool pool(1);
  Case c;
  c.mask = Mask::causal();
  c.shape = {{{4, 4, 0}}, 2, 1};
  CaseRunner runner(c, random);
  Operand o(DType::kF32, 4, 2, 64, random, true);
  std::vector<float> lse(8);
  const AttentionArgs right = runner.arguments(o, lse);
  attention_forward(right, runner.schedule(), {&pool});
  const auto refused = [&](auto change) {
    AttentionArgs wrong = right;
    change(wrong);
    EXPECT_THROW(attention_forward(wrong, runner.schedule(), {&pool}), InvalidArgument);
  };
  refused([](AttentionArgs& a) { a.k.shape[3] = 32; });
  refused([](AttentionArgs& a) { a.q.shape[1] = 5; });
  refused([](AttentionArgs& a) { a.k.shape[1] = 3; });
  refused([](AttentionArgs& a) { a.k.dtype = DType::kI32; });
  refused([](AttentionArgs& a) { a.v.dtype = DType::kF16; });
  refused([](AttentionArgs& a) { a.q.strides[3] = 2; });
  refused([](AttentionArgs& a) { a.lse.shape[2] = 3; });
  refused([](AttentionArgs& a) { a.o.dtype = DType::kF16; });
  refused([](AttentionArgs& a) { a.k.shape[2] = 2; });
}

TEST(AttentionParity, OnlyPagesThatAreSeenMustExist) {
  Random random(7);
  ThreadPool pool(2);
  for (std::int64_t q_len : {1, 100}) {
    Case c;
    c.layout = Layout::kPaged;
    c.mask = Mask::causal() & Mask::window(10);
    c.shape = {{{q_len, 500, 500 - q_len}}, 2, 1};
    CaseRunner runner(c, random);
    Operand o(DType::kF32, q_len, 2, 64, random, true);
    std::vector<float> lse(static_cast<std::size_t>(2 * q_len));
    const AttentionArgs args = runner.arguments(o, lse);
    auto* pages = args.page_table.as<std::int32_t>();
    pages[0] = -1;
    EXPECT_NO_THROW(attention_forward(args, runner.schedule(), {&pool}));
    for (std::int32_t page : {-1, 1000}) {
      pages[7] = page;
      EXPECT_THROW(attention_forward(args, runner.schedule(), {&pool}), InvalidArgument);
    }
  }
}

}  // namespace
}  // namespace perpend
