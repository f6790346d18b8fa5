#pragma once

#include <memory>

#include <cuda_runtime_api.h>

// What a call must know of CUDA graphs: a stream may be recorded instead of run.

namespace perpend {

// Whether `stream` is being captured. Throws DeviceError.
bool is_capturing(cudaStream_t stream);

// Keeps `object` for the graph that is being captured on `stream`, until the graph and all that was
// instantiated from it are destroyed; does nothing for a stream that is run. What graphs have given
// back is destroyed by a later call for a stream that is run, since CUDA gives back where nothing
// of it may be called. Throws DeviceError. Safe to use from several threads.
void keep_for_graph(cudaStream_t stream, std::shared_ptr<const void> object);

// Allows this thread, for a scope, calls that are no part of a graph and that a capture would
// refuse, such as allocation; a refused one would spoil the capture.
class RelaxedCapture {
 public:
  // A failure, as after the end of main(), is left to the calls in the scope.
  RelaxedCapture() { (void)cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~RelaxedCapture() { (void)cudaThreadExchangeStreamCaptureMode(&mode_); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace perpend
