#pragma once

#include <string>
#include <vector>

// What this program keeps in a GGUF file.
struct ModelFile {
  std::string mask;
  std::vector<float> values;
};

void write_model_file(const ModelFile& model, const std::string& path);
ModelFile read_model_file(const std::string& path);

// The text encoded and decoded by the vocabulary {a, b, ab} of the same file.
std::string round_trip(const std::string& path, const std::string& text);
