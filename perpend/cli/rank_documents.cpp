#include "perpend/cli/rank_documents.h"

#include <filesystem>
#include <iostream>
#include <utility>

#include "perpend/cli/prompt_source.h"
#include "perpend/core/error.h"
#include "perpend/io/home_folder.h"
#include "perpend/io/text_file.h"
#include "perpend/rank/debian_packages.h"
#include "perpend/rank/document_reader.h"

namespace perpend {
namespace {

DocumentList read_debian() {
  const auto path = home_folder() / "debian" / "packages.jsonl";
  const auto say = [] {
    std::cerr << "perpend: fetching the descriptions of Debian's packages (16 MB) by apt-get\n";
  };
  DocumentList list;
  for (DebianPackage& package : debian_packages(path.string(), say)) {
    list.captions.push_back(std::move(package.synopsis));
    list.documents.push_back({.id = std::move(package.name), .text = package.description});
  }
  return list;
}

}  // namespace

DocumentList read_documents(const std::string& source) {
  if (source == "debian") return read_debian();
  DocumentList list;
  std::error_code error;
  if (source == "-") {
    list.documents = read_document_lines(read_standard_input("documents"), "standard input");
  } else if (std::filesystem::is_directory(source, error)) {
    list.documents = read_document_folder(source);
  } else {
    list.documents = read_document_lines(read_text_file(source), source);
  }
  for (const RankDocument& document : list.documents) {
    const std::string& text = document.title.empty() ? document.text : document.title;
    list.captions.push_back(text.substr(0, text.find('\n')));
  }
  check(!list.documents.empty(), concat("rank: ", source, " has no document"));
  return list;
}

FirstStage::FirstStage(const DocumentList& list) : list_(list) {
  std::vector<std::string> texts;
  texts.reserve(list.documents.size());
  for (const RankDocument& document : list.documents) {
    texts.push_back(concat(document.id, " ", document.title, " ", document.text));
  }
  index_.emplace(texts);
}

FirstStage::Found FirstStage::best(const std::string& query, std::size_t count) const {
  Found found;
  const std::vector<double> scores = index_->scores(query);
  for (const std::size_t index : index_->best(query, count)) {
    found.list.documents.push_back(list_.documents[index]);
    found.list.captions.push_back(list_.captions[index]);
    found.scores.push_back(static_cast<float>(scores[index]));
  }
  return found;
}

}  // namespace perpend
