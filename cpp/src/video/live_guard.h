// Whether live pictures become steadier, by points that were followed through three frames. docs/quality.md has the
// evidence, python/legato/video/motion/guard.py the same in NumPy.
#pragma once

#include <cstddef>
#include <span>

#include "core/core.h"
#include "legato/video.hpp"

namespace legato::video {

/// Points that two pairs of frames have in common: where each was in frames t - 2, t - 1 and t.
struct Traces {
  std::size_t count = 0;
  float at[kMostMatches][3][2];
};

/// earlier: matches of frames t - 1 and t - 2, later: of t and t - 1; [n][4] as of matches().
void find_traces(std::span<const float> earlier, std::span<const float> later, int width, Traces& traces);

/// Tells while a live video runs how far its pictures are left as they are: they are steadied until that does harm.
class LiveGuard {
 public:
  void lay_out(Arena& arena, double fps);
  /// Of a clip.
  void start(int width);
  void set_rate(double fps);
  /// Takes the next picture: its traces, and how it would be drawn (output pixel to input pixel). Returns the share of
  /// the picture as it is, from 0, steadied, to 1. `watching` false: on the way to 0.
  double push(const Traces& traces, const double* correction, bool watching);

 private:
  double (*recent_)[2] = nullptr;  // a ring of mean squared bends, before and after
  std::size_t window_ = 0, first_ = 0, measured_ = 0;
  double planned_[3][9] = {};  // oldest first
  std::size_t drawn_ = 0;
  double width_ = 0, step_ = 0, share_ = 0;
  bool resting_ = false;
};

}  // namespace legato::video
