// Plans a mask and runs attention under it, forward, with nothing but libperpend.
#include <cstdio>
#include <random>
#include <vector>

#include "perpend/kernels/table.h"
#include "perpend/mask/mask.h"
#include "perpend/schedule/cost.h"

namespace {

std::vector<float> random_values(std::size_t count, std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

void run(const std::string& text) {
  using namespace perpend;
  constexpr std::int64_t kLength = 2048;
  constexpr std::int64_t kHeadDim = 64;
  constexpr int kQueryHeads = 8;
  constexpr int kKeyHeads = 2;

  // What: a mask. How: a plan of it for these lengths and heads, made once for many calls.
  const Mask mask = parse_mask(text);
  const AttentionTable& attention = cpu_kernels().attention;
  const Tiling tiling = attention.tiling({.head_dim = kHeadDim}, Sweep::kRows);
  const Schedule schedule =
      compile(mask, {{{kLength, kLength, 0}}, kQueryHeads, kKeyHeads}, tiling);
  std::printf("%s: %.1f %% of all pairs are live\n", mask.str().c_str(),
              100 * cost_of(schedule).density());

  const Dims q_shape{1, kLength, kQueryHeads, kHeadDim};
  const Dims kv_shape{1, kLength, kKeyHeads, kHeadDim};
  const auto size = [](const Dims& shape) { return static_cast<std::size_t>(num_elements(shape)); };
  std::vector<float> q = random_values(size(q_shape), 1);
  std::vector<float> k = random_values(size(kv_shape), 2);
  std::vector<float> v = random_values(size(kv_shape), 3);
  std::vector<float> o(q.size());
  ThreadPool threads;
  attention_forward({.q = TensorView::dense(q.data(), q_shape),
                     .k = TensorView::dense(k.data(), kv_shape),
                     .v = TensorView::dense(v.data(), kv_shape),
                     .o = TensorView::dense(o.data(), q_shape)},
                    schedule, {.threads = &threads});
  std::printf("o[0, 0, 0, 0] = %.6f, which is v[0, 0, 0, 0] = %.6f: the first query sees one key\n",
              o[0], v[0]);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc > 1 ? argv[1] : "causal & (sink(64) | window(256))");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "window: %s\n", error.what());
    return 1;
  }
}
