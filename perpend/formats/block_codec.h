#pragma once

#include <cstddef>
#include <cstdint>

namespace perpend {

// Decoders and encoders of whole blocks, one family a source file; block_format.cpp checks sizes
// and chooses. `blocks` need no alignment.
using DecodeBlocks = void (*)(const std::byte* blocks, std::int64_t num_blocks, float* values);
using EncodeBlocks = void (*)(const float* values, std::int64_t num_blocks, std::byte* blocks);

void decode_f32(const std::byte* blocks, std::int64_t num_blocks, float* values);
void decode_f16(const std::byte* blocks, std::int64_t num_blocks, float* values);
void decode_bf16(const std::byte* blocks, std::int64_t num_blocks, float* values);
void decode_q4_0(const std::byte* blocks, std::int64_t num_blocks, float* values);
void decode_q4_1(const std::byte* blocks, std::int64_t num_blocks, float* values);
void decode_q5_0(const std::byte* blocks, std::int64_t num_blocks, float* values);
void decode_q5_1(const std::byte* blocks, std::int64_t num_blocks, float* values);
void decode_q8_0(const std::byte* blocks, std::int64_t num_blocks, float* values);
void decode_q4_k(const std::byte* blocks, std::int64_t num_blocks, float* values);
void decode_q5_k(const std::byte* blocks, std::int64_t num_blocks, float* values);
void decode_q6_k(const std::byte* blocks, std::int64_t num_blocks, float* values);

void encode_f32(const float* values, std::int64_t num_blocks, std::byte* blocks);
void encode_f16(const float* values, std::int64_t num_blocks, std::byte* blocks);
void encode_bf16(const float* values, std::int64_t num_blocks, std::byte* blocks);
void encode_q4_0(const float* values, std::int64_t num_blocks, std::byte* blocks);
void encode_q4_1(const float* values, std::int64_t num_blocks, std::byte* blocks);
void encode_q5_0(const float* values, std::int64_t num_blocks, std::byte* blocks);
void encode_q5_1(const float* values, std::int64_t num_blocks, std::byte* blocks);
void encode_q8_0(const float* values, std::int64_t num_blocks, std::byte* blocks);

}  // namespace perpend
