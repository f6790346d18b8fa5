#pragma once

#include <utility>
#include <vector>

// As much of CUDA's runtime as perpend/kernels/cuda/capture.cpp uses, with streams and graphs that
// a test makes and destroys. In place of CUDA's own header, so that the test needs no GPU.

#define CUDART_CB

enum cudaError_t { cudaSuccess, cudaErrorMemoryAllocation, cudaErrorInvalidValue };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeRelaxed };
constexpr unsigned cudaUserObjectNoDestructorSync = 1;
constexpr unsigned cudaGraphUserObjectMove = 1;

using cudaHostFn_t = void (*)(void*);

// One reference; given back when it is destroyed.
struct UserObject {
  void* object = nullptr;
  cudaHostFn_t give_back = nullptr;
};
using cudaUserObject_t = UserObject*;

inline cudaError_t cudaUserObjectRelease(cudaUserObject_t user_object, unsigned /*count*/) {
  user_object->give_back(user_object->object);
  delete user_object;
  return cudaSuccess;
}

struct Graph {
  Graph() = default;
  ~Graph() {
    for (UserObject* kept : user_objects) cudaUserObjectRelease(kept, 1);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  std::vector<UserObject*> user_objects;
  bool refuses = false;  // to keep anything
};
using cudaGraph_t = Graph*;

struct CudaStream {
  cudaGraph_t graph = nullptr;  // that is being captured
};
using cudaStream_t = CudaStream*;

inline const char* cudaGetErrorString(cudaError_t /*error*/) { return "emulated error"; }

inline cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status,
                                            unsigned long long* /*id*/, cudaGraph_t* graph) {
  *status = stream->graph == nullptr ? cudaStreamCaptureStatusNone : cudaStreamCaptureStatusActive;
  *graph = stream->graph;
  return cudaSuccess;
}

inline cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  cudaGraph_t graph = nullptr;
  return cudaStreamGetCaptureInfo(stream, status, nullptr, &graph);
}

inline cudaError_t cudaUserObjectCreate(cudaUserObject_t* user_object, void* object,
                                        cudaHostFn_t give_back, unsigned /*count*/,
                                        unsigned /*flags*/) {
  *user_object = new UserObject{object, give_back};
  return cudaSuccess;
}

inline cudaError_t cudaGraphRetainUserObject(cudaGraph_t graph, cudaUserObject_t user_object,
                                             unsigned /*count*/, unsigned /*flags*/) {
  if (graph->refuses) return cudaErrorInvalidValue;
  graph->user_objects.push_back(user_object);
  return cudaSuccess;
}

inline cudaStreamCaptureMode& capture_mode_of_thread() {
  thread_local cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  return mode;
}

inline cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, capture_mode_of_thread());
  return cudaSuccess;
}
