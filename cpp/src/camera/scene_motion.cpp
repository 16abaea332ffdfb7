#include "camera/scene_motion.h"

#include <algorithm>
#include <cmath>

namespace legato::camera {

double ratio_of(double kt, double tt) {
  constexpr double kNoRatio = -1.4;  // R = -1/f^2 for a lens of 0.85 frame widths, where the motion tells nothing
  return tt > 0 ? std::clamp(kt / tt, -3.0, -0.3) : kNoRatio;
}

void SceneMotion::lay_out(Arena& arena, Size capacity) {
  motion_ = arena.take<double>(9 * capacity);
  log_ = arena.take<double>(9 * capacity);
  good_ = arena.take<bool>(capacity);
}

void SceneMotion::start() {
  kept_ = before_ = 0;
  kt_ = tt_ = 0;
  fresh_ = true;
}

Status SceneMotion::take(std::span<const double> motion) {
  const bool good = !motion.empty() && !fresh_;
  double* f = log_ + 9 * kept_;
  std::copy_n(good ? motion.data() : kIdentity, 9, motion_ + 9 * kept_);
  if (good) {
    std::size_t bad = 0;
    const Status status = log_homography(motion, {f, 9}, bad);
    if (status != Status::ok) return status;
    kt_ += f[6] * f[2] + f[7] * f[5];
    tt_ += f[2] * f[2] + f[5] * f[5];
  }
  good_[kept_++] = good;
  fresh_ = false;
  return Status::ok;
}

Status SceneMotion::bridge(double* known) const {
  std::copy_n(motion_, 9 * kept_, known);
  double place = -static_cast<double>(before_);  // of the last good motion
  const double* last = before_ > 0 ? before_log_ : nullptr;
  std::size_t next = 0;
  for (std::size_t t = 0; t < kept_; ++t) {
    if (good_[t]) {
      place = static_cast<double>(t);
      last = log_ + 9 * t;
      continue;
    }
    next = std::max(next, t);
    while (next < kept_ && !good_[next]) ++next;
    std::copy_n(kIdentity, 9, known + 9 * t);
    if (last == nullptr || next == kept_) continue;
    double between[9];
    for (std::size_t i = 0; i < 9; ++i) {
      const double slope = (log_[9 * next + i] - last[i]) / (static_cast<double>(next) - place);
      between[i] = slope * (static_cast<double>(t) - place) + last[i];
    }
    std::size_t bad = 0;
    const Status status = exp_homography(between, {known + 9 * t, 9}, bad);
    if (status != Status::ok) return status;
  }
  return Status::ok;
}

void SceneMotion::drop(std::size_t count) {
  std::size_t seen = count;
  while (seen > 0 && !good_[seen - 1]) --seen;
  if (seen > 0) {
    before_ = count - (seen - 1);
    std::copy_n(log_ + 9 * (seen - 1), 9, before_log_);
  } else if (before_ > 0) {
    before_ += count;
  }
  std::copy(motion_ + 9 * count, motion_ + 9 * kept_, motion_);
  std::copy(log_ + 9 * count, log_ + 9 * kept_, log_);
  std::copy(good_ + count, good_ + kept_, good_);
  kept_ -= count;
}

double SceneMotion::keystone_ratio(const PathOptions& options) const {
  return std::isnan(options.keystone_ratio) ? ratio_of(kt_, tt_) : options.keystone_ratio;
}

}  // namespace legato::camera
