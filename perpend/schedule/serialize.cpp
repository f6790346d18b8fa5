#include "perpend/schedule/serialize.h"

#include <bit>
#include <cstring>
#include <type_traits>

#include "perpend/core/demand.h"

namespace perpend {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::uint64_t kMagic = 0x4C55444548435350;  // "PSCHEDUL"
constexpr std::uint32_t kVersion = 2;

template <class T>
concept Scalar = std::is_arithmetic_v<T> || std::is_enum_v<T>;

class Writer {
 public:
  template <Scalar... T>
  void operator()(const T&... values) {
    (add(values), ...);
  }
  std::size_t count(std::size_t size) {
    add(std::uint64_t{size});
    return size;
  }
  std::vector<std::byte> bytes;

 private:
  template <Scalar T>
  void add(const T& value) {
    const auto* first = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), first, first + sizeof(T));
  }
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <Scalar... T>
  void operator()(T&... values) {
    (take(values), ...);
  }
  // Every element takes a byte at least, which bounds what a false count can make us allocate.
  std::size_t count(std::size_t /*size*/) {
    std::uint64_t size = 0;
    take(size);
    demand(size <= bytes_.size(), "schedule: the bytes end too early");
    return static_cast<std::size_t>(size);
  }
  bool is_at_end() const { return bytes_.empty(); }

 private:
  template <Scalar T>
  void take(T& value) {
    demand(bytes_.size() >= sizeof(T), "schedule: the bytes end too early");
    std::array<std::byte, sizeof(T)> raw{};
    std::memcpy(raw.data(), bytes_.data(), sizeof(T));
    if constexpr (std::is_same_v<T, bool>) {
      value = raw[0] != std::byte{0};
    } else {
      value = std::bit_cast<T>(raw);
    }
    bytes_ = bytes_.subspan(sizeof(T));
  }
  std::span<const std::byte> bytes_;
};

// Each visit() names the fields of a type once, for reading and for writing.

template <class Archive, class T, std::size_t n>
void visit(Archive& archive, std::array<T, n>& values) {
  for (T& value : values) archive(value);
}
template <class Archive>
void visit(Archive& archive, std::int32_t& value) {
  archive(value);
}
template <class Archive>
void visit(Archive& archive, SequenceShape& s) {
  archive(s.q_len, s.kv_len, s.q_offset);
}
template <class Archive>
void visit(Archive& archive, TileCosts& c) {
  archive(c.partial, c.half_skipped, c.gathered, c.item, c.bitmap);
}
template <class Archive>
void visit(Archive& archive, Tiling& t) {
  archive(t.outer_tile, t.outer_part, t.inner_tile);
  visit(archive, t.sub_tiles);
  archive(t.any_start, t.any_outer_start, t.heads);
  visit(archive, t.costs);
}
template <class Archive>
void visit(Archive& archive, TilePlan& p) {
  archive(p.outer_tile, p.outer_part, p.inner_tile, p.sub_tile);
  archive(p.packed, p.aligned);
}
template <class Archive>
void visit(Archive& archive, TileEntry& e) {
  archive(e.begin, e.rest);
}
template <class Archive>
void visit(Archive& archive, ListRange& r) {
  archive(r.begin, r.end);
}
template <class Archive>
void visit(Archive& archive, WorkItem& i) {
  archive(i.sequence, i.q_head, i.num_heads, i.begin, i.size);
  archive(i.list, i.list_stride);
}
template <class Archive, class T>
void visit(Archive& archive, std::vector<T>& values) {
  values.resize(archive.count(values.size()));
  for (T& value : values) visit(archive, value);
}
template <class Archive>
void visit(Archive& archive, Schedule& s) {
  archive(s.sweep);
  visit(archive, s.shape.sequences);
  archive(s.shape.num_q_heads, s.shape.num_kv_heads);
  visit(archive, s.tiling);
  visit(archive, s.plans);
  visit(archive, s.plan);
  visit(archive, s.entries);
  visit(archive, s.sub_tiles);
  visit(archive, s.lists);
  visit(archive, s.items);
}

void check_enumerators(const Schedule& schedule) {
  demand(schedule.sweep == Sweep::kRows || schedule.sweep == Sweep::kColumns,
         "schedule: unknown sweep ", static_cast<int>(schedule.sweep));
  demand(schedule.tiling.heads <= HeadRows::kTogether, "schedule: unknown way to lay heads ",
         static_cast<int>(schedule.tiling.heads));
}

}  // namespace

std::vector<std::byte> serialize(const Schedule& schedule) {
  Writer writer;
  writer(kMagic);
  writer(kVersion);
  Schedule copy = schedule;  // visit() reads and writes, so that it wants a value it may change
  visit(writer, copy);
  writer.count(static_cast<std::size_t>(schedule.bitmaps.count()));
  for (std::int32_t bitmap = 0; bitmap < schedule.bitmaps.count(); ++bitmap) {
    for (const std::uint64_t word : schedule.bitmaps.tile(bitmap)) writer(word);
  }
  return std::move(writer.bytes);
}

Schedule deserialize_schedule(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  std::uint64_t magic = 0;
  std::uint32_t version = 0;
  reader(magic);
  demand(magic == kMagic, "schedule: these bytes are not a schedule");
  reader(version);
  demand(version == kVersion, "schedule: version ", version, " of the bytes, expected ", kVersion);
  Schedule schedule;
  visit(reader, schedule);
  check_enumerators(schedule);
  constexpr int kMaxTile = 1 << 16;
  const TilePlan& plan = schedule.plan;
  demand(plan.outer_tile > 0 && plan.inner_tile > 0 && plan.inner_tile <= kMaxTile &&
             plan.outer_tile <= schedule.tiling.outer_tile &&
             schedule.tiling.outer_tile <= kMaxTile,
         "schedule: tiles of ", plan.outer_tile, " x ", plan.inner_tile);
  schedule.bitmaps = TileBitmaps(plan.outer_tile, plan.inner_tile);
  const std::size_t num_bitmaps = reader.count(0);
  std::vector<std::uint64_t> words(num_bitmaps == 0 ? 0 : schedule.bitmaps.words_per_tile());
  for (std::size_t bitmap = 0; bitmap < num_bitmaps; ++bitmap) {
    for (std::uint64_t& word : words) reader(word);
    const auto index = static_cast<std::size_t>(schedule.bitmaps.add(words));
    demand(index == bitmap, "schedule: bitmap ", bitmap, " stands there twice");
  }
  demand(reader.is_at_end(), "schedule: bytes behind the end");
  const std::string fault = check_form(schedule);
  demand(fault.empty(), "schedule: ", fault);
  return schedule;
}

}  // namespace perpend
