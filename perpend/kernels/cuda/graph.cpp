#include "perpend/kernels/cuda/graph.h"

#include <type_traits>

#include <cuda_runtime_api.h>

#include "perpend/core/demand.h"
#include "perpend/kernels/cuda/cuda_check.h"
#include "perpend/kernels/cuda/launch.h"

namespace perpend {
namespace {

constexpr const char* kWhat = "cuda graph";

struct DestroyGraph {
  void operator()(cudaGraph_t graph) const { (void)cudaGraphDestroy(graph); }
};
struct DestroyExecutable {
  void operator()(cudaGraphExec_t graph) const { (void)cudaGraphExecDestroy(graph); }
};
using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, DestroyGraph>;
using Executable = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, DestroyExecutable>;

class CudaGraph final : public CapturedGraph {
 public:
  CudaGraph(Executable executable, Device device)
      : executable_(std::move(executable)), device_(device) {}

  void run(Stream stream) const override {
    const Launch launch(kWhat, device_, stream);
    cuda_check(cudaGraphLaunch(executable_.get(), launch.stream()), kWhat);
  }

 private:
  Executable executable_;
  Device device_;
};

Graph end_capture(cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  cuda_check(cudaStreamEndCapture(stream, &graph), kWhat);
  return Graph(graph);
}

}  // namespace

std::unique_ptr<CapturedGraph> cuda_capture(Device device, Stream stream,
                                            FunctionRef<void()> launches) {
  demand(stream.cuda_stream != nullptr, "cuda graph: the default stream can not be captured");
  const Launch launch(kWhat, device, stream);
  // Other threads may do as they like meanwhile.
  cuda_check(cudaStreamBeginCapture(launch.stream(), cudaStreamCaptureModeThreadLocal), kWhat);
  try {
    launches();
  } catch (...) {
    cudaGraph_t unfinished = nullptr;
    (void)cudaStreamEndCapture(launch.stream(), &unfinished);
    const Graph discarded(unfinished);
    (void)cudaGetLastError();
    throw;
  }
  const Graph graph = end_capture(launch.stream());
  cudaGraphExec_t executable = nullptr;
  cuda_check(cudaGraphInstantiate(&executable, graph.get(), 0), kWhat);
  return std::make_unique<CudaGraph>(Executable(executable), device);
}

}  // namespace perpend
