#pragma once

#include <cstdint>

#include <cuda.h>

#include "perpend/kernels/cuda/device/racecheck.h"

// One function for each instruction that CUDA C++ has no name for (PTX ISA 9.0). Addresses are
// those of the shared window, as shared_address() gives them.

namespace perpend::device {

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// --- mbarriers: a phase ends when all arrivals and all announced bytes are there ---

__device__ __forceinline__ void barrier_init(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}
// Makes initialised barriers known to the copy engine.
__device__ __forceinline__ void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void barrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Arrives and announces `bytes` of copies.
__device__ __forceinline__ void barrier_expect(std::uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
// Waits for the end of the phase of this parity.
__device__ __forceinline__ void barrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again_%=:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra over_%=;\n"
      "bra again_%=;\n"
      "over_%=:\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// --- named barriers of a CTA ---

__device__ __forceinline__ void named_barrier_sync(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_barrier_arrive(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// --- copies by the tensor-memory engine ---

// L2 eviction hints, as createpolicy encodes them.
constexpr std::uint64_t kEvictFirst = 0x12f0000000000000;
constexpr std::uint64_t kEvictLast = 0x14f0000000000000;

// First value of a box: column, head, token, sequence of the batch.
struct BoxOrigin {
  int column;
  int head;
  int token;
  int batch;
};

__device__ __forceinline__ void prefetch_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
// A box from global to shared memory; its bytes count at `barrier`.
__device__ __forceinline__ void copy_box(std::uint32_t to, const CUtensorMap* map, BoxOrigin origin,
                                         std::uint32_t barrier, std::uint64_t hint) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(to),
      "l"(map), "r"(barrier), "r"(origin.column), "r"(origin.head), "r"(origin.token),
      "r"(origin.batch), "l"(hint)
      : "memory");
}
// `bytes`, a multiple of 16, from global to shared memory.
__device__ __forceinline__ void copy_bytes(std::uint32_t to, const void* from, int bytes,
                                           std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
      "[%3];" ::"r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}
// 4 bytes from global to shared memory, by this thread.
__device__ __forceinline__ void copy_word(std::uint32_t to, const void* from) {
  if constexpr (kForRacecheck) {
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(*static_cast<const unsigned*>(from))
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
  }
}
// Arrives when the words that this thread copies are there.
__device__ __forceinline__ void barrier_arrive_behind_words(std::uint32_t barrier) {
  if constexpr (kForRacecheck) {
    barrier_arrive(barrier);
  } else {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
  }
}
// Adds `bytes` of f32, a multiple of 16, in shared memory to those in global memory, one by one and
// in any order, by this thread; its commits make groups of them.
__device__ __forceinline__ void add_bytes(float* to, std::uint32_t from, int bytes,
                                          std::uint64_t hint) {
  asm volatile(
      "cp.reduce.async.bulk.global.shared::cta.bulk_group.L2::cache_hint.add.f32 [%0], [%1], %2, "
      "%3;" ::"l"(to),
      "r"(from), "r"(bytes), "l"(hint)
      : "memory");
}
__device__ __forceinline__ void adds_commit() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// Waits until this thread's adds have read their shared memory, or are done.
__device__ __forceinline__ void adds_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}
__device__ __forceinline__ void adds_wait() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}
// Waits until `count` is `value`, and with what was released with that before what follows, the
// engines' accesses too.
__device__ __forceinline__ void wait_for_count(const std::uint32_t* count, std::uint32_t value) {
  std::uint32_t found;
  do {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(found) : "l"(count) : "memory");
  } while (found != value);
  asm volatile("fence.proxy.async.global;" ::: "memory");
}
// Releases what this thread has seen, and adds 1.
__device__ __forceinline__ void raise_count(std::uint32_t* count) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(count) : "memory");
}
// Orders this thread's stores to shared memory before accesses of the engines.
__device__ __forceinline__ void fence_engines() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ std::uint32_t load_shared_word(std::uint32_t from) {
  std::uint32_t word;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(from) : "memory");
  return word;
}
__device__ __forceinline__ void load_shared_words(std::uint32_t (&words)[2], std::uint32_t from) {
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];"
               : "=r"(words[0]), "=r"(words[1])
               : "r"(from)
               : "memory");
}
__device__ __forceinline__ float2 load_shared_pair(std::uint32_t from) {
  float2 pair;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
               : "=f"(pair.x), "=f"(pair.y)
               : "r"(from)
               : "memory");
  return pair;
}
__device__ __forceinline__ void store_shared_four(std::uint32_t to, float a, float b, float c,
                                                  float d) {
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(a), "f"(b), "f"(c), "f"(d)
               : "memory");
}
// Four 8 x 8 matrices of 16-bit values as products hold them, rows at the addresses of eight lanes
// each.
__device__ __forceinline__ void store_matrices(std::uint32_t to, const std::uint32_t* words) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to),
               "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
               : "memory");
}

// Brings the line with this address into L2.
__device__ __forceinline__ void prefetch_line(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

// --- registers of a warpgroup ---

template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// --- warpgroup products ---

// Before the first product of a batch: registers that it reads or adds to are ready.
__device__ __forceinline__ void product_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void product_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most kPending of the committed batches are not done.
template <int kPending>
__device__ __forceinline__ void product_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// The compiler must take these registers for changed here, since a product in flight writes them.
template <int kCount>
__device__ __forceinline__ void touch(float (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}
__device__ __forceinline__ std::uint64_t descriptor(std::uint32_t low, std::uint32_t high) {
  std::uint64_t both;
  asm("mov.b64 %0, {%1, %2};" : "=l"(both) : "r"(low), "r"(high));
  return both;
}

// --- arithmetic ---

// 2^x; 2 units in the last place, 0 below 2^-126.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace perpend::device
