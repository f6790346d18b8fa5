#include "perpend/kernels/cuda/capture.h"

#include <atomic>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "perpend/core/error.h"

namespace perpend {
namespace {

// Counts those that live, and whether one was destroyed while CUDA gave it back.
class Counted {
 public:
  Counted() { ++alive; }
  ~Counted() {
    --alive;
    destroyed_by_cuda = destroyed_by_cuda || inside_cuda;
  }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

  static inline std::atomic<int> alive = 0;
  static inline std::atomic<bool> destroyed_by_cuda = false;
  static inline thread_local bool inside_cuda = false;
};

// Graphs are destroyed by CUDA, which may not be called from there.
void destroy(std::optional<Graph>& graph) {
  Counted::inside_cuda = true;
  graph.reset();
  Counted::inside_cuda = false;
}

class Capture : public testing::Test {
 protected:
  void TearDown() override {
    keep_for_graph(&running_, nullptr);
    EXPECT_EQ(Counted::alive, 0);
    EXPECT_FALSE(Counted::destroyed_by_cuda);
  }

  CudaStream running_;
};

TEST_F(Capture, KeepsNothingForAStreamThatIsRun) {
  EXPECT_FALSE(is_capturing(&running_));
  keep_for_graph(&running_, std::make_shared<Counted>());
  EXPECT_EQ(Counted::alive, 0);
}

TEST_F(Capture, KeepsAnObjectAsLongAsItsGraph) {
  std::optional<Graph> graph(std::in_place);
  CudaStream captured{&*graph};
  EXPECT_TRUE(is_capturing(&captured));
  keep_for_graph(&captured, std::make_shared<Counted>());
  keep_for_graph(&running_, nullptr);
  EXPECT_EQ(Counted::alive, 1);
  destroy(graph);
  EXPECT_EQ(Counted::alive, 1);
  keep_for_graph(&running_, nullptr);
  EXPECT_EQ(Counted::alive, 0);
}

TEST_F(Capture, KeepsAnObjectForTheLastOfItsGraphs) {
  std::optional<Graph> first(std::in_place);
  std::optional<Graph> second(std::in_place);
  CudaStream captured_first{&*first};
  CudaStream captured_second{&*second};
  {
    const auto object = std::make_shared<Counted>();
    keep_for_graph(&captured_first, object);
    keep_for_graph(&captured_first, object);
    keep_for_graph(&captured_second, object);
  }
  destroy(first);
  keep_for_graph(&running_, nullptr);
  EXPECT_EQ(Counted::alive, 1);
  destroy(second);
}

TEST_F(Capture, FreesNothingWhileCapturing) {
  std::optional<Graph> gone(std::in_place);
  CudaStream captured{&*gone};
  keep_for_graph(&captured, std::make_shared<Counted>());
  destroy(gone);
  std::optional<Graph> next(std::in_place);
  captured.graph = &*next;
  keep_for_graph(&captured, std::make_shared<Counted>());
  EXPECT_EQ(Counted::alive, 2);
  keep_for_graph(&running_, nullptr);
  EXPECT_EQ(Counted::alive, 1);
  destroy(next);
}

TEST_F(Capture, LeaksNothingThatAGraphRefuses) {
  Graph graph;
  graph.refuses = true;
  CudaStream captured{&graph};
  EXPECT_THROW(keep_for_graph(&captured, std::make_shared<Counted>()), DeviceError);
}

TEST_F(Capture, ServesSeveralThreads) {
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      CudaStream running;
      for (int i = 0; i < 1000; ++i) {
        std::optional<Graph> graph(std::in_place);
        CudaStream captured{&*graph};
        keep_for_graph(&captured, std::make_shared<Counted>());
        keep_for_graph(&captured, std::make_shared<Counted>());
        destroy(graph);
        keep_for_graph(&running, nullptr);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(Capture, IsRelaxedForAScope) {
  {
    const RelaxedCapture relaxed;
    EXPECT_EQ(capture_mode_of_thread(), cudaStreamCaptureModeRelaxed);
  }
  EXPECT_EQ(capture_mode_of_thread(), cudaStreamCaptureModeGlobal);
}

}  // namespace
}  // namespace perpend
