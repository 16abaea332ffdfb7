// Batches of homography logarithms and exponentials, eight at a time.
// Compiled once per ISA region by camera.cpp.
#include "core/lanes-inl.h"

namespace legato::LEGATO_REGION {

using math::constant;
using math::Lanes;

/// Reads up to eight matrices into lanes; the lanes past `count` repeat the identity.
LEGATO_HD math::Matrix3<Lanes> gather(const double* source, std::size_t count) {
  math::Matrix3<Lanes> m;
  for (int j = 0; j < 9; ++j) {
    for (int i = 0; i < math::kLanes; ++i) {
      m.at[j][i] = static_cast<std::size_t>(i) < count ? source[9 * i + j] : (j % 4 == 0 ? 1.0 : 0.0);
    }
  }
  return m;
}

LEGATO_HD void scatter(const math::Matrix3<Lanes>& m, std::size_t count, double* target) {
  for (int i = 0; i < static_cast<int>(count); ++i) {
    for (int j = 0; j < 9; ++j) target[9 * i + j] = m.at[j][i];
  }
}

/// One matrix alone takes less time than eight: its divisions are no packs.
LEGATO_HD math::Matrix3<double> alone(const double* source) {
  math::Matrix3<double> m;
  for (int j = 0; j < 9; ++j) m.at[j] = source[j];
  return m;
}

inline bool log_alone(const double* source, double* target) {
  const math::LogResult<double> result = math::logarithm(alone(source));
  for (int j = 0; j < 9; ++j) target[j] = result.defect == 0.0 ? result.log.at[j] : __builtin_nan("");
  return result.defect == 0.0;
}

inline bool exp_alone(const double* source, double* target) {
  const math::Matrix3<double> h = alone(source);
  bool sound = math::row_norm(h) <= 500.0;
  for (const double entry : h.at) sound = sound && math::magnitude(entry) <= 500.0;  // false for NaN
  math::Matrix3<double> result{};
  if (sound) result = math::exponential(h);
  for (int j = 0; j < 9; ++j) target[j] = sound ? result.at[j] : __builtin_nan("");
  return sound;
}

/// Logarithms of [begin, end); NaN where there is none. Returns the first bad index, or end.
inline std::size_t log_batch(const double* source, double* target, std::size_t begin, std::size_t end) {
  std::size_t first_bad = end;
  for (std::size_t at = begin; at < end; at += math::kLanes) {
    const std::size_t count = end - at < math::kLanes ? end - at : math::kLanes;
    if (count == 1) {
      if (!log_alone(source + 9 * at, target + 9 * at) && first_bad == end) first_bad = at;
      break;
    }
    math::LogResult<Lanes> result = math::logarithm(gather(source + 9 * at, count));
    const auto bad = result.defect > Lanes{};
    for (auto& entry : result.log.at) entry = math::select(bad, constant<Lanes>(__builtin_nan("")), entry);
    scatter(result.log, count, target + 9 * at);
    for (int i = 0; i < static_cast<int>(count); ++i) {
      if (bad[i] && first_bad == end) first_bad = at + static_cast<std::size_t>(i);
    }
  }
  note_isa(LEGATO_REGION_ISA);
  return first_bad;
}

/// Exponentials of [begin, end); NaN for input that is not finite or too large. Returns the first bad index, or end.
inline std::size_t exp_batch(const double* source, double* target, std::size_t begin, std::size_t end) {
  std::size_t first_bad = end;
  for (std::size_t at = begin; at < end; at += math::kLanes) {
    const std::size_t count = end - at < math::kLanes ? end - at : math::kLanes;
    if (count == 1) {
      if (!exp_alone(source + 9 * at, target + 9 * at) && first_bad == end) first_bad = at;
      break;
    }
    math::Matrix3<Lanes> h = gather(source + 9 * at, count);
    for (int i = static_cast<int>(count); i < math::kLanes; ++i) {
      for (auto& entry : h.at) entry[i] = 0.0;
    }
    Lanes size{};
    for (int r = 0; r < 9; r += 3) {
      size = math::larger(size, math::magnitude(h.at[r]) + math::magnitude(h.at[r + 1]) + math::magnitude(h.at[r + 2]));
    }
    auto sound = size <= constant<Lanes>(500.0);
    for (const auto& entry : h.at) sound = sound & (math::magnitude(entry) <= constant<Lanes>(500.0));  // false for NaN
    for (auto& entry : h.at) entry = math::select(sound, entry, Lanes{});
    math::Matrix3<Lanes> result = math::exponential(h);
    for (auto& entry : result.at) entry = math::select(sound, entry, constant<Lanes>(__builtin_nan("")));
    scatter(result, count, target + 9 * at);
    for (int i = 0; i < static_cast<int>(count); ++i) {
      if (!sound[i] && first_bad == end) first_bad = at + static_cast<std::size_t>(i);
    }
  }
  note_isa(LEGATO_REGION_ISA);
  return first_bad;
}

}  // namespace legato::LEGATO_REGION
