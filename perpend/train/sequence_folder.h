#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "perpend/io/atomic_folder.h"
#include "perpend/io/mapped_file.h"
#include "perpend/train/dataset.h"

namespace perpend {

// Examples on disk: a folder of plain arrays, little endian, which numpy writes with tofile() and
// reads with fromfile(). All sequences lie one after another.
//   dataset.json        {"format": "perpend-sequences", "version": 1, "num_sequences": S,
//                        "num_tokens": T, "token_type": "u16" or "u32",
//                        "arrays": ["targets", "weights", "positions", "label.doc",
//                        "list.positives"]}, naming those of the files below that there are
//   tokens.bin          u16 or u32 [T]
//   indptr.bin          i64 [S + 1], from 0 to T: where sequences begin
//   targets.bin         i32 [T], -1 where nothing is to be predicted
//   weights.bin         f32 [T]
//   positions.bin       i32 [T]
//   label.NAME.bin      i32 [T]
//   list.NAME.bin       i32 [L], and list.NAME.indptr.bin i64 [S + 1], from 0 to L
// What they mean says TrainingSequence. The files are mapped, so that data may be larger than
// memory.
class SequenceFolder final : public Dataset {
 public:
  // Throws IoError naming file and field for what is missing, of another size or does not fit.
  explicit SequenceFolder(const std::string& path);

  std::int64_t size() const override { return num_sequences_; }
  std::int64_t num_tokens(std::int64_t index) const override;
  TrainingSequence get(std::int64_t index, std::int64_t epoch) const override;

 private:
  struct Array {
    std::optional<MappedFile> file;  // none when it is empty
    template <class T>
    std::span<const T> as() const {
      if (!file) return {};
      return {reinterpret_cast<const T*>(file->bytes().data()), file->bytes().size() / sizeof(T)};
    }
  };
  struct List {
    Array indptr;
    Array values;
  };

  void read_header();
  // The file of an array. Throws IoError unless it has `count` values of `value_bytes`, or any
  // number of them for a negative count.
  Array open(const std::string& name, std::int64_t count, std::size_t value_bytes) const;
  void add_array(const std::string& name);
  void check_indptr(const std::string& name, const Array& array, std::int64_t last) const;

  std::string path_;
  std::int64_t num_sequences_ = 0;
  std::int64_t num_tokens_ = 0;
  bool wide_tokens_ = false;
  std::vector<std::string> array_names_;
  Array tokens_;
  Array indptr_;
  std::optional<Array> targets_;
  std::optional<Array> weights_;
  std::optional<Array> positions_;
  std::map<std::string, Array> labels_;
  std::map<std::string, List> lists_;
};

// Writes `sequences` as such a folder, which appears whole or not at all; tokens are u16 where they
// fit. All must have the same optional parts. Throws InvalidArgument and IoError.
void write_sequence_folder(const std::string& path, std::span<const TrainingSequence> sequences);

}  // namespace perpend
