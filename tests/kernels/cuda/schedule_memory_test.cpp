// Which memory of a GPU is written again, and when, against an emulated runtime.

#include "perpend/kernels/cuda/schedule_memory.h"

#include <algorithm>
#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace perpend {
namespace {

std::vector<std::byte> bytes_of(unsigned char value, std::size_t count = 100) {
  return std::vector<std::byte>(count, std::byte{value});
}

bool holds(const ScheduleMemory& memory, const std::vector<std::byte>& bytes) {
  return std::equal(bytes.begin(), bytes.end(), memory.data());
}

// Whether one of the next copies comes to lie at `place`.
bool is_written_again(const std::byte* place) {
  constexpr int kCopies = 8;
  std::vector<ScheduleMemory> copies;
  copies.reserve(kCopies);
  for (int i = 0; i < kCopies; ++i) {
    if (copies.emplace_back(bytes_of(0)).data() == place) return true;
  }
  return false;
}

TEST(ScheduleMemory, IsACopyOfBytes) {
  const ScheduleMemory small(bytes_of(3));
  const ScheduleMemory large(bytes_of(5, 1000000));
  const ScheduleMemory none(bytes_of(7, 0));
  EXPECT_TRUE(holds(small, bytes_of(3)));
  EXPECT_TRUE(holds(large, bytes_of(5, 1000000)));
}

TEST(ScheduleMemory, IsWrittenAgainWhenNoLaunchReadsIt) {
  CudaStream stream;
  ScheduleMemory memory(bytes_of(1));
  std::byte* const place = memory.data();
  stream.work->given = 1;
  memory.read_until_now(&stream);
  stream.work->given = 2;  // which reads something else
  memory = ScheduleMemory(bytes_of(2));
  EXPECT_FALSE(is_written_again(place));
  stream.work->done = 1;
  EXPECT_TRUE(is_written_again(place));
  EXPECT_TRUE(holds(memory, bytes_of(2)));
}

TEST(ScheduleMemory, WaitsForAllStreamsThatReadIt) {
  CudaStream first;
  CudaStream second;
  std::byte* place = nullptr;
  {
    const ScheduleMemory memory(bytes_of(1));
    place = memory.data();
    for (CudaStream* stream : {&first, &second}) {
      stream->work->given = 1;
      memory.read_until_now(stream);
    }
    second.work->given = 2;
    memory.read_until_now(&second);
  }
  first.work->done = 1;
  second.work->done = 1;
  EXPECT_FALSE(is_written_again(place));
  second.work->done = 2;
  EXPECT_TRUE(is_written_again(place));
}

TEST(ScheduleMemory, IsFreedWhereAGraphReadsIt) {
  Graph graph;
  CudaStream captured{&graph};
  const int before = num_device_blocks();
  auto memory = std::make_unique<ScheduleMemory>(bytes_of(1, 3 << 20));
  EXPECT_EQ(num_device_blocks(), before + 1);
  memory->read_until_now(&captured);
  memory.reset();
  EXPECT_EQ(num_device_blocks(), before);
}

TEST(ScheduleMemory, IsNotWastedOnLittle) {
  std::byte* const large = ScheduleMemory(bytes_of(1, 5 << 20)).data();
  EXPECT_FALSE(is_written_again(large));
  EXPECT_EQ(ScheduleMemory(bytes_of(1, 5 << 20)).data(), large);
}

struct OnDevice {
  explicit OnDevice(unsigned char value) : copy(bytes_of(value)) {}
  const ScheduleMemory& memory() const { return copy; }
  ScheduleMemory copy;
};

TEST(ReadByLaunches, CoversWhatIsLaunchedInItsScope) {
  CudaStream stream;
  std::byte* place = nullptr;
  {
    const ReadByLaunches object(std::make_shared<const OnDevice>(1), &stream);
    place = object->memory().data();
    stream.work->given = 1;
  }
  EXPECT_FALSE(is_written_again(place));
  stream.work->done = 1;
  EXPECT_TRUE(is_written_again(place));
}

TEST(ScheduleMemory, ServesSeveralThreads) {
  const ScheduleMemory shared(bytes_of(9));
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (unsigned char t = 0; t < 4; ++t) {
    threads.emplace_back([&shared, t] {
      CudaStream stream;
      for (int i = 0; i < 300; ++i) {
        const ScheduleMemory memory(bytes_of(t));
        stream.work->given = i;
        memory.read_until_now(&stream);
        shared.read_until_now(&stream);
        ASSERT_TRUE(holds(memory, bytes_of(t)));
        if (i % 3 == 0) stream.work->done = i;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(holds(shared, bytes_of(9)));
}

}  // namespace
}  // namespace perpend
