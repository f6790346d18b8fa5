#include "perpend/kernels/cuda/device_schedule.h"

#include <cstring>

#include "perpend/core/range.h"
#include "perpend/kernels/cuda/cuda_check.h"

namespace perpend {
namespace {

constexpr const char* kWhat = "attention";
constexpr std::size_t kAlignment = 256;

// Calls that a capture of another stream would forbid are allowed in this thread.
class RelaxedCapture {
 public:
  RelaxedCapture() { cuda_check(cudaThreadExchangeStreamCaptureMode(&mode_), kWhat); }
  ~RelaxedCapture() { (void)cudaThreadExchangeStreamCaptureMode(&mode_); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

// A stream that waits for no other.
class OwnStream {
 public:
  OwnStream() { cuda_check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), kWhat); }
  ~OwnStream() { (void)cudaStreamDestroy(stream_); }
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;

  cudaStream_t get() const { return stream_; }
  void wait() const { cuda_check(cudaStreamSynchronize(stream_), kWhat); }

 private:
  cudaStream_t stream_ = nullptr;
};

// Arrays one after another, each aligned.
class Layout {
 public:
  template <class T>
  std::size_t add(const std::vector<T>& values) {
    const std::size_t offset = bytes_.size();
    bytes_.resize(static_cast<std::size_t>(
        round_up(static_cast<std::int64_t>(offset + values.size() * sizeof(T)),
                 static_cast<std::int64_t>(kAlignment))));
    if (!values.empty())
      std::memcpy(bytes_.data() + offset, values.data(), values.size() * sizeof(T));
    return offset;
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace

DeviceMemory::DeviceMemory(std::size_t num_bytes) {
  const RelaxedCapture relaxed;
  void* data = nullptr;
  cuda_check(cudaMalloc(&data, num_bytes), kWhat);
  data_.reset(static_cast<std::byte*>(data));
}

void DeviceMemory::Free::operator()(std::byte* data) const { (void)cudaFree(data); }

DeviceSchedule::DeviceSchedule(const ScheduleImage& image, int group_size)
    : lists_{},
      skips_parts_(image.skips_parts),
      has_packed_(image.has_packed),
      has_separate_(image.has_separate) {
  Layout layout;
  const std::size_t items = layout.add(image.items);
  const std::size_t steps = layout.add(image.steps);
  const std::size_t sub_tiles = layout.add(image.sub_tiles);
  const std::size_t bitmaps = layout.add(image.bitmaps);
  memory_ = DeviceMemory(layout.bytes().size() + kAlignment);
  const RelaxedCapture relaxed;
  const OwnStream stream;
  cuda_check(cudaMemcpyAsync(memory_.data(), layout.bytes().data(), layout.bytes().size(),
                             cudaMemcpyHostToDevice, stream.get()),
             kWhat);
  stream.wait();
  lists_ = {reinterpret_cast<const device::Item*>(memory_.data() + items),
            reinterpret_cast<const device::Step*>(memory_.data() + steps),
            reinterpret_cast<const std::int32_t*>(memory_.data() + sub_tiles),
            reinterpret_cast<const std::uint32_t*>(memory_.data() + bitmaps),
            static_cast<std::int32_t>(image.items.size()),
            group_size,
            image.box_rows};
}

unsigned* DeviceSchedule::new_counter() const {
  if (counters_left_ == 0) {
    constexpr std::size_t kBytes = kCountersPerBlock * sizeof(unsigned);
    DeviceMemory block(kBytes);
    const RelaxedCapture relaxed;
    const OwnStream stream;
    cuda_check(cudaMemsetAsync(block.data(), 0, kBytes, stream.get()), kWhat);
    stream.wait();
    counter_blocks_.push_back(std::move(block));
    counters_left_ = kCountersPerBlock;
  }
  return reinterpret_cast<unsigned*>(counter_blocks_.back().data()) + --counters_left_;
}

unsigned* DeviceSchedule::counter_for(cudaStream_t stream) const {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  cuda_check(cudaStreamIsCapturing(stream, &capture), kWhat);
  const std::scoped_lock lock(mutex_);
  if (capture != cudaStreamCaptureStatusNone) return new_counter();
  unsigned long long id = 0;  // unlike the handle, never given to another stream
  cuda_check(cudaStreamGetId(stream, &id), kWhat);
  for (const StreamCounter& known : stream_counters_) {
    if (known.stream_id == id) return known.counter;
  }
  stream_counters_.push_back({id, new_counter()});
  return stream_counters_.back().counter;
}

std::shared_ptr<const DeviceSchedule> device_schedule(const Schedule& schedule, int head_dim,
                                                      int device_index) {
  return schedule.attachments.get<DeviceSchedule>(device_index, [&] {
    return std::make_shared<const DeviceSchedule>(make_schedule_image(schedule, head_dim),
                                                  schedule.shape.group_size());
  });
}

}  // namespace perpend
