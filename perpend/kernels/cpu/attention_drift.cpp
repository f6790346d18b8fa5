#include "perpend/kernels/cpu/attention_drift.h"

#include <cmath>
#include <span>
#include <vector>

#include "perpend/kernels/cpu/head_values.h"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

// Cosines are sums over these.
struct Products {
  float both = 0;
  float before = 0;
  float after = 0;

  void add(float a, float b) {
    both += a * b;
    before += a * a;
    after += b * b;
  }
  float cosine() const {
    const float norms = std::sqrt(before) * std::sqrt(after);
    return norms > 0 ? both / norms : 1.0F;
  }
};

// One layer: first all weights, then what they say.
class LayerDrift {
 public:
  LayerDrift(const AttentionDriftArgs& args, std::int64_t layer, ThreadPool& threads)
      : args_(args),
        layer_(layer),
        threads_(threads),
        head_dim_(args.queries.size(3)),
        heads_(args.num_q_heads()),
        group_(heads_ / args.num_kv_heads()),
        keys_(gathered_keys()) {}

  void run() {
    const std::int64_t window = args_.num_window();
    const std::int64_t tracked = args_.num_tracked();
    after_.resize(static_cast<std::size_t>((window + tracked) * heads_ * args_.canvas()));
    for_heads(window + tracked, [&](std::int64_t row, std::int64_t head) {
      const TensorView& rows = row < window ? args_.window : args_.tracked;
      const auto at = rows.as<const std::int32_t>()[row < window ? row : row - window];
      weigh(args_.queries, at, head, weights(after_, row, head));
    });
    attend();
    if (tracked == 0) {
      args_.similarity.as<float>()[layer_] = 1.0F;
      return;
    }
    restore_keys();
    before_.resize(static_cast<std::size_t>(tracked * heads_ * args_.canvas()));
    for_heads(tracked, [&](std::int64_t row, std::int64_t head) {
      weigh(args_.old_queries, row, head, weights(before_, row, head));
    });
    args_.similarity.as<float>()[layer_] =
        args_.by_keys ? similarity_by_keys() : similarity_by_heads();
  }

 private:
  template <class Keys>
  auto key_of(Keys& keys, std::int64_t head, std::int64_t key) const {
    return std::span(keys).subspan(
        static_cast<std::size_t>((head * args_.canvas() + key) * head_dim_),
        static_cast<std::size_t>(head_dim_));
  }

  // [num_kv_heads, canvas, head_dim]
  std::vector<float> gathered_keys() const {
    const std::int64_t kv_heads = args_.num_kv_heads();
    const std::int64_t page_size = args_.k_pages.size(1);
    const auto* table =
        args_.page_tables.as<const std::int32_t>() + layer_ * args_.page_tables.size(1);
    std::vector<float> keys(static_cast<std::size_t>(kv_heads * args_.canvas() * head_dim_));
    threads_.parallel_for(args_.canvas(), 64, [&](Range range) {
      for (std::int64_t key = range.begin; key < range.end; ++key) {
        for (std::int64_t head = 0; head < kv_heads; ++head) {
          const std::int64_t first = table[key / page_size] * args_.k_pages.stride(0) +
                                     key % page_size * args_.k_pages.stride(1) +
                                     head * args_.k_pages.stride(2);
          widen(args_.k_pages, first, key_of(keys, head, key));
        }
      }
    });
    return keys;
  }

  // The keys as they were before the step.
  void restore_keys() {
    const auto* changed = args_.changed.as<const std::int32_t>();
    const std::int64_t kv_heads = args_.num_kv_heads();
    for (std::int64_t i = 0; i < args_.num_changed(); ++i) {
      for (std::int64_t head = 0; head < kv_heads; ++head) {
        const std::int64_t row = (layer_ * args_.num_changed() + i) * kv_heads + head;
        widen(args_.old_keys, row * head_dim_, key_of(keys_, head, changed[i]));
      }
    }
  }

