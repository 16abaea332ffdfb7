// Robust fit of a motion: scores of hypotheses and the sums of reweighted least squares, eight matches at a time.
// Compiled once per ISA region by fit.cpp.
#include "core/lanes-inl.h"

namespace legato::LEGATO_REGION {

using math::constant;
using math::Lanes;

/// Matches in coordinates of unit frame width about the center, padded to whole packs.
struct MatchLanes {
  const double *x, *y, *u, *v;
  int count;
};

struct Mapped {
  Lanes x, y;
};

LEGATO_HD Mapped mapped(const double* h, const Lanes& x, const Lanes& y) {
  const Lanes scale = 1.0 / (h[6] * x + h[7] * y + h[8]);
  return {(h[0] * x + h[1] * y + h[2]) * scale, (h[3] * x + h[4] * y + h[5]) * scale};
}

LEGATO_HD Lanes first_lanes(int count, const Lanes& value) {
  Lanes lane;
  for (int i = 0; i < math::kLanes; ++i) lane[i] = i;
  return math::select(lane < constant<Lanes>(count), value, Lanes{});
}

/// Sum of squared errors over matches [begin, end), each at most `most`; begin a multiple of 8. NaN counts as `most`.
inline double truncated_score(const double* h, const MatchLanes& m, int begin, int end, double most) {
  Lanes total{};
  const Lanes limit = constant<Lanes>(most);
  for (int i = begin; i < end; i += math::kLanes) {
    const Mapped to = mapped(h, math::load(m.x + i), math::load(m.y + i));
    const Lanes dx = to.x - math::load(m.u + i), dy = to.y - math::load(m.v + i);
    const Lanes squared = dx * dx + dy * dy;
    total += first_lanes(end - i, math::select(squared < limit, squared, limit));
  }
  return math::sum(total);
}

inline void errors(const double* h, const MatchLanes& m, double* squared) {
  for (int i = 0; i < m.count; i += math::kLanes) {
    const Mapped to = mapped(h, math::load(m.x + i), math::load(m.y + i));
    const Lanes dx = to.x - math::load(m.u + i), dy = to.y - math::load(m.v + i);
    const Lanes e = dx * dx + dy * dy;
    __builtin_memcpy(squared + i, &e, sizeof e);
  }
}

/// Weighted sums at the mapped points (x, y) with errors (p, q), weight 1 / (1 + e / scale)^2:
/// x^i y^j for i + j <= 4 (15), p {1, x, y, x^2, xy} (5), q {1, x, y, xy, y^2} (5), w e (1).
inline void moments(const double* h, const MatchLanes& m, double scale, double* out) {
  Lanes s[26] = {};
  for (int i = 0; i < m.count; i += math::kLanes) {
    const Mapped to = mapped(h, math::load(m.x + i), math::load(m.y + i));
    const Lanes &x = to.x, &y = to.y;
    const Lanes p = x - math::load(m.u + i), q = y - math::load(m.v + i), e = p * p + q * q;
    const Lanes root = 1.0 / (1.0 + e * (1.0 / scale));
    const Lanes w = first_lanes(m.count - i, root * root);
    const Lanes wx = w * x, wy = w * y, wxx = wx * x, wxy = wx * y, wyy = wy * y;
    const Lanes wxxx = wxx * x, wxxy = wxx * y, wxyy = wxy * y, wyyy = wyy * y;
    s[0] += w, s[1] += wx, s[2] += wy, s[3] += wxx, s[4] += wxy, s[5] += wyy;
    s[6] += wxxx, s[7] += wxxy, s[8] += wxyy, s[9] += wyyy;
    s[10] += wxxx * x, s[11] += wxxx * y, s[12] += wxxy * y, s[13] += wxyy * y, s[14] += wyyy * y;
    s[15] += w * p, s[16] += wx * p, s[17] += wy * p, s[18] += wxx * p, s[19] += wxy * p;
    s[20] += w * q, s[21] += wx * q, s[22] += wy * q, s[23] += wxy * q, s[24] += wyy * q;
    s[25] += w * e;
  }
  for (int k = 0; k < 26; ++k) out[k] = math::sum(s[k]);
  note_isa(LEGATO_REGION_ISA);
}

}  // namespace legato::LEGATO_REGION
