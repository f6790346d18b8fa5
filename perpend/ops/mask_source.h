#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "perpend/core/tensor_view.h"
#include "perpend/mask/mask.h"
#include "perpend/schedule/attention_shape.h"

namespace perpend {

// Masks as the plain arguments of an operator bring them: text, and what stands for its names.
// `bindings` has one text for each name, in an order in which labels know the names they use:
//   "doc = segments(160*3)"        a label
//   "doc"                          the next of `arrays` is the label of each position: i32 or i64
//                                  [positions] for all sequences, [batch, positions], or in a
//                                  ragged batch [total_kv], cut where keys are
//   "map = tiles(128, 128, 40)"    a TileMap: tile_q, tile_k, columns; the next four of `arrays`
//                                  are its row_begin i64 [rows + 1], columns i32 [live], bitmaps
//                                  i32 [live] and words i64 [num_bitmaps, tile_q, words_per_row]
// Arrays are dense and on the CPU.
struct MaskSource {
  std::vector<std::string> texts;  // one, or one for each sequence of the batch
  std::vector<std::string> bindings = {};
  std::vector<TensorView> arrays = {};
};

// The masks that `source` describes: one, or one for each sequence. Throws InvalidArgument.
std::vector<Mask> read_masks(const MaskSource& source, const AttentionShape& shape);

// Masks read before, least recently used first to go, so that the calls of a loop neither parse nor
// look for runs in arrays again. Arrays are compared value by value: an array that changed in place
// is another one. Safe to use from several threads.
class MaskCache {
 public:
  explicit MaskCache(std::size_t capacity = 64) : capacity_(capacity) {}

  std::shared_ptr<const std::vector<Mask>> get(const MaskSource& source,
                                               const AttentionShape& shape);

 private:
  struct Entry {
    std::vector<std::string> texts;
    std::vector<std::string> bindings;
    std::vector<TensorView> arrays;  // shapes and dtypes; their bytes one after another in `values`
    std::vector<std::byte> values;
    std::vector<std::int64_t> kv_lengths;  // where a ragged array is cut
    std::shared_ptr<const std::vector<Mask>> masks;
  };
  static bool is_of(const Entry& entry, const MaskSource& source,
                    const std::vector<std::int64_t>& kv_lengths);

  std::size_t capacity_;
  std::mutex mutex_;
  std::list<Entry> entries_;  // most recently used first
};

// The one cache of a process.
MaskCache& mask_cache();

}  // namespace perpend
