#include "legato.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>

#include "legato/camera.hpp"
#include "legato/core.hpp"
#include "legato/diffusion.hpp"
#include "legato/rasp.hpp"
#include "legato/video.hpp"

namespace {

using legato::Size;
using legato::Status;
namespace camera = legato::camera;
namespace diffusion = legato::diffusion;
namespace rasp = legato::rasp;
namespace video = legato::video;

static_assert(LEGATO_VERSION_NUMBER == LEGATO_BUILT_NUMBER, "legato.h has another version than CMakeLists.txt");

constexpr const char* kForeign =
    "size: expected options from _default() or _init(), of this library's version or older";

legato_status c_status(Status status) { return static_cast<legato_status>(static_cast<int>(status)); }

/// The fields of path options that both faces name alike.
template <class From, class To>
void copy_fields(const From& from, To& to) {
  to.crop = from.crop;
  to.window_scale = from.window_scale;
  for (int i = 0; i < 4; ++i) to.weights[i] = from.weights[i];
  to.anisotropy = from.anisotropy;
  to.shear = from.shear;
  to.keystone = from.keystone;
  to.keystone_ratio = from.keystone_ratio;
  to.acceleration = from.acceleration;
  to.roll_weight = from.roll_weight;
  to.bound = from.bound;
  to.inset = from.inset;
  to.pixel = from.pixel;
  to.relinearize = from.relinearize;
}

void set_defaults(legato_camera_path_options& c) {
  const camera::PathOptions o;
  c = {};
  copy_fields(o, c);
  c.tolerance = o.solver.tolerance;
  c.max_iterations = o.solver.max_iterations;
}

void set_defaults(legato_diffusion_step& step) {
  step = {};
  step.a = 1;
  step.guidance = 1;
  step.threads = 1;
}

void set_defaults(legato_video_tracker_options& c) {
  const video::TrackerOptions o;
  c = {};
  c.model = static_cast<legato_video_model>(static_cast<int>(o.model));
  c.longest_work_side = o.longest_work_side;
  c.round_trip_px = o.round_trip_px;
}

/// Whether a struct of so many bytes may be an Options of this header or of an older one, which had fewer fields.
template <class Options>
bool is_known(std::size_t size) {
  return size > sizeof(std::size_t) && size <= sizeof(Options) && size % alignof(std::size_t) == 0;
}

/// The caller's options as this header has them: what the caller's does not have is at its default. Nothing where they
/// are missing, or of a size that no header had so far.
template <class Options>
std::optional<Options> read(const Options* given) {
  if (given == nullptr || !is_known<Options>(given->size)) return std::nullopt;
  Options options;
  set_defaults(options);
  std::memcpy(&options, given, given->size);
  options.size = sizeof options;
  return options;
}

/// Hands the defaults to a caller whose struct has `size` bytes; one that knows more than this library gets a size that
/// every call refuses.
template <class Options>
void write_defaults(Options* given, std::size_t size) {
  if (given == nullptr || size < sizeof size) return;
  Options options;
  set_defaults(options);
  options.size = is_known<Options>(size) ? size : 0;
  std::memcpy(given, &options, std::min(size, sizeof options));
}

// A stream's options hold those of its path in the middle, which may grow too: what follows begins where the caller's
// path ends.
using StreamTail =
    std::array<std::byte, sizeof(legato_camera_stream_options) - offsetof(legato_camera_stream_options, path) -
                              sizeof(legato_camera_path_options)>;

std::byte* tail_of(legato_camera_stream_options& options, std::size_t path_size) {
  return reinterpret_cast<std::byte*>(&options) + offsetof(legato_camera_stream_options, path) + path_size;
}

void set_defaults(legato_camera_stream_options& c) {
  const camera::StreamOptions o;
  c = {};
  set_defaults(c.path);
  c.aspect = o.aspect;
  c.window = o.window;
  c.stride = o.stride;
  c.predicted = o.predicted;
}

std::optional<legato_camera_stream_options> read(const legato_camera_stream_options* given) {
  if (given == nullptr || !is_known<legato_camera_stream_options>(given->size)) return std::nullopt;
  const std::optional<legato_camera_path_options> path = read(&given->path);
  const std::size_t head = offsetof(legato_camera_stream_options, path);
  if (!path || given->size < head + given->path.size) return std::nullopt;
  const std::size_t tail = given->size - head - given->path.size;
  if (tail > sizeof(StreamTail)) return std::nullopt;
  legato_camera_stream_options options;
  set_defaults(options);
  options.path = *path;
  std::memcpy(tail_of(options, sizeof options.path),
              reinterpret_cast<const std::byte*>(given) + head + given->path.size, tail);
  options.size = sizeof options;
  return options;
}

camera::PathOptions options_of(const legato_camera_path_options& c) {
  camera::PathOptions o;
  copy_fields(c, o);
  o.solver.tolerance = c.tolerance;
  o.solver.max_iterations = c.max_iterations;
  return o;
}

camera::StreamOptions stream_options_of(const legato_camera_stream_options& c) {
  camera::StreamOptions o;
  o.path = options_of(c.path);
  o.aspect = c.aspect;
  o.window = c.window;
  o.stride = c.stride;
  o.predicted = c.predicted;
  return o;
}

camera::PathStream* stream_of(legato_camera_stream* stream) { return reinterpret_cast<camera::PathStream*>(stream); }

#if defined(__SIZEOF_INT128__)
rasp::Stream* rasp_stream_of(legato_rasp_stream* stream) { return reinterpret_cast<rasp::Stream*>(stream); }
#endif

legato_status hand_out(Status status, const camera::StreamResult& found, const double** corrections, size_t* count) {
  *corrections = found.corrections.data();
  *count = found.corrections.size() / 9;
  return c_status(status);
}

/// The logs and, where the caller does not want it, the violation live at the head of the workspace.
Size head_size(Size n) { return 10 * n * sizeof(double) + alignof(double); }

/// `n` matrices; too many for any memory, and only then, have no span.
bool are_matrices(const double* matrices, std::size_t n) {
  return legato::fits_memory<double>(n, 9) && (n == 0 || matrices != nullptr);
}

/// What `map` makes of each of n matrices.
template <class Map>
legato_status map_matrices(const double* from, std::size_t n, double* to, std::size_t* first_bad, const Map& map) {
  if (!are_matrices(from, n) || !are_matrices(to, n)) return LEGATO_INVALID_ARGUMENT;
  std::size_t bad = 0;
  const Status status = map(std::span(from, 9 * n), std::span(to, 9 * n), bad);
  if (first_bad != nullptr) *first_bad = bad;
  return c_status(status);
}

/// `samples` x `elements` numbers, where an array may be missing or else as many.
template <class Real>
std::span<Real> numbers(Real* at, std::size_t samples, std::size_t elements) {
  return {at, at != nullptr ? samples * elements : 0};
}

template <class Real>
legato_status apply_step(const legato_diffusion_step* given, std::size_t samples, std::size_t elements, const Real* x,
                         const Real* cond, const Real* uncond, Real* out) {
  const std::optional<legato_diffusion_step> options = read(given);
  if (!options) return LEGATO_INVALID_ARGUMENT;
  if (uncond == nullptr && options->guidance != 1) return LEGATO_INVALID_ARGUMENT;
  if (!(Size{samples} * elements * sizeof(Real)).fits()) return LEGATO_INVALID_ARGUMENT;
  const double g = options->guidance;
  const diffusion::Coefficients by{options->a, options->b * g, options->b * (1 - g), options->noise};
  const std::uint64_t seed = options->seed;
  diffusion::Step<Real> step;
  step.samples = samples;
  step.elements = elements;
  step.coefficients = {&by, 1};
  step.x = numbers(x, samples, elements);
  step.cond = numbers(cond, samples, elements);
  step.uncond = numbers(uncond, samples, elements);
  step.noise = {
      .seeds = {&seed, 1}, .first_stream = options->first_sample, .step = options->step, .substep = options->substep};
  step.out = numbers(out, samples, elements);
  return c_status(diffusion::apply_step(step, options->threads));
}

video::Tracker* tracker_of(legato_video_tracker* tracker) { return reinterpret_cast<video::Tracker*>(tracker); }

video::TrackerOptions options_of(const legato_video_tracker_options& c) {
  video::TrackerOptions o;
  o.model = static_cast<video::Model>(static_cast<int>(c.model));
  o.longest_work_side = c.longest_work_side;
  o.round_trip_px = c.round_trip_px;
  o.region = {c.region[0], c.region[1], c.region[2], c.region[3]};
  return o;
}

legato_video_motion c_motion(const video::Motion& found) {
  legato_video_motion motion = {};
  for (int i = 0; i < 9; ++i) motion.homography[i] = found.homography[i];
  for (int i = 0; i < 64; ++i) motion.corner_covariance[i] = found.corner_covariance[i];
  motion.confidence = found.confidence;
  motion.residual_px = found.residual_px;
  motion.inliers = found.inliers;
  motion.matches = found.matches;
  motion.model = static_cast<int>(found.model);
  motion.first = found.first;
  motion.ok = found.ok;
  motion.duplicate = found.duplicate;
  return motion;
}

template <class Sample, class... BitDepth>
legato_status push_frame(legato_video_tracker* tracker, const Sample* luma, std::ptrdiff_t stride,
                         legato_video_motion* motion, BitDepth... bit_depth) {
  if (tracker == nullptr || luma == nullptr || motion == nullptr) return LEGATO_INVALID_ARGUMENT;
  const auto [width, height] = video::frame_size(*tracker_of(tracker));
  video::Motion found;
  const Status status = video::push(*tracker_of(tracker), {luma, width, height, stride}, bit_depth..., found);
  *motion = c_motion(found);
  return c_status(status);
}

/// One plane; a source or a target without samples is refused by the kernel.
template <class Sample, class... BitDepth>
legato_status warp_plane(const double* map, const video::Image<const Sample>& source,
                         const video::Image<Sample>& target, legato_video_interpolation interpolation,
                         BitDepth... bit_depth) {
  if (map == nullptr) return LEGATO_INVALID_ARGUMENT;
  return c_status(video::warp({map, 9}, {&source, 1}, {&target, 1}, bit_depth...,
                              static_cast<video::Interpolation>(static_cast<int>(interpolation))));
}

}  // namespace

