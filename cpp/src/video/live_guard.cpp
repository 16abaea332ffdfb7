#include "video/live_guard.h"

#include <algorithm>
#include <cmath>

#include "legato/math/homography.h"

namespace legato::video {
namespace {

// Lengths are in pixels of a picture so wide.
constexpr double kReferenceWidth = 640;
// How near a match must arrive to a corner that the next pair starts from, to be the same point.
constexpr double kSamePoint = 2.5;
// Of a frame's points, those that bend most are left out; a frame of fewer points is.
constexpr double kKeptPoints = 0.9;
constexpr std::size_t kLeastPoints = 4, kLeastFrames = 10;
// Pictures are left as they are above the first ratio of the last seconds, and steadied again below the second.
constexpr double kWindow = 3.0, kClosedAt = 0.9, kOpenedAt = 0.8, kChange = 1.5;  // seconds, ratios, seconds

/// Mean squared second difference of the traces, the worst tenth left out; negative where they are few.
double mean_bend(const Traces& traces, const math::Matrix3<double>* to_drawn, double width) {
  if (traces.count < kLeastPoints) return -1;
  double squared[kMostMatches];
  for (std::size_t i = 0; i < traces.count; ++i) {
    double at[3][2];
    for (std::size_t t = 0; t < 3; ++t) {
      const double x = traces.at[i][t][0], y = traces.at[i][t][1];
      at[t][0] = x;
      at[t][1] = y;
      if (to_drawn == nullptr) continue;
      const double* m = to_drawn[t].at;
      const double z = m[6] * x + m[7] * y + m[8];
      at[t][0] = (m[0] * x + m[1] * y + m[2]) / z;
      at[t][1] = (m[3] * x + m[4] * y + m[5]) / z;
    }
    squared[i] = 0;
    for (std::size_t axis = 0; axis < 2; ++axis) {
      const double bend = at[0][axis] - 2 * at[1][axis] + at[2][axis];
      squared[i] += bend * bend;
    }
  }
  std::sort(squared, squared + traces.count);
  const auto kept = static_cast<std::size_t>(std::ceil(kKeptPoints * static_cast<double>(traces.count)));
  double sum = 0;
  for (std::size_t i = 0; i < kept; ++i) sum += squared[i];
  const double scale = kReferenceWidth / width;
  return sum / static_cast<double>(kept) * (scale * scale);
}

}  // namespace

void find_traces(std::span<const float> earlier, std::span<const float> later, int width, Traces& traces) {
  traces.count = 0;
  if (earlier.empty()) return;
  const double reach = kSamePoint * std::max(1.0, width / kReferenceWidth);
  for (std::size_t j = 0; j < later.size() && traces.count < kMostMatches; j += 4) {
    const double x = later[j + 2], y = later[j + 3];
    std::size_t nearest = 0;
    double least = 0;
    for (std::size_t i = 0; i < earlier.size(); i += 4) {
      const double dx = x - earlier[i], dy = y - earlier[i + 1], apart = dx * dx + dy * dy;
      if (i == 0 || apart < least) {
        nearest = i;
        least = apart;
      }
    }
    if (!(least < reach * reach)) continue;
    // Where it came from is moved by as much as it missed.
    float (&at)[3][2] = traces.at[traces.count++];
    at[0][0] = static_cast<float>(earlier[nearest + 2] + (x - earlier[nearest]));
    at[0][1] = static_cast<float>(earlier[nearest + 3] + (y - earlier[nearest + 1]));
    std::copy_n(later.data() + j + 2, 2, at[1]);
    std::copy_n(later.data() + j, 2, at[2]);
  }
}

void LiveGuard::lay_out(Arena& arena, double fps) {
  constexpr double kMostFps = 1000;  // damaged timestamps give any rate
  window_ = std::max(2 * kLeastFrames, static_cast<std::size_t>(std::nearbyint(kWindow * std::min(fps, kMostFps))));
  recent_ = arena.take<double[2]>(window_);
  set_rate(fps);
}

void LiveGuard::start(int width) {
  width_ = width;
  first_ = measured_ = drawn_ = 0;
  share_ = 0;
  resting_ = false;
}

void LiveGuard::set_rate(double fps) { step_ = 1 / (kChange * fps); }

double LiveGuard::push(const Traces& traces, const double* correction, bool watching) {
  std::copy(&planned_[1][0], &planned_[1][0] + 18, &planned_[0][0]);
  std::copy_n(correction, 9, planned_[2]);
  drawn_ = std::min<std::size_t>(drawn_ + 1, 3);
  const double before = drawn_ == 3 ? mean_bend(traces, nullptr, width_) : -1;
  if (before >= 0) {
    math::Matrix3<double> to_drawn[3];
    for (std::size_t t = 0; t < 3; ++t) {
      std::copy_n(planned_[t], 9, to_drawn[t].at);
      to_drawn[t] = math::inverse(to_drawn[t]);
    }
    double* at = recent_[(first_ + measured_) % window_];
    at[0] = before;
    at[1] = mean_bend(traces, to_drawn, width_);
    if (measured_ < window_) {
      ++measured_;
    } else {
      first_ = (first_ + 1) % window_;
    }
  }
  if (measured_ >= kLeastFrames) {
    double sums[2] = {};
    for (std::size_t i = 0; i < measured_; ++i) {
      for (std::size_t k = 0; k < 2; ++k) sums[k] += recent_[(first_ + i) % window_][k];
    }
    if (sums[1] > kClosedAt * kClosedAt * sums[0]) {
      resting_ = true;
    } else if (sums[1] <= kOpenedAt * kOpenedAt * sums[0]) {
      resting_ = false;
    }
  }
  share_ = std::clamp(share_ + (resting_ && watching ? step_ : -step_), 0.0, 1.0);
  return share_ * share_ * (3 - 2 * share_);  // without a jerk at either end
}

}  // namespace legato::video
