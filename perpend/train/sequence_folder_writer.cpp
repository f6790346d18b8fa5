#include <algorithm>
#include <type_traits>
#include <utility>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/atomic_file.h"
#include "perpend/io/json_text.h"
#include "perpend/train/sequence_folder.h"

namespace perpend {
namespace {

// The arrays of all sequences, each in the order of the sequences.
struct JoinedArrays {
  std::map<std::string, std::string> bytes;  // by file name without ".bin"
  std::vector<std::string> names;            // of the optional ones

  template <class T>
  void append(const std::string& name, const std::vector<T>& values) {
    static_assert(std::is_arithmetic_v<T>);
    bytes[name].append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
};

void check_length(const TrainingSequence& sequence, std::size_t length, std::string_view name) {
  check_eq(length, sequence.tokens.size(),
           concat("sequence folder: length of ", name, " and tokens differ"));
}

template <class Values>
std::vector<std::string> keys_of(const std::map<std::string, Values>& map) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : map) keys.push_back(key);
  return keys;
}

void check_same_parts(const TrainingSequence& a, const TrainingSequence& b) {
  const bool same = a.targets.empty() == b.targets.empty() &&
                    a.weights.empty() == b.weights.empty() &&
                    a.positions.empty() == b.positions.empty() &&
                    keys_of(a.labels) == keys_of(b.labels) && keys_of(a.lists) == keys_of(b.lists);
  check(same, "sequence folder: all sequences must have the same optional parts");
}

void append_sequence(const TrainingSequence& sequence, bool wide, JoinedArrays& joined) {
  if (wide) {
    joined.append("tokens", sequence.tokens);
  } else {
    joined.append("tokens",
                  std::vector<std::uint16_t>(sequence.tokens.begin(), sequence.tokens.end()));
  }
  const auto optional_part = [&](const std::string& name, const auto& values) {
    if (values.empty()) return;
    check_length(sequence, values.size(), name);
    joined.append(name, values);
  };
  optional_part("targets", sequence.targets);
  optional_part("weights", sequence.weights);
  optional_part("positions", sequence.positions);
  for (const auto& [name, values] : sequence.labels) {
    check_length(sequence, values.size(), name);
    joined.append("label." + name, values);
  }
  for (const auto& [name, values] : sequence.lists) joined.append("list." + name, values);
}

// Where sequences begin in an array that holds length_of(sequence) values of each.
template <class LengthOf>
std::vector<std::int64_t> indptr_of(std::span<const TrainingSequence> sequences,
                                    LengthOf length_of) {
  std::vector<std::int64_t> indptr = {0};
  for (const TrainingSequence& sequence : sequences) {
    indptr.push_back(indptr.back() + static_cast<std::int64_t>(length_of(sequence)));
  }
  return indptr;
}

bool needs_wide(std::span<const TrainingSequence> sequences) {
  bool wide = false;
  for (const TrainingSequence& sequence : sequences) {
    for (const std::int32_t token : sequence.tokens) {
      check(token >= 0, concat("sequence folder: token id ", token, " is negative"));
      wide |= token > 0xFFFF;
    }
  }
  return wide;
}

JoinedArrays join(std::span<const TrainingSequence> sequences, bool wide) {
  JoinedArrays joined;
  joined.append("indptr", indptr_of(sequences, [](const auto& s) { return s.tokens.size(); }));
  for (const TrainingSequence& sequence : sequences) {
    check_same_parts(sequence, sequences.front());
    append_sequence(sequence, wide, joined);
  }
  if (sequences.empty()) return joined;
  const TrainingSequence& first = sequences.front();
  if (!first.targets.empty()) joined.names.emplace_back("targets");
  if (!first.weights.empty()) joined.names.emplace_back("weights");
  if (!first.positions.empty()) joined.names.emplace_back("positions");
  for (const auto& [name, values] : first.labels) joined.names.push_back("label." + name);
  for (const auto& [name, values] : first.lists) {
    joined.names.push_back("list." + name);
    joined.append("list." + name + ".indptr", indptr_of(sequences, [&](const auto& sequence) {
                    return sequence.lists.at(name).size();
                  }));
  }
  return joined;
}

void write_whole(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace

void write_sequence_folder(const std::string& path, std::span<const TrainingSequence> sequences) {
  const bool wide = needs_wide(sequences);
  const JoinedArrays joined = join(sequences, wide);
  const auto length_of = [](const TrainingSequence& s) { return s.tokens.size(); };
  const nlohmann::json header = {
      {"format", "perpend-sequences"},      {"version", 1},
      {"num_sequences", sequences.size()},  {"num_tokens", indptr_of(sequences, length_of).back()},
      {"token_type", wide ? "u32" : "u16"}, {"arrays", joined.names}};
  AtomicFolder folder(path);
  for (const auto& [name, bytes] : joined.bytes) {
    write_whole(concat(folder.staging_path(), "/", name, ".bin"), bytes);
  }
  if (sequences.empty()) write_whole(folder.staging_path() + "/tokens.bin", "");
  write_whole(folder.staging_path() + "/dataset.json", json_document(header, path));
  folder.commit([](std::string_view name) { return name.ends_with(".bin"); });
}

}  // namespace perpend
