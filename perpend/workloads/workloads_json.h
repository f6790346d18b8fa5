#pragma once

namespace perpend {

// The text of bench/workloads.json.
extern const char* const kWorkloadsJson;

}  // namespace perpend
