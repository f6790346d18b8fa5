#pragma once

#include <cstdint>
#include <memory>

#include "perpend/core/device.h"
#include "perpend/core/stream.h"
#include "perpend/kernels/attention.h"

// Attention by lists of blocks that a model or a measurement chooses anew at every step, such as
// the top-k key blocks of each query block (MoBA, arXiv:2502.13189; NSA, arXiv:2502.11089; VSA,
// arXiv:2505.13389). The lists lie in the memory of the device and never come to the host: update()
// turns them into the steps that the attention kernels read, by two small launches, or three.
//
// Plan once, run often: what does not depend on the lists is made on the host, once for a spec:
// which queries an item has, and the bitmaps of all that a step can be but full: the last one of a
// list, whose columns end early, and those that the diagonal cuts. A plan is that and memory for
// lists of one capacity. Launches of one plan are the same at every step, so that all calls can be
// captured in a CUDA graph, which then runs whatever the lists hold.
//
//   update()    a warp for each item: marks the blocks of its lists in a bit set, which puts them
//               in order and drops repeats; counts, and writes them as steps of 128 keys (64 for
//               wide heads), of which smaller blocks are gathered boxes. Two query blocks of 64
//               rows that share an item become one list: blocks of both, of the first, of the
//               second. Then a counting sort: items with the most steps first, 32 key/value heads
//               at a time.
//               For gradients, lists are turned over as well: bit sets of lists become a table of
//               tiles of 128 keys and query blocks, of which a warp for each tile makes steps of 64
//               queries, in their order, or gathered from small blocks that see the same keys.
//   forward(), backward()  the attention kernels, as for a compiled schedule.

namespace perpend {

// What a plan is made for.
struct BlockAttentionSpec {
  AttentionSpec attention = {};
  std::int64_t batch = 1;
  std::int64_t q_len = 0;
  std::int64_t kv_len = 0;
  std::int64_t q_offset = 0;  // position of query 0
  int num_q_heads = 1;
  int num_kv_heads = 1;
  int num_list_heads = 1;       // num_q_heads, num_kv_heads, or 1 for lists that all heads share
  std::int64_t q_block = 128;   // queries of a list; anything, but multiples of 64 waste no rows
  std::int64_t kv_block = 128;  // 16, 32, 64, or a multiple of the keys of a step
  std::int64_t max_blocks = 0;  // entries of a list, at most
  bool causal = false;          // of the blocks, only pairs with key position <= query position
  bool changes_scores = false;  // operands may have a ScoreChange or a negative scale
  // backward() will be called. Its column pass has steps of 64 queries of one block, or of several
  // blocks of 16 or 32, as long as no diagonal cuts them and blocks of keys have at least 64; of
  // other blocks rows are wasted.
  bool gradients = false;

  std::int64_t num_q_blocks() const { return (q_len + q_block - 1) / q_block; }
  std::int64_t num_kv_blocks() const { return (kv_len + kv_block - 1) / kv_block; }
  AttentionShape shape() const;

  friend bool operator==(const BlockAttentionSpec&, const BlockAttentionSpec&) = default;
};

// One stream at a time; not safe to use from several threads.
class BlockAttentionPlan {
 public:
  BlockAttentionPlan() = default;
  virtual ~BlockAttentionPlan() = default;
  BlockAttentionPlan(const BlockAttentionPlan&) = delete;
  BlockAttentionPlan& operator=(const BlockAttentionPlan&) = delete;

  virtual const BlockAttentionSpec& spec() const = 0;
  virtual const AttentionShape& shape() const = 0;  // of the spec
  // What runs on `stream` after this call uses these lists:
  //   block_indices [batch, num_list_heads, num_q_blocks, max_blocks] i32, the last axis
  //   contiguous:
  //                 the key blocks of each query block in any order; repeats count once, what is no
  //                 block (-1, or beyond the last) not at all
  //   num_blocks    [batch, num_list_heads, num_q_blocks] i32: how many of them count; absent: all
  // Equal lists give equal steps. Asynchronous; allocates nothing. Throws InvalidArgument.
  virtual void update(const TensorView& block_indices, const TensorView& num_blocks,
                      Stream stream) = 0;
  // As attention_forward() and attention_backward(), of the lists that update() has been given
  // before on this stream. Arguments are checked already. The forward pass allocates nothing.
  virtual void forward(const AttentionArgs& args, Stream stream) const = 0;
  virtual void backward(const AttentionGradArgs& args, Stream stream) const = 0;
};

// What of a plan does not depend on the lists, on a device. Safe to use from several threads and
// for several streams at a time.
class BlockAttentionTables {
 public:
  BlockAttentionTables() = default;
  virtual ~BlockAttentionTables() = default;
  BlockAttentionTables(const BlockAttentionTables&) = delete;
  BlockAttentionTables& operator=(const BlockAttentionTables&) = delete;

  virtual const BlockAttentionSpec& spec() const = 0;
  virtual Device device() const = 0;
};

// Throws InvalidArgument (a spec that makes no sense, or what the kernels do not take, by name),
// Unsupported (no such kernels, or an AttentionSpec that is not supported), OutOfMemory and
// DeviceError. May be called while a stream is being captured.
std::shared_ptr<const BlockAttentionTables> make_block_attention_tables(
    const BlockAttentionSpec& spec, Device device);

// With memory of its own. Must outlive what was launched with it, captured graphs included. Throws
// as make_block_attention_tables().
std::unique_ptr<BlockAttentionPlan> make_block_attention_plan(const BlockAttentionSpec& spec,
                                                              Device device);
// With memory in the order of `stream` (see StreamAllocator), on which alone it may be used, and
// only until it is destroyed, with its device as the current one; what was launched goes on. A
// graph that is being captured keeps the tables.
std::unique_ptr<BlockAttentionPlan> make_block_attention_plan(
    const std::shared_ptr<const BlockAttentionTables>& tables, Stream stream);

// As attention_forward() in attention.h, of the pairs of the plan's lists. Operands are not paged.
void attention_forward(const AttentionArgs& args, const BlockAttentionPlan& plan, Stream stream);

// As attention_backward(); the plan's spec has `gradients`.
void attention_backward(const AttentionGradArgs& args, const BlockAttentionPlan& plan,
                        Stream stream);

}  // namespace perpend
