#pragma once

#include <cstdint>
#include <list>
#include <memory>

#include "perpend/models/decode_graph.h"

namespace perpend {

// The captured graphs of the passes that a loop repeats, the least recently used of which goes when
// there are too many. A kind of pass is captured when it comes for the second time: what comes once
// is not worth it. Activations of all graphs share memory, since one runs at a time.
class PassGraphs {
 public:
  static constexpr std::size_t kMostGraphs = 16;
  static constexpr std::size_t kMostKinds = 64;  // that are known, most of them without a graph
  // Rows of a sequence and of a pass: launches of larger ones are hidden behind what they do.
  static constexpr std::int64_t kMostRowsOfSequence = 128;
  static constexpr std::int64_t kMostRows = 4096;

  // Borrows both.
  PassGraphs(const LanguageModel& model, const Context& context);

  // Whether `input` is of a kind that loops run again and again: few rows, logits.
  static bool repeats(const ForwardInput& input);

  // The graph that takes `input`; null where it is to run launch by launch: of no kind that is
  // captured, the first of its kind, or with a mask that the graph of its kind has no room for.
  DecodeGraph* find(const ForwardInput& input, std::int32_t banned_token);

  std::size_t num_graphs() const;
  std::size_t num_bytes() const { return workspace_.num_bytes(); }  // of activations

 private:
  struct Known {
    GraphKind kind;
    std::unique_ptr<DecodeGraph> graph;
  };

  void drop_oldest_graph();

  const LanguageModel& model_;
  const Context& context_;
  Workspace workspace_;
  std::list<Known> known_;  // the one that was used last is first
};

}  // namespace perpend
