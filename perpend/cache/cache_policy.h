#pragma once

#include <cstdint>

#include "perpend/cache/kv_sequence.h"

namespace perpend {

// Decides which committed keys a sequence keeps, never how attention is computed.
class CachePolicy {
 public:
  virtual ~CachePolicy() = default;

  // Called when all tokens below `num_committed` are final: frees what no later query can see.
  virtual void commit(KvSequence& sequence, std::int64_t num_committed) = 0;
};

// Keeps everything.
class ExactPolicy final : public CachePolicy {
 public:
  void commit(KvSequence& /*sequence*/, std::int64_t /*num_committed*/) override {}
};

}  // namespace perpend
