#pragma once

// A launch that is made ready while the one before it in its stream still runs
// (cudaLaunchAttributeProgrammaticStreamSerialization), on GPUs that can do that. It ends behind
// that one, and so does whatever is behind both. Until it waits it writes nothing and reads only
// what no kernel writes that lets another start: weights, and lists that copies brought.

namespace perpend::device {

// In the launch before: the next one may be made ready from here on.
__device__ __forceinline__ void let_next_launch_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
// In the next one: behind this, all that the launch before wrote is there.
__device__ __forceinline__ void wait_for_launch_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace perpend::device
