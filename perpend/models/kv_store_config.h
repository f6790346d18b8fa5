#pragma once

#include <cstdint>

#include "perpend/cache/kv_store.h"
#include "perpend/models/model_config.h"

namespace perpend {

// A store for all layers of a model.
inline KvStoreConfig kv_store_config(const ModelConfig& model, DType dtype, std::int64_t max_tokens,
                                     Device device = {}) {
  return {.num_layers = model.num_layers,
          .num_kv_heads = model.num_kv_heads,
          .head_dim = model.head_dim,
          .dtype = dtype,
          .max_tokens = max_tokens,
          .device = device};
}

}  // namespace perpend
