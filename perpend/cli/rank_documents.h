#pragma once

#include <optional>
#include <string>
#include <vector>

#include "perpend/rank/bm25.h"
#include "perpend/rank/rank_prompt.h"

namespace perpend {

// What is ranked, and what is shown beside an id.
struct DocumentList {
  std::vector<RankDocument> documents;
  std::vector<std::string> captions;
};

// Of --docs: "debian", "-" for JSONL on standard input, a folder of texts or a JSONL file. Throws
// IoError for what can not be read, InvalidArgument for a source without a document.
DocumentList read_documents(const std::string& source);

// BM25 over a list of documents, which it borrows.
class FirstStage {
 public:
  explicit FirstStage(const DocumentList& list);

  struct Found {
    DocumentList list;  // best first
    std::vector<float> scores;
  };
  // The `count` best of those with a word of the query; perhaps none.
  Found best(const std::string& query, std::size_t count) const;

 private:
  const DocumentList& list_;
  std::optional<Bm25> index_;
};

}  // namespace perpend