extern "C" {

const char* legato_version(void) { return legato::version(); }
const char* legato_status_text(legato_status status) { return legato::status_text(static_cast<Status>(status)); }
const char* legato_isa(void) { return legato::isa_name(legato::active_isa()); }

void legato_camera_path_options_init(legato_camera_path_options* options, size_t size) {
  write_defaults(options, size);
}

void legato_camera_stream_options_init(legato_camera_stream_options* options, size_t size, size_t path_size) {
  const std::size_t head = offsetof(legato_camera_stream_options, path);
  if (options == nullptr || size < head) return;
  options->size = 0;
  if (!is_known<legato_camera_stream_options>(size) || !is_known<legato_camera_path_options>(path_size)) return;
  if (size < head + path_size || size - head - path_size > sizeof(StreamTail)) return;
  legato_camera_stream_options defaults;
  set_defaults(defaults);
  write_defaults(&options->path, path_size);
  std::memcpy(tail_of(*options, path_size), tail_of(defaults, sizeof defaults.path), size - head - path_size);
  options->size = size;
}

void legato_diffusion_step_init(legato_diffusion_step* step, size_t size) { write_defaults(step, size); }

void legato_video_tracker_options_init(legato_video_tracker_options* options, size_t size) {
  write_defaults(options, size);
}

legato_status legato_camera_log_homography_f64(const double* homographies, size_t n, double* logs, size_t* first_bad) {
  return map_matrices(homographies, n, logs, first_bad,
                      [](auto from, auto to, auto& bad) { return camera::log_homography(from, to, bad); });
}

legato_status legato_camera_exp_homography_f64(const double* logs, size_t n, double* homographies, size_t* first_bad) {
  return map_matrices(logs, n, homographies, first_bad,
                      [](auto from, auto to, auto& bad) { return camera::exp_homography(from, to, bad); });
}

const char* legato_camera_path_problem(const legato_camera_path_options* given, double aspect) {
  const auto options = read(given);
  return options ? camera::path_problem(options_of(*options), aspect) : kForeign;
}

size_t legato_camera_smooth_path_workspace(size_t frames, const legato_camera_path_options* given) {
  const auto options = read(given);
  if (!options) return 0;
  const std::size_t path = camera::path_workspace_size(frames, options_of(*options));
  return path == 0 ? 0 : (head_size(frames) + path).or_zero();
}

legato_status legato_camera_smooth_path_f64(const double* motion, size_t n, double aspect,
                                            const legato_camera_path_options* given, void* workspace,
                                            size_t workspace_size, double* corrections, double* violation,
                                            legato_camera_path_result* result) {
  const auto options = read(given);
  if (!options) return LEGATO_INVALID_ARGUMENT;
  if (!are_matrices(motion, n) || !are_matrices(corrections, n)) return LEGATO_INVALID_ARGUMENT;
  if (n > 0 && workspace == nullptr) return LEGATO_INVALID_ARGUMENT;
  if (!head_size(n).fits() || workspace_size < head_size(n).value()) return LEGATO_WORKSPACE_TOO_SMALL;
  void* aligned = workspace;
  std::size_t left = workspace_size;
  const std::size_t doubles = 10 * n;
  auto* head = static_cast<double*>(std::align(alignof(double), doubles * sizeof(double), aligned, left));
  left -= doubles * sizeof(double);
  camera::PathResult found;
  const Status status = camera::smooth_path({motion, 9 * n}, aspect, options_of(*options), {}, {},
                                            {reinterpret_cast<std::byte*>(head + doubles), left}, {corrections, 9 * n},
                                            {head, 9 * n}, {violation != nullptr ? violation : head + 9 * n, n}, found);
  if (result != nullptr) {
    *result = {found.objective, found.gap, found.keystone_ratio, found.iterations, found.rounds, found.bad_frame};
  }
  return c_status(status);
}

legato_status legato_camera_contain_f64(const double* corrections, size_t n, double aspect,
                                        const legato_camera_path_options* given, double* contained, size_t* first_bad) {
  const auto options = read(given);
  if (!options) return LEGATO_INVALID_ARGUMENT;
  return map_matrices(corrections, n, contained, first_bad, [&](auto from, auto to, auto& bad) {
    return camera::contain(from, aspect, options_of(*options), to, bad);
  });
}

const char* legato_camera_stream_problem(const legato_camera_stream_options* given) {
  const auto options = read(given);
  return options ? camera::path_stream_problem(stream_options_of(*options)) : kForeign;
}

size_t legato_camera_stream_memory(const legato_camera_stream_options* given) {
  const auto options = read(given);
  return options ? camera::path_stream_memory_size(stream_options_of(*options)) : 0;
}

legato_camera_stream* legato_camera_stream_create(const legato_camera_stream_options* given, void* memory,
                                                  size_t memory_size) {
  const auto options = read(given);
  if (!options || memory == nullptr) return nullptr;
  return reinterpret_cast<legato_camera_stream*>(
      camera::create_path_stream(stream_options_of(*options), {static_cast<std::byte*>(memory), memory_size}));
}

legato_status legato_camera_stream_push_f64(legato_camera_stream* stream, const double* motion,
                                            const double** corrections, size_t* count) {
  if (stream == nullptr || corrections == nullptr || count == nullptr) return LEGATO_INVALID_ARGUMENT;
  camera::StreamFrame frame;
  if (motion != nullptr) frame.motion = {motion, 9};
  camera::StreamResult found;
  const Status status = camera::push(*stream_of(stream), frame, found);
  return hand_out(status, found, corrections, count);
}

legato_status legato_camera_stream_finish_f64(legato_camera_stream* stream, const double** corrections, size_t* count) {
  if (stream == nullptr || corrections == nullptr || count == nullptr) return LEGATO_INVALID_ARGUMENT;
  camera::StreamResult found;
  const Status status = camera::finish(*stream_of(stream), found);
  return hand_out(status, found, corrections, count);
}

#if defined(__SIZEOF_INT128__)

size_t legato_rasp_stream_memory(const int64_t* words, size_t count, size_t capacity) {
  return words == nullptr ? 0 : rasp::stream_memory_size({words, count}, capacity);
}

legato_rasp_stream* legato_rasp_stream_create(const int64_t* words, size_t count, size_t capacity, void* memory,
                                              size_t memory_size) {
  if (words == nullptr || memory == nullptr) return nullptr;
  return reinterpret_cast<legato_rasp_stream*>(
      rasp::create_stream({words, count}, capacity, {static_cast<std::byte*>(memory), memory_size}));
}

legato_status legato_rasp_stream_push_i64(legato_rasp_stream* stream, const int64_t* tokens, size_t count,
                                          int64_t* out) {
  if (stream == nullptr || (count > 0 && (tokens == nullptr || out == nullptr))) return LEGATO_INVALID_ARGUMENT;
  if (!legato::fits_memory<int64_t>(count)) return LEGATO_WORKSPACE_TOO_SMALL;
  return c_status(rasp::push(*rasp_stream_of(stream), {tokens, count}, {out, count}));
}

legato_status legato_rasp_stream_generate_i64(legato_rasp_stream* stream, int64_t token, const int64_t* stop,
                                              size_t most, int64_t* out, size_t* written) {
  if (stream == nullptr || written == nullptr || (most > 0 && out == nullptr)) return LEGATO_INVALID_ARGUMENT;
  if (!legato::fits_memory<int64_t>(most)) return LEGATO_WORKSPACE_TOO_SMALL;
  return c_status(rasp::generate(*rasp_stream_of(stream), token, stop, {out, most}, *written));
}

void legato_rasp_stream_reset(legato_rasp_stream* stream) {
  if (stream != nullptr) rasp::reset(*rasp_stream_of(stream));
}

#endif

legato_status legato_diffusion_normal_f32(unsigned long long seed, unsigned long long first_sample, unsigned step,
                                          unsigned substep, size_t samples, size_t elements, float* out) {
  if (!(Size{samples} * elements * sizeof(float)).fits()) return LEGATO_INVALID_ARGUMENT;
  const std::uint64_t seeds = seed;
  const diffusion::Noise noise{.seeds = {&seeds, 1}, .first_stream = first_sample, .step = step, .substep = substep};
  return c_status(diffusion::normal<float>(noise, samples, elements, numbers(out, samples, elements)));
}

legato_status legato_diffusion_apply_step_f32(const legato_diffusion_step* step, size_t samples, size_t elements,
                                              const float* x, const float* cond, const float* uncond, float* out) {
  return apply_step(step, samples, elements, x, cond, uncond, out);
}

legato_status legato_diffusion_apply_step_f64(const legato_diffusion_step* step, size_t samples, size_t elements,
                                              const double* x, const double* cond, const double* uncond, double* out) {
  return apply_step(step, samples, elements, x, cond, uncond, out);
}

const char* legato_video_tracker_problem(int width, int height, const legato_video_tracker_options* given) {
  const auto options = read(given);
  return options ? video::tracker_problem(width, height, options_of(*options)) : kForeign;
}

size_t legato_video_tracker_memory(int width, int height, const legato_video_tracker_options* given) {
  const auto options = read(given);
  return options ? video::tracker_memory_size(width, height, options_of(*options)) : 0;
}

legato_video_tracker* legato_video_tracker_create(int width, int height, const legato_video_tracker_options* given,
                                                  const uint8_t* mask, void* memory, size_t memory_size) {
  if (memory == nullptr || legato_video_tracker_memory(width, height, given) == 0) return nullptr;
  const auto options = read(given);
  const auto area = mask == nullptr ? 0 : static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  return reinterpret_cast<legato_video_tracker*>(video::create_tracker(
      width, height, options_of(*options), {mask, area}, {static_cast<std::byte*>(memory), memory_size}));
}

legato_status legato_video_tracker_push_u8(legato_video_tracker* tracker, const uint8_t* luma, ptrdiff_t stride,
                                           legato_video_motion* motion) {
  return push_frame(tracker, luma, stride, motion);
}

legato_status legato_video_tracker_push_u16(legato_video_tracker* tracker, const uint16_t* luma, ptrdiff_t stride,
                                            int bit_depth, legato_video_motion* motion) {
  return push_frame(tracker, luma, stride, motion, bit_depth);
}

const float* legato_video_tracker_matches(const legato_video_tracker* tracker, size_t* count) {
  if (tracker == nullptr || count == nullptr) return nullptr;
  const auto found = video::matches(*reinterpret_cast<const video::Tracker*>(tracker));
  *count = found.size() / 4;
  return found.data();
}

void legato_video_tracker_reset(legato_video_tracker* tracker) {
  if (tracker != nullptr) video::reset(*tracker_of(tracker));
}

legato_status legato_video_warp_u8(const double* map, const uint8_t* source, int source_width, int source_height,
                                   ptrdiff_t source_stride, uint8_t* target, int target_width, int target_height,
                                   ptrdiff_t target_stride, legato_video_interpolation interpolation) {
  return warp_plane<std::uint8_t>(map, {source, source_width, source_height, source_stride},
                                  {target, target_width, target_height, target_stride}, interpolation);
}

legato_status legato_video_warp_u16(const double* map, const uint16_t* source, int source_width, int source_height,
                                    ptrdiff_t source_stride, uint16_t* target, int target_width, int target_height,
                                    ptrdiff_t target_stride, int bit_depth, legato_video_interpolation interpolation) {
  return warp_plane<std::uint16_t>(map, {source, source_width, source_height, source_stride},
                                   {target, target_width, target_height, target_stride}, interpolation, bit_depth);
}

legato_status legato_video_chroma_map_f64(const double* map, int sx, int sy, double ox, double oy, double* chroma) {
  if (map == nullptr || chroma == nullptr || sx < 1 || sy < 1) return LEGATO_INVALID_ARGUMENT;
  video::chroma_map(std::span<const double, 9>(map, 9), sx, sy, ox, oy, std::span<double, 9>(chroma, 9));
  return LEGATO_OK;
}

}  // extern "C"
