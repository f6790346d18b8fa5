#include "perpend/decode/generate_result.h"

#include "perpend/core/error.h"

namespace perpend {

std::string_view name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  bug("name_of: unknown finish reason");
}

}  // namespace perpend
