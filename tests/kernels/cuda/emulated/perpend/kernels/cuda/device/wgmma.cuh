#pragma once

#include "perpend/kernels/cuda/device/attention_image.h"
#include "perpend/kernels/cuda/device/element.cuh"
#include "perpend/kernels/cuda/device/ptx.cuh"

// The products by the descriptors of their operands (PTX ISA, "Matrix-Descriptor Format").

namespace perpend::device {

struct EmulatedOperand {
  explicit EmulatedOperand(std::uint64_t descriptor)
      : base(static_cast<std::uint32_t>(descriptor & 0x3fff) << 4),
        leading(static_cast<std::uint32_t>(descriptor >> 16 & 0x3fff) << 4),
        stride(static_cast<std::uint32_t>(descriptor >> 32 & 0x3fff) << 4),
        row_bytes((descriptor >> 32 & (kSwizzle64 | kSwizzle128)) == kSwizzle64 ? 64 : 128) {}

  std::uint32_t base, leading, stride;
  int row_bytes;

  // Columns are summed over.
  std::uint32_t at(int row, int k) const {
    return value(base + static_cast<std::uint32_t>(row / 8) * stride +
                 static_cast<std::uint32_t>(row % 8 * row_bytes + 2 * k));
  }
  // Rows are summed over.
  std::uint32_t transposed_at(int k, int column) const {
    return value(base + static_cast<std::uint32_t>(2 * column / row_bytes) * leading +
                 static_cast<std::uint32_t>(k / 8) * stride +
                 static_cast<std::uint32_t>(k % 8 * row_bytes + 2 * column % row_bytes));
  }
  std::uint32_t value(std::uint32_t address) const {
    std::uint16_t bits;
    std::memcpy(&bits, memory + swizzled(address, row_bytes), sizeof(bits));
    return bits;
  }
};

struct FourWords {
  std::uint32_t words[4];
};

// Rows of a warp's 16 x 16 operand in registers, by the two rows of this thread.
template <class Element>
struct RowsOfA {
  float values[2][16];
};
template <class Element>
RowsOfA<Element> rows_of_a(const std::uint32_t* a) {
  return exchanged(FourWords{{a[0], a[1], a[2], a[3]}}, [](auto of_lane) {
    RowsOfA<Element> rows;
    for (unsigned quad = 0; quad < 4; ++quad) {
      const FourWords other = of_lane(threadIdx.x % 32 / 4 * 4 + quad);
      for (unsigned w = 0; w < 4; ++w) {
        for (unsigned e = 0; e < 2; ++e) {
          rows.values[w % 2][quad * 2 + w / 2 * 8 + e] =
              Element::value(other.words[w] >> (16 * e) & 0xffffU);
        }
      }
    }
    return rows;
  });
}

template <class Element, int kWidth>
struct SharedProduct {
  static void add(float (&d)[kWidth / 2], std::uint64_t a, std::uint64_t b, bool accumulate) {
    const int thread = static_cast<int>(threadIdx.x) % 128;
    emulated_cta->own_queues().products.add([=, &d] {
      const EmulatedOperand left(a);
      const EmulatedOperand right(b);
      for (int j = 0; j < kWidth / 2; ++j) {
        float sum = accumulate ? d[j] : 0.0F;
        for (int k = 0; k < 16; ++k) {
          sum += Element::value(left.at(fragment_row(thread, j), k)) *
                 Element::value(right.at(fragment_column(thread, j), k));
        }
        d[j] = sum;
      }
    });
  }
};

template <class Element, int kWidth>
struct TransposedProduct {
  static void add(float (&d)[kWidth / 2], std::uint64_t a, std::uint64_t b, bool accumulate) {
    const int thread = static_cast<int>(threadIdx.x) % 128;
    emulated_cta->own_queues().products.add([=, &d] {
      const EmulatedOperand left(a);
      const EmulatedOperand right(b);
      for (int j = 0; j < kWidth / 2; ++j) {
        float sum = accumulate ? d[j] : 0.0F;
        for (int k = 0; k < 16; ++k) {
          sum += Element::value(left.transposed_at(k, fragment_row(thread, j))) *
                 Element::value(right.transposed_at(k, fragment_column(thread, j)));
        }
        d[j] = sum;
      }
    });
  }
};

template <class Element, int kWidth>
struct RegisterProduct {
  static void add(float (&d)[kWidth / 2], const std::uint32_t* a, std::uint64_t b) {
    // The compiler keeps the registers of `a` as they are, also where their names are gone.
    const RowsOfA<Element> left = rows_of_a<Element>(a);
    const int thread = static_cast<int>(threadIdx.x) % 128;
    emulated_cta->own_queues().products.add([=, &d] {
      const EmulatedOperand right(b);
      for (int j = 0; j < kWidth / 2; ++j) {
        for (int k = 0; k < 16; ++k) {
          d[j] += left.values[j / 2 % 2][k] *
                  Element::value(right.transposed_at(k, fragment_column(thread, j)));
        }
      }
    });
  }
};

}  // namespace perpend::device
