// The motion of a scene as far as its path is still open: shared by PathStream and LivePath.
#pragma once

#include <cstddef>
#include <span>

#include "core/core.h"
#include "legato/camera.hpp"

namespace legato::camera {

constexpr std::size_t kPinned = 3;  // derivatives reach three frames back: these stand for the whole past

/// R of k = R t by least squares from the sums of k t and t t, clipped.
double ratio_of(double kt, double tt);

class SceneMotion {
 public:
  void lay_out(Arena& arena, Size capacity);
  void start();

  /// Takes the next frame's motion to the one before it, empty where it is missing; a scene's first is not read.
  Status take(std::span<const double> motion);
  /// All kept motions into `known`: the missing ones, as logarithms, between their good neighbors, and the identity
  /// where there is none on one side.
  Status bridge(double* known) const;
  /// Forgets the oldest frames, but for the last good motion of them.
  void drop(std::size_t count);

  std::size_t kept() const { return kept_; }
  bool good(std::size_t t) const { return good_[t]; }
  const double* log(std::size_t t) const { return log_ + 9 * t; }
  /// How far before the kept frames the last good motion was; 0: there is none.
  std::size_t before() const { return before_; }
  /// The ratio of keystone to translation: of the options, or estimated from the scene so far.
  double keystone_ratio(const PathOptions& options) const;

 private:
  double* motion_ = nullptr;  // capacity x 9
  double* log_ = nullptr;     // capacity x 9, of good motions
  bool* good_ = nullptr;      // capacity
  std::size_t kept_ = 0;
  bool fresh_ = true;       // the next frame is the scene's first
  double kt_ = 0, tt_ = 0;  // sums over the scene
  std::size_t before_ = 0;  // see before()
  double before_log_[9] = {};
};

}  // namespace legato::camera
