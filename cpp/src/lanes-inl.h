// Packs of eight doubles as compiler vectors: one 64-byte register with AVX-512, two with AVX2, four with SSE2 or NEON,
// and the same arithmetic in each. Included by -inl.h files inside an ISA region, before any math/ header.
#undef LEGATO_MATH_HD_H
#undef LEGATO_MATH_HOMOGRAPHY_H
#include "legato/math/hd.h"

namespace LEGATO_MATH {

typedef double Lanes __attribute__((vector_size(64)));
using LaneMask = decltype(Lanes{} < Lanes{});  // integers of the same width, 0 or -1
constexpr int kLanes = 8;

LEGATO_HD Lanes select(LaneMask mask, Lanes yes, Lanes no) { return mask ? yes : no; }
LEGATO_HD Lanes magnitude(Lanes x) {
  return (Lanes)((LaneMask)x & 0x7fffffffffffffffLL);
}
LEGATO_HD Lanes larger(Lanes a, Lanes b) { return a > b ? a : b; }
LEGATO_HD Lanes smaller(Lanes a, Lanes b) { return a < b ? a : b; }

LEGATO_HD bool any(LaneMask mask) {
  long long all = 0;
  for (int i = 0; i < kLanes; ++i) all |= mask[i];
  return all != 0;
}

LEGATO_HD Lanes square_root(Lanes x) {
  Lanes root;
  for (int i = 0; i < kLanes; ++i) root[i] = __builtin_sqrt(x[i]);
  return root;
}

LEGATO_HD Lanes binade(Lanes x) { return (Lanes)((LaneMask)x & 0x7ff0000000000000LL); }

LEGATO_HD Lanes cube_split(Lanes x, Lanes& root) {
  const LaneMask third = ((((LaneMask)x >> 52) - 1023 + 3072) * 21846) >> 16;
  const LaneMask exponent = third - 1024;
  root = (Lanes)((exponent + 1023) << 52);
  return x * (Lanes)((1023 - 3 * exponent) << 52);
}

/// Sums over the lanes as a fixed tree, so that every instruction set adds in the same order.
LEGATO_HD double sum(Lanes x) { return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7])); }
LEGATO_HD double largest(Lanes x) {
  double most = x[0];
  for (int i = 1; i < kLanes; ++i) most = x[i] > most ? x[i] : most;
  return most;
}

}  // namespace LEGATO_MATH

#include "legato/math/homography.h"
