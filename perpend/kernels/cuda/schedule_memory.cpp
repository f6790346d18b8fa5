#include "perpend/kernels/cuda/schedule_memory.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "perpend/kernels/cuda/cuda_check.h"
#include "perpend/kernels/cuda/device_memory.h"
#include "perpend/kernels/cuda/event.h"
#include "perpend/kernels/cuda/pinned_memory.h"

namespace perpend {
namespace {

constexpr const char* kWhat = "attention";
constexpr std::size_t kLeastBytes = std::size_t{1} << 16;
constexpr std::size_t kMostIdleBytes = std::size_t{1} << 28;
// A block of the store must not be more than so many times as large as what goes into it.
constexpr std::size_t kMostWaste = 8;

}  // namespace

// Memory, and the last launches on each stream that read it.
class ScheduleMemory::Block {
 public:
  explicit Block(std::size_t num_bytes) : memory_(num_bytes), num_bytes_(num_bytes) {}

  std::byte* data() const { return memory_.data(); }
  std::size_t num_bytes() const { return num_bytes_; }

  void read_until_now(cudaStream_t stream) {
    const bool is_captured = is_capturing(stream);
    const std::scoped_lock lock(mutex_);
    if (is_captured) {
      is_recyclable_ = false;
      return;
    }
    unsigned long long id = 0;  // unlike the handle, never given to another stream
    cuda_check(cudaStreamGetId(stream, &id), kWhat);
    event_of(id).record(stream);
  }

  // Not to be written again.
  void spoil() {
    const std::scoped_lock lock(mutex_);
    is_recyclable_ = false;
  }
  bool is_recyclable() const { return is_recyclable_; }
  bool is_read() const {
    return std::ranges::any_of(reads_, [](const Read& read) { return !read.end.is_over(); });
  }

 private:
  struct Read {
    unsigned long long stream_id = 0;
    Event end;
  };

  const Event& event_of(unsigned long long stream_id) {
    const auto known = std::ranges::find(reads_, stream_id, &Read::stream_id);
    if (known != reads_.end()) return known->end;
    return reads_.emplace_back(Read{stream_id, {}}).end;
  }

  std::mutex mutex_;
  DeviceMemory memory_;
  std::size_t num_bytes_;
  std::vector<Read> reads_;
  bool is_recyclable_ = true;
};

// Blocks of one device that nobody has, and what copies need.
class ScheduleMemory::Store {
 public:
  // Lives as long as anything that was taken from it.
  static std::shared_ptr<Store> of_current_device() {
    static std::mutex mutex;
    static std::map<int, std::shared_ptr<Store>> stores;
    int device = 0;
    cuda_check(cudaGetDevice(&device), kWhat);
    const std::scoped_lock lock(mutex);
    std::shared_ptr<Store>& store = stores[device];
    if (store == nullptr) store = std::make_shared<Store>();
    return store;
  }

  std::unique_ptr<Block> take(std::size_t num_bytes) {
    const std::scoped_lock lock(idle_mutex_);
    const auto suits = [&](const std::unique_ptr<Block>& block) {
      return block->num_bytes() >= num_bytes && block->num_bytes() / kMostWaste <= num_bytes &&
             !block->is_read();
    };
    const auto found = std::ranges::find_if(idle_, suits);
    if (found == idle_.end()) return std::make_unique<Block>(std::bit_ceil(num_bytes));
    std::unique_ptr<Block> block = std::move(*found);
    idle_.erase(found);
    idle_bytes_ -= block->num_bytes();
    return block;
  }

  void give_back(std::unique_ptr<Block> block) {
    if (!block->is_recyclable()) return;
    const std::scoped_lock lock(idle_mutex_);
    idle_bytes_ += block->num_bytes();
    idle_.push_back(std::move(block));
    while (idle_bytes_ > kMostIdleBytes) {
      idle_bytes_ -= idle_.front()->num_bytes();
      idle_.erase(idle_.begin());
    }
  }

  void copy(const std::vector<std::byte>& bytes, std::byte* to) {
    if (bytes.empty()) return;
    const std::scoped_lock lock(copy_mutex_);
    if (bytes.size() > staging_bytes_) {
      staging_.emplace(std::bit_ceil(bytes.size()));
      staging_bytes_ = std::bit_ceil(bytes.size());
    }
    std::memcpy(staging_->data(), bytes.data(), bytes.size());
    cuda_check(
        cudaMemcpyAsync(to, staging_->data(), bytes.size(), cudaMemcpyHostToDevice, stream_.get()),
        kWhat);
    stream_.wait();
  }

 private:
  std::mutex idle_mutex_;
  std::vector<std::unique_ptr<Block>> idle_;  // dropped first comes first
  std::size_t idle_bytes_ = 0;
  std::mutex copy_mutex_;
  OwnStream stream_;
  std::optional<PinnedMemory> staging_;
  std::size_t staging_bytes_ = 0;
};

ScheduleMemory::ScheduleMemory() = default;
ScheduleMemory::ScheduleMemory(ScheduleMemory&& other) noexcept = default;

ScheduleMemory& ScheduleMemory::operator=(ScheduleMemory&& other) noexcept {
  store_.swap(other.store_);
  block_.swap(other.block_);
  return *this;
}

ScheduleMemory::ScheduleMemory(const std::vector<std::byte>& bytes) {
  const RelaxedCapture relaxed;
  store_ = Store::of_current_device();
  block_ = store_->take(std::max(bytes.size(), kLeastBytes));
  store_->copy(bytes, block_->data());
}

ScheduleMemory::~ScheduleMemory() {
  if (block_ == nullptr) return;
  const RelaxedCapture relaxed;
  store_->give_back(std::move(block_));
}

std::byte* ScheduleMemory::data() const { return block_->data(); }

void ScheduleMemory::read_until_now(cudaStream_t stream) const {
  try {
    block_->read_until_now(stream);
  } catch (const std::exception&) {
    // Whatever reads it, nobody will know when that is over.
    block_->spoil();
  }
}

}  // namespace perpend
