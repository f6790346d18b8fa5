#pragma once

#include <memory>
#include <type_traits>

#include <cuda_runtime_api.h>

namespace perpend {

// A point in the work of a stream, of the device that was current when it was made.
class Event {
 public:
  Event();

  // What was put on `stream` so far, in place of what was recorded before.
  void record(cudaStream_t stream) const;
  // Whether that is over; of nothing it is.
  bool is_over() const;
  // Until it is.
  void wait() const;

 private:
  struct Destroy {
    void operator()(cudaEvent_t event) const;
  };
  std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, Destroy> event_;
};

}  // namespace perpend
