#pragma once

#include "perpend/kernels/table.h"

namespace perpend {

MemoryTable cuda_memory();

}  // namespace perpend
