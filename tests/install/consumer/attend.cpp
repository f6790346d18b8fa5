#include "attend.h"

#include "perpend/kernels/table.h"
#include "perpend/mask/mask.h"

std::vector<float> attend(const std::string& mask_text, const std::vector<float>& values,
                          std::int64_t head_dim) {
  using namespace perpend;
  const auto num_tokens = static_cast<std::int64_t>(values.size()) / head_dim;
  const AttentionTable& attention = cpu_kernels().attention;
  const Tiling tiling = attention.tiling(
      {.q_dtype = DType::kF32, .kv_dtype = DType::kF32, .head_dim = head_dim}, Sweep::kRows);
  const Schedule schedule =
      compile(parse_mask(mask_text), {.sequences = {{num_tokens, num_tokens, 0}}}, tiling);

  std::vector<float> zeros(values.size());
  std::vector<float> v = values;
  std::vector<float> o(values.size());
  const Dims shape{1, num_tokens, 1, head_dim};
  ThreadPool threads(2);
  attention_forward({.q = TensorView::dense(zeros.data(), shape),
                     .k = TensorView::dense(zeros.data(), shape),
                     .v = TensorView::dense(v.data(), shape),
                     .o = TensorView::dense(o.data(), shape)},
                    schedule, {.threads = &threads});
  return o;
}
