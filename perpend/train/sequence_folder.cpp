#include "perpend/train/sequence_folder.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/atomic_file.h"
#include "perpend/io/json_text.h"
#include "perpend/io/text_file.h"

namespace perpend {
namespace {

constexpr std::string_view kFolderFormat = "perpend-sequences";
constexpr std::int64_t kMostValues = std::int64_t{1} << 48;

std::int64_t count_of(const nlohmann::json& header, const std::string& key,
                      const std::string& file) {
  const auto found = header.find(key);
  const bool fits = found != header.end() && found->is_number_integer() &&
                    found->get<std::int64_t>() >= 0 && found->get<std::int64_t>() <= kMostValues;
  if (!fits) throw IoError(concat(file, ": ", key, ": expected a count from 0 to 2^48"));
  return found->get<std::int64_t>();
}

template <class T, class Value>
std::vector<T> part_of(std::span<const Value> values, std::int64_t begin, std::int64_t end) {
  const auto part =
      values.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  return {part.begin(), part.end()};
}

}  // namespace

SequenceFolder::SequenceFolder(const std::string& path) : path_(path) {
  read_header();
  tokens_ = open("tokens", num_tokens_, wide_tokens_ ? 4 : 2);
  indptr_ = open("indptr", num_sequences_ + 1, 8);
  check_indptr("indptr", indptr_, num_tokens_);
  for (const std::string& name : array_names_) add_array(name);
}

void SequenceFolder::read_header() {
  const std::string file = path_ + "/dataset.json";
  const nlohmann::json header = parse_json_object(read_text_file(file), file);
  if (header.value("format", "") != kFolderFormat || header.value("version", 0) != 1) {
    throw IoError(concat(file, ": expected the format '", kFolderFormat, "', version 1"));
  }
  num_sequences_ = count_of(header, "num_sequences", file);
  num_tokens_ = count_of(header, "num_tokens", file);
  const auto type = header.find("token_type");
  const bool known = type != header.end() && (*type == "u16" || *type == "u32");
  if (!known) throw IoError(file + ": token_type: expected \"u16\" or \"u32\"");
  wide_tokens_ = *type == "u32";
  const auto arrays = header.find("arrays");
  if (arrays == header.end()) return;
  const auto is_text = [](const nlohmann::json& item) { return item.is_string(); };
  if (!arrays->is_array() || !std::all_of(arrays->begin(), arrays->end(), is_text)) {
    throw IoError(file + ": arrays: expected a list of names");
  }
  array_names_ = arrays->get<std::vector<std::string>>();
}

SequenceFolder::Array SequenceFolder::open(const std::string& name, std::int64_t count,
                                           std::size_t value_bytes) const {
  const std::string file = concat(path_, "/", name, ".bin");
  std::error_code error;
  const auto size = std::filesystem::file_size(file, error);
  if (error) throw IoError(concat(file, ": ", error.message()));
  const bool whole = size % value_bytes == 0;
  if (!whole || (count >= 0 && size / value_bytes != static_cast<std::uint64_t>(count))) {
    throw IoError(concat(file, ": expected ", count < 0 ? "a number of" : std::to_string(count),
                         " values of ", value_bytes, " bytes, found ", size, " bytes"));
  }
  Array array;
  if (size > 0) array.file = MappedFile::open(file);
  return array;
}

void SequenceFolder::check_indptr(const std::string& name, const Array& array,
                                  std::int64_t last) const {
  const auto indptr = array.as<std::int64_t>();
  const bool rises = std::is_sorted(indptr.begin(), indptr.end());
  if (!rises || indptr.front() != 0 || indptr.back() != last) {
    throw IoError(concat(path_, "/", name, ".bin: expected numbers that rise from 0 to ", last));
  }
}

void SequenceFolder::add_array(const std::string& name) {
  if (name == "targets") {
    targets_ = open(name, num_tokens_, 4);
  } else if (name == "weights") {
    weights_ = open(name, num_tokens_, 4);
  } else if (name == "positions") {
    positions_ = open(name, num_tokens_, 4);
  } else if (name.starts_with("label.")) {
    labels_[name.substr(6)] = open(name, num_tokens_, 4);
  } else if (name.starts_with("list.")) {
    List list{.indptr = open(name + ".indptr", num_sequences_ + 1, 8), .values = open(name, -1, 4)};
    check_indptr(name + ".indptr", list.indptr,
                 static_cast<std::int64_t>(list.values.as<std::int32_t>().size()));
    lists_[name.substr(5)] = std::move(list);
  } else {
    throw IoError(concat(path_, "/dataset.json: arrays: unknown name '", name,
                         "', expected targets, weights, positions, label.NAME or list.NAME"));
  }
}

std::int64_t SequenceFolder::num_tokens(std::int64_t index) const {
  const auto indptr = indptr_.as<std::int64_t>().subspan(static_cast<std::size_t>(index), 2);
  return indptr[1] - indptr[0];
}

TrainingSequence SequenceFolder::get(std::int64_t index, std::int64_t /*epoch*/) const {
  const auto place = static_cast<std::size_t>(index);
  const std::int64_t begin = indptr_.as<std::int64_t>()[place];
  const std::int64_t end = indptr_.as<std::int64_t>()[place + 1];
  const auto part = [&](const Array& array) {
    return part_of<std::int32_t>(array.as<std::int32_t>(), begin, end);
  };
  TrainingSequence sequence;
  sequence.tokens = wide_tokens_ ? part_of<std::int32_t>(tokens_.as<std::uint32_t>(), begin, end)
                                 : part_of<std::int32_t>(tokens_.as<std::uint16_t>(), begin, end);
  if (targets_) sequence.targets = part(*targets_);
  if (weights_) sequence.weights = part_of<float>(weights_->as<float>(), begin, end);
  if (positions_) sequence.positions = part(*positions_);
  for (const auto& [name, array] : labels_) sequence.labels[name] = part(array);
  for (const auto& [name, list] : lists_) {
    const auto indptr = list.indptr.as<std::int64_t>();
    sequence.lists[name] =
        part_of<std::int32_t>(list.values.as<std::int32_t>(), indptr[place], indptr[place + 1]);
  }
  return sequence;
}

}  // namespace perpend
