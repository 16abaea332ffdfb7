// Camera paths: homographies as the group SL(3), and L1-optimal paths of corrections.
//
// Conventions. Homographies and logarithms are row-major 3x3 blocks of nine doubles. F_t maps coordinates of frame t to
// frame t-1; P_t acts on the crop window of frame t (the output pixel x samples the input at P_t x). Lengths are in
// frame widths, the origin is the frame center, y points down. "h x w" beside a span gives its shape.
#pragma once

#include <cstddef>
#include <limits>
#include <span>

#include "legato/core.hpp"

LEGATO_SURFACE_BEGIN

namespace legato::camera {

/// logs[i] = log(H_i / cbrt(det H_i)), trace 0. n x 9 each; may be the same memory.
/// On not_finite, singular or no_principal_log, `first_bad` is the index of the first such matrix and logs[i] is NaN
/// for every such matrix; all others are right.
Status log_homography(std::span<const double> homographies, std::span<double> logs, std::size_t& first_bad,
                      int threads = 1) noexcept;

/// homographies[i] = exp(logs[i]), det 1 for a log of trace 0. n x 9 each; may be the same memory.
/// not_finite with `first_bad` where an entry is NaN, infinite, or above 500 in absolute row sum.
Status exp_homography(std::span<const double> logs, std::span<double> homographies, std::size_t& first_bad,
                      int threads = 1) noexcept;

// --- The banded program ---------------------------------------------------------------------------------------------

/// min over b_t in R^8:  sum_t 1/2 b_t' Q_t b_t + q_t' b_t + 1/2 e_2(t)' A e_2(t) + sum_{k=1..3} sum_i w_ki |e_k(t)_i|
/// with e_1(t) = b_t - b_{t-1} + v_t, e_2(t) = e_1(t) - e_1(t-1), e_3(t) = e_2(t) - e_2(t-1), and a ninth component
/// e_k(t)_8 = e_k(t)_0 + e_k(t)_1 (the entry that trace zero ties to two others),
/// subject to G_t b_t <= h_t and lower <= b_t <= upper. The first `pinned` frames are data: their b_t are given.
struct BandedProblem {
  std::size_t frames = 0;                     ///< n, the pinned ones included
  std::size_t pinned = 0;                     ///< frames 0 .. pinned-1 are held; the last three of them matter
  std::size_t rows = 0;                       ///< m, inequality rows of each frame
  std::span<const double> velocity = {};      ///< n x 8: v_t; v_0 is ignored
  double weights[3][9] = {};                  ///< w_ki >= 0
  std::span<const double> quadratic = {};     ///< 8 x 8 symmetric positive definite, or n of them (quadratic_stride)
  std::size_t quadratic_stride = 0;           ///< 0: one Q for all frames; 64: one a frame
  std::span<const double> acceleration = {};  ///< 8 x 8 symmetric positive semidefinite: A; empty for zero
  std::span<const double> linear = {};        ///< n x 8: q_t; empty for zero
  std::span<const double> row_matrix = {};    ///< m x 8, or n of them (row_matrix_stride)
  std::size_t row_matrix_stride = 0;          ///< 0, or 8 m
  std::span<const double> row_bound = {};     ///< m, or n of them (row_bound_stride); 1e6 and above: no bound
  std::size_t row_bound_stride = 0;           ///< 0, or m
  std::size_t soft_rows = 0;            ///< the last so many of the m rows are soft: they may be violated at a price
  double penalty = 0;                   ///< the price: penalty * max(G b - h, 0) a soft row, > 0 (an exact penalty)
  double constant = 0;                  ///< added to the objective
  double lower[8] = {}, upper[8] = {};  ///< both finite or both infinite for each variable
};

struct SolverOptions {
  double tolerance = 1e-6;   ///< stop at gap <= tolerance * max(objective, 1e-5 * objective of the start)
  int max_iterations = 100;  ///< 0 returns the start
};

struct SolverResult {
  double objective = 0;  ///< of the returned path
  double gap = 0;        ///< rigorous: objective - gap <= optimum <= objective
  int iterations = 0;
  std::size_t bad_frame = 0;  ///< with infeasible: the first frame without a strictly feasible start
};

/// Bytes; of `problem` only the numbers of frames and rows and the strides are read. 0 when they make no sense.
std::size_t banded_workspace_size(const BandedProblem& problem) noexcept;

/// Block-banded primal-dual interior point (spec: Mehrotra's predictor and corrector on the exactly condensed system).
/// `path`, n x 8, holds the start on entry (pinned frames first) and the solution on return. Frames whose start is not
/// strictly inside the constraints start from `fallback` (n x 8; empty: zero). Every iterate is feasible, so
/// iteration_limit too returns a path that violates nothing. Bitwise repeatable, the same on every ISA; no allocation.
Status solve_banded(const BandedProblem& problem, const SolverOptions& options, std::span<std::byte> workspace,
                    std::span<double> path, std::span<const double> fallback, SolverResult& result) noexcept;

// --- The camera path ------------------------------------------------------------------------------------------------

/// "Estimate it", where a number would be used as it is.
constexpr double kEstimate = std::numeric_limits<double>::quiet_NaN();

/// What a correction may be: a subgroup of the homographies. The motion's logarithm is projected on its algebra too, so
/// what a model cannot correct costs nothing. The keystone term exists for homographies alone.
enum class PathModel { homography, affine, similarity, translation };

/// Cinematic-L1 (Bradley et al., WACV 2021), section 3 to 5; defaults are for 30 frames a second.
struct PathOptions {
  double crop = 0.12;         ///< minimum field of view kept is 1 - crop, 0 < crop < 1
  double window_scale = 0.0;  ///< scale of the crop window; 0: 1 - crop / 2
  PathModel model = PathModel::homography;
  double weights[4] = {1, 1, 10, 100};  ///< w0 (L2 fidelity; 0: the linear program), w1, w2, w3 (L1 of the derivatives)
  double anisotropy = 1000.0;           ///< weight of (p11 - p22)^2
  double shear = 1000.0;                ///< weight of (p12 + p21)^2
  double keystone = 100.0;              ///< weight of (p31 - R p13)^2 + (p32 - R p23)^2
  double keystone_ratio = kEstimate;    ///< R; NaN: estimated from the motion, clipped to [-3, -0.3]
  double acceleration = 0.0;            ///< weight of the window corners' mean squared acceleration, frame widths
  double roll_weight = 1.0;             ///< factor of w1, w2, w3 for p12 and p21, which are roll
  double bound = 1.0;                   ///< |entries of log P_t| <= bound
  double inset = 0.0;                   ///< the window stays this far (frame widths) inside the frame
  double pixel = 0.0;                   ///< one pixel in frame widths; the tolerance of the exact check is 0.05 of it
  int relinearize = 2;                  ///< rounds of sequential re-linearization, to 1000; 0: the paper's linear model
  SolverOptions solver;
};

struct PathResult {
  double objective = 0;       ///< of the last linear model
  double gap = 0;             ///< certified, absolute
  double keystone_ratio = 0;  ///< the R used
  int iterations = 0;         ///< of the interior point, all rounds together
  int rounds = 0;             ///< re-linearizations done
  std::size_t bad_frame = 0;  ///< the frame an error speaks of
};

/// Null where the options make sense for frames of this aspect (height / width), else one English sentence that names
/// the field and what was expected of it; static storage.
const char* path_problem(const PathOptions& options, double aspect) noexcept;
/// Whether it has none.
bool sensible(const PathOptions& options, double aspect) noexcept;

/// The effective window scale: options.window_scale, or 1 - crop / 2.
double window_scale(const PathOptions& options) noexcept;

/// The options with weights that keep the same continuous-time objective at another frame rate than 30.
PathOptions at_frame_rate(const PathOptions& options, double fps) noexcept;

/// What is to be kept in view (paper, section 5); NaN coordinates: none. Frame widths, origin at the frame center.
struct Subjects {
  std::span<const double> salient = {};  ///< n x points x 2: stay inside the crop window
  std::size_t points = 0;
  double salient_weight = 0;             ///< 0: hard; else an exact penalty on each of a point's distances outside
  std::span<const double> targets = {};  ///< n x 2: to be centered
  double target_weight = 0;              ///< of |p_t - translation to the target|^2 over the nine entries
};

/// Bytes; 0 when the options make no sense or no memory has so many.
std::size_t path_workspace_size(std::size_t frames, const PathOptions& options, std::size_t points = 0) noexcept;

/// Solves the whole clip at once.
/// motion: n x 9, F_t for t = 0..n-1, F_0 ignored. aspect: frame height / width. fixed: k x 9, corrections of the first
/// k frames, held. frame_weight: n factors on w0, or empty. corrections, logs: n x 9 (P_t and log P_t). violation: n,
/// exact distance of the window from its allowed rectangle, frame widths, 0 where it is inside.
/// infeasible because of hard salient points: violation[t] is then what is missing in each frame that cannot show them.
Status smooth_path(std::span<const double> motion, double aspect, const PathOptions& options,
                   std::span<const double> fixed, std::span<const double> frame_weight, std::span<std::byte> workspace,
                   std::span<double> corrections, std::span<double> logs, std::span<double> violation,
                   PathResult& result, const Subjects& subjects = {}) noexcept;

/// Shrinks corrections until the exact crop window lies inside its allowed rectangle: of a frame whose window does not,
/// the logarithm is multiplied by the largest factor below 1 that brings it inside, to 2^-30; other frames are copied.
/// corrections, contained: n x 9, frame widths; may be the same memory. bad_frame: the first that is no homography.
Status contain(std::span<const double> corrections, double aspect, const PathOptions& options,
               std::span<double> contained, std::size_t& bad_frame) noexcept;

// --- Streams: windows over motions as they come in ------------------------------------------------------------------

struct StreamOptions {
  PathOptions path;
  double aspect = 9.0 / 16;   ///< frame height / width
  std::size_t window = 120;   ///< frames solved at once
  std::size_t stride = 30;    ///< frames kept of them, the three pinned ones included; 4 <= stride < window
  int predicted = -1;         ///< motions appended to each window; -1: 15 where window - stride <= 10, else none
  std::size_t points = 0;     ///< salient points of each frame
  double salient_weight = 0;  ///< as in Subjects
  double target_weight = 0;
};

/// What is known of a frame. Empty: none of that.
struct StreamFrame {
  std::span<const double> motion = {};   ///< 9: this frame to the one before it; empty or NaN: missing, it is bridged
  double weight = 1;                     ///< factor on w0
  std::span<const double> salient = {};  ///< points x 2
  std::span<const double> target = {};   ///< 2
};

/// What a call made final. The spans lie in the stream's memory and last until its next call.
struct StreamResult {
  std::span<const double> corrections = {};  ///< j x 9, j >= 0
  std::span<const double> violation = {};    ///< j; with infeasible, smooth_path's, of the whole window
  std::size_t first_frame = 0;               ///< number in the stream of the first of them
  PathResult solve;                          ///< of the window that was solved, if one was
};

/// A camera path while its motion is still coming in (paper, section 3): each window is solved as a whole with the last
/// three kept frames pinned, and its first `stride` frames become final. Missing motions are interpolated as logarithms
/// between their neighbors as far as the window sees. Lives in the caller's memory, the same for clips of any length;
/// no call allocates. Needs no destruction.
class PathStream;
/// As path_problem: null, or why path_stream_memory_size and create_path_stream refuse the options.
const char* path_stream_problem(const StreamOptions& options) noexcept;
/// Bytes; 0 when the options make no sense or no memory has so many.
std::size_t path_stream_memory_size(const StreamOptions& options) noexcept;
/// Null when the memory is too small or the options make no sense.
PathStream* create_path_stream(const StreamOptions& options, std::span<std::byte> memory) noexcept;
/// Takes one frame. iteration_limit and numerical_trouble come with corrections, as from smooth_path. Another error of
/// the motion or the weight leaves the stream as it was; one of the window comes back until finish().
Status push(PathStream& stream, const StreamFrame& frame, StreamResult& result) noexcept;
/// Ends the scene, at a cut or at the end: what is pending becomes final. The next frame starts a new scene; its motion
/// is not read.
Status finish(PathStream& stream, StreamResult& result) noexcept;
std::size_t pending_frames(const PathStream& stream) noexcept;

// --- Live: one correction a frame, after a fixed delay --------------------------------------------------------------

struct LiveOptions {
  PathOptions path;
  double aspect = 9.0 / 16;  ///< frame height / width
  std::size_t latency = 30;  ///< frames that follow a frame before its correction comes out, from 0 up
  int predicted = 15;        ///< motions appended to the newest; 0 to 1000
};

/// A camera path with a fixed delay, for pictures that are shown while they are filmed. Every push solves one window
/// anew: the last three corrections that were given out, held; the open frames, the newest included; and predicted
/// frames after them, by an autoregressive model of the last sixty motions. The first open correction is then final.
/// Where held corrections and a wild motion leave no path, the window is solved as if the camera stood still; where
/// that has none either, its frames are not corrected. Lives in the caller's memory; no call allocates. Needs no
/// destruction.
class LivePath;
/// Bytes; 0 when the options make no sense or no memory has so many.
std::size_t live_path_memory_size(const LiveOptions& options) noexcept;
/// Null when the memory is too small or the options make no sense.
LivePath* create_live_path(const LiveOptions& options, std::span<std::byte> memory) noexcept;
/// Takes a frame. motion: 9, this frame to the one before it, frame widths; empty: not known, it is bridged. Of a
/// scene's first frame, which `cut` says a frame is, it is not read. corrections: 9 or none, of the frame `latency`
/// before, in the path's memory until its next call. A motion without a logarithm leaves the path as it was; with
/// cancelled the frame was taken, and what should have been solved is not corrected.
Status push(LivePath& path, std::span<const double> motion, bool cut, std::span<const double>& corrections) noexcept;
/// Ends the clip. corrections: j x 9, the remaining ones.
Status finish(LivePath& path, std::span<const double>& corrections) noexcept;
std::size_t pending_frames(const LivePath& path) noexcept;
/// Options of all that is not final yet; the path goes over to them from where it is.
Status set_options(LivePath& path, const PathOptions& options) noexcept;

/// The linear rows of one frame at p (9 entries, trace 0): G (13 x 9, over the nine entries) and h (13) with
/// G p <= h: eight crop rows (x then y of the corners TL TR BR BL), one area row, four side rows (top right bottom
/// left).
constexpr std::size_t kCropRows = 13;
Status crop_rows(std::span<const double> log_correction, double aspect, const PathOptions& options,
                 std::span<double> row_matrix, std::span<double> row_bound) noexcept;

}  // namespace legato::camera

LEGATO_SURFACE_END
