// What a program holds that only loads LibTorch: prints its anonymous resident memory in bytes.
#include <fstream>
#include <iostream>
#include <string>

#include <torch/torch.h>

int main() {
  const torch::Tensor touched = torch::ones({16});
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssAnon:")) {
      std::cout << std::stoll(line.substr(8)) * 1024 << "\n";
      return touched.sum().item<float>() == 16.0F ? 0 : 1;
    }
  }
  std::cerr << "no RssAnon in /proc/self/status\n";
  return 1;
}
