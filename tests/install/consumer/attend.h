#pragma once

#include <cstdint>
#include <string>
#include <vector>

// Attention of one head over `values` [tokens, head_dim] with queries and keys of zeros, so that
// every token becomes the mean of the values that it sees.
std::vector<float> attend(const std::string& mask_text, const std::vector<float>& values,
                          std::int64_t head_dim);
