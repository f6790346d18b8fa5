#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string>

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "tests/campaign.h"

// What a reader of untrusted files must survive, whatever the format. `read(bytes)` parses them and
// reads all it can.
namespace perpend {

inline std::span<const std::byte> bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// Text of the IoError or Unsupported that `read` throws; empty when it throws none.
template <class Read>
std::string error_of(Read read) {
  try {
    read();
  } catch (const IoError& error) {
    return error.what();
  } catch (const Unsupported& error) {
    return error.what();
  }
  return "";
}

// Every proper prefix of `file` is refused by an error "<name>: <field>: ...".
template <class Read>
void expect_truncations_refused(const std::string& file, const std::string& name, Read read) {
  for (std::size_t size = 0; size < file.size(); ++size) {
    // A copy of its own, so that the sanitizer sees a read beyond its end.
    const std::string part = file.substr(0, size);
    const std::string error = error_of([&] { read(bytes_of(part)); });
    ASSERT_EQ(error.rfind(name + ": ", 0), 0U) << "cut after " << size << ": " << error;
    ASSERT_NE(error.find(": ", name.size() + 2), std::string::npos)
        << "cut after " << size << ": no field in: " << error;
  }
}

inline void damage(std::string& file, std::mt19937& random) {
  constexpr std::array<std::uint64_t, 8> kValues = {
      0, 1, 0x7f, 0xff, 0xffff, 0x7fffffff, 0x7fffffffffffffff, 0xffffffffffffffff};
  const std::size_t at = random() % file.size();
  if (random() % 2 == 0) {
    file[at] = static_cast<char>(file[at] ^ (1 << random() % 8));
  } else {
    const std::uint64_t value = kValues[random() % kValues.size()];
    const std::size_t size =
        std::min<std::size_t>(std::size_t{1} << random() % 4, file.size() - at);
    std::memcpy(file.data() + at, &value, size);
  }
}

// Files with one to four random damages are read or refused, nothing else.
template <class Read>
void expect_damages_survived(const std::string& file, Read read) {
  constexpr unsigned kSeed = 20260104;
  std::mt19937 random(kSeed);
  const int count = num_trials(20000);
  for (int i = 0; i < count; ++i) {
    std::string damaged = file;
    for (unsigned n = 1 + random() % 4; n > 0; --n) damage(damaged, random);
    ASSERT_NO_THROW(error_of([&] { read(bytes_of(damaged)); }))
        << "seed " << kSeed << " file " << i;
  }
}

}  // namespace perpend