  template <class Visit>
  void for_heads(std::int64_t rows, Visit visit) const {
    threads_.parallel_for(rows * heads_, 1, [&](Range range) {
      for (std::int64_t i = range.begin; i < range.end; ++i) visit(i / heads_, i % heads_);
    });
  }

  std::span<float> weights(std::vector<float>& all, std::int64_t row, std::int64_t head) const {
    return std::span(all).subspan(static_cast<std::size_t>((row * heads_ + head) * args_.canvas()),
                                  static_cast<std::size_t>(args_.canvas()));
  }

  void weigh(const TensorView& queries, std::int64_t row, std::int64_t head,
             std::span<float> to) const {
    std::vector<float> q(static_cast<std::size_t>(head_dim_));
    widen(queries, ((layer_ * queries.size(1) + row) * heads_ + head) * head_dim_, q);
    const float scale =
        args_.scale != 0.0F ? args_.scale : 1.0F / std::sqrt(static_cast<float>(head_dim_));
    for (std::int64_t key = 0; key < args_.canvas(); ++key) {
      to[static_cast<std::size_t>(key)] =
          scale * dot(q.data(), key_of(keys_, head / group_, key).data(), head_dim_);
    }
    soften(to);
  }

  void attend() const {
    float* attended = args_.attended.as<float>() + layer_ * args_.canvas();
    threads_.parallel_for(args_.canvas(), 64, [&](Range range) {
      for (std::int64_t key = range.begin; key < range.end; ++key) {
        float sum = 0;
        for (std::int64_t i = 0; i < args_.num_window() * heads_; ++i) {
          sum += after_[static_cast<std::size_t>(i * args_.canvas() + key)];
        }
        attended[key] = sum;
      }
    });
  }

  // Of a tracked row.
  float before(std::int64_t row, std::int64_t head, std::int64_t key) const {
    return before_[static_cast<std::size_t>((row * heads_ + head) * args_.canvas() + key)];
  }
  float after(std::int64_t row, std::int64_t head, std::int64_t key) const {
    const std::int64_t place = (args_.num_window() + row) * heads_ + head;
    return after_[static_cast<std::size_t>(place * args_.canvas() + key)];
  }

  float similarity_by_heads() const {
    double sum = 0;
    for (std::int64_t row = 0; row < args_.num_tracked(); ++row) {
      for (std::int64_t key = 0; key < args_.canvas(); ++key) {
        Products products;
        for (std::int64_t head = 0; head < heads_; ++head) {
          products.add(before(row, head, key), after(row, head, key));
        }
        sum += products.cosine();
      }
    }
    return static_cast<float>(sum / static_cast<double>(args_.num_tracked() * args_.canvas()));
  }
  float similarity_by_keys() const {
    double sum = 0;
    for (std::int64_t row = 0; row < args_.num_tracked(); ++row) {
      for (std::int64_t head = 0; head < heads_; ++head) {
        Products products;
        for (std::int64_t key = 0; key < args_.canvas(); ++key) {
          products.add(before(row, head, key), after(row, head, key));
        }
        sum += products.cosine();
      }
    }
    return static_cast<float>(sum / static_cast<double>(args_.num_tracked() * heads_));
  }

  const AttentionDriftArgs& args_;
  std::int64_t layer_;
  ThreadPool& threads_;
  std::int64_t head_dim_;
  std::int64_t heads_;
  std::int64_t group_;
  std::vector<float> keys_;    // of this layer
  std::vector<float> after_;   // [window + tracked, num_q_heads, canvas]
  std::vector<float> before_;  // [tracked, num_q_heads, canvas]
};

}  // namespace

void cpu_attention_drift(const AttentionDriftArgs& args, Stream stream) {
  check_attention_drift(args);
  for (std::int64_t layer = 0; layer < args.num_layers(); ++layer) {
    LayerDrift(args, layer, *stream.threads).run();
  }
}

}  // namespace perpend
