#include "perpend/kernels/cpu/few_rows_loops.h"
#include "perpend/kernels/cpu/float_tiles.h"
#include "perpend/kernels/cpu/simd_scalar.h"

namespace perpend {

const FewRowsMicro& few_rows_micro_scalar() {
  static constexpr FewRowsMicro kMicro = make_few_rows_micro<scalar::Vec>();
  return kMicro;
}

const TileMicro<float>& tile_micro_scalar() {
  static const TileMicro<float> micro = make_float_tile_micro<scalar::Vec>();
  return micro;
}

const TileMicro<double>& tile_micro_f64() {
  static const TileMicro<double> micro = make_float_tile_micro<scalar::DoubleVec>();
  return micro;
}

}  // namespace perpend
