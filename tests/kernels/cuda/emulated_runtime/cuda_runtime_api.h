#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

// As much of CUDA's runtime as capture.cpp and schedule_memory.cpp of perpend/kernels/cuda/ use,
// with streams and graphs that a test makes and destroys. In place of CUDA's own header, so that
// the test needs no GPU.

#define CUDART_CB

enum cudaError_t {
  cudaSuccess,
  cudaErrorMemoryAllocation,
  cudaErrorInvalidValue,
  cudaErrorNotReady
};
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

// What a stream was given to do, and how much of it is done: both are the test's to say.
struct Work {
  std::atomic<int> given = 0;
  std::atomic<int> done = 0;
};

struct CudaStream {
  cudaGraph_t graph = nullptr;  // that is being captured
  std::shared_ptr<Work> work = std::make_shared<Work>();
  unsigned long long id = next_id()++;

  static std::atomic<unsigned long long>& next_id() {
    static std::atomic<unsigned long long> next = 1;
    return next;
  }
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

// --- streams, events and memory ---

constexpr unsigned cudaStreamNonBlocking = 1;
constexpr unsigned cudaEventDisableTiming = 2;
constexpr unsigned cudaHostAllocDefault = 0;
enum cudaMemcpyKind { cudaMemcpyHostToDevice };

// Blocks of the device that are allocated.
inline std::atomic<int>& num_device_blocks() {
  static std::atomic<int> count = 0;
  return count;
}

inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

inline cudaError_t cudaMalloc(void** memory, std::size_t num_bytes) {
  ++num_device_blocks();
  *memory = std::malloc(num_bytes);
  return cudaSuccess;
}

inline cudaError_t cudaFree(void* memory) {
  --num_device_blocks();
  std::free(memory);
  return cudaSuccess;
}

inline cudaError_t cudaHostAlloc(void** memory, std::size_t num_bytes, unsigned /*flags*/) {
  *memory = std::malloc(num_bytes);
  return cudaSuccess;
}

inline cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return cudaSuccess;
}

inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t num_bytes,
                                   cudaMemcpyKind /*kind*/, cudaStream_t /*stream*/) {
  std::memcpy(to, from, num_bytes);
  return cudaSuccess;
}

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned /*flags*/) {
  *stream = new CudaStream;
  return cudaSuccess;
}

inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}

inline cudaError_t cudaStreamSynchronize(cudaStream_t /*stream*/) { return cudaSuccess; }

inline cudaError_t cudaStreamGetId(cudaStream_t stream, unsigned long long* id) {
  *id = stream->id;
  return cudaSuccess;
}

struct CudaEvent {
  std::shared_ptr<Work> work;  // null: nothing was recorded
  int end = 0;
};
using cudaEvent_t = CudaEvent*;

inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned /*flags*/) {
  *event = new CudaEvent;
  return cudaSuccess;
}

inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->work = stream->work;
  event->end = stream->work->given;
  return cudaSuccess;
}

inline cudaError_t cudaEventQuery(cudaEvent_t event) {
  const bool is_over = event->work == nullptr || event->work->done >= event->end;
  return is_over ? cudaSuccess : cudaErrorNotReady;
}

inline cudaError_t cudaEventSynchronize(cudaEvent_t /*event*/) { return cudaSuccess; }
