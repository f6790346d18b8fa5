#pragma once

#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/cli/options.h"
#include "perpend/core/error.h"
#include "perpend/models/model_config.h"

namespace perpend {

// Options that benchmarks of models have alike.
void add_shape_options(CLI::App& app, std::string& shape, std::string& device, int& threads);
void add_mask_options(CLI::App& app, std::string& layers, std::string& preset);

// A named shape with room for `num_tokens` tokens. Throws InvalidArgument "bench <command>: ..."
// that lists the names.
ModelConfig bench_shape(std::string_view command, const std::string& name, std::int64_t num_tokens);
// The same with the layers of a preset, which excludes masks.
ModelConfig bench_shape(std::string_view command, const std::string& name, std::int64_t num_tokens,
                        const std::string& layers, const std::string& preset);

// "10,20,50". Throws InvalidArgument "bench <option>: ..." for anything else and numbers out of
// range.
template <class T>
std::vector<T> number_list(std::string_view option, std::string_view text, T least, T most) {
  std::vector<T> numbers;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view item = text.substr(begin, end - begin);
    T number = 0;
    const auto [stop, error] = std::from_chars(item.data(), item.data() + item.size(), number);
    const bool is_number = error == std::errc() && stop == item.data() + item.size();
    check(is_number && number >= least && number <= most,
          concat("bench ", option, ": expected numbers from ", least, " to ", most, ", found '",
                 item, "'"));
    numbers.push_back(number);
    begin = end + 1;
  }
  return numbers;
}

}  // namespace perpend
