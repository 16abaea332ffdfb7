/* Legato's face for embedding: C99, no allocation, no global state the caller can see.
 *
 * Threads: every function may be called from any thread at any time, and keeps nothing; those of an object (a stream, a
 * tracker) are one at a time for each object, on whatever thread. No call starts a thread unless asked (`threads`).
 *
 * Every array is row-major and contiguous; its shape stands beside its pointer as [n][9]. Input arrays are const and
 * stay the caller's. A run call needs a workspace of at least the bytes that its size function returns, of any
 * alignment. A size function returns 0 for what the run or create call refuses, and where no memory has so many bytes;
 * counts whose arrays no memory has are refused too.
 *
 * Options begin with `size`, which says how much of them the caller's header knew: a newer library takes the defaults
 * for the rest, an older one refuses what it does not know. They come from _default(), or, where this header is not
 * compiled (ctypes, Rust), from _init() with the size of the caller's own struct. Structs that a call fills in stay as
 * they are for as long as the SONAME does. */
#ifndef LEGATO_H
#define LEGATO_H

#include <stddef.h>
#include <stdint.h>

#define LEGATO_VERSION_MAJOR 0
#define LEGATO_VERSION_MINOR 1
#define LEGATO_VERSION_PATCH 0
/* One number to compare: 0.1.0 is 100. legato_version() is what runs, these are what was compiled. */
#define LEGATO_VERSION_NUMBER (LEGATO_VERSION_MAJOR * 10000 + LEGATO_VERSION_MINOR * 100 + LEGATO_VERSION_PATCH)

/* What a shared library exports; everything else in it is hidden, and in a static library this is too. */
#if defined(LEGATO_EXPORTS) && defined(_WIN32)
#define LEGATO_API __declspec(dllexport)
#elif defined(LEGATO_EXPORTS)
#define LEGATO_API __attribute__((visibility("default")))
#else
#define LEGATO_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* A C caller may pass any int as an enumeration, and what is none of the names is refused. C++ may read such a number
 * only where the type is fixed, to the one that C compilers take. */
#ifdef __cplusplus
#define LEGATO_ENUM_OF_INT : int
#else
#define LEGATO_ENUM_OF_INT
#endif

typedef enum legato_status LEGATO_ENUM_OF_INT {
  LEGATO_OK = 0,
  LEGATO_INVALID_ARGUMENT = 1,
  LEGATO_NOT_FINITE = 2,
  LEGATO_SINGULAR = 3,
  LEGATO_NO_PRINCIPAL_LOG = 4,
  LEGATO_WORKSPACE_TOO_SMALL = 5,
  LEGATO_INFEASIBLE = 6,
  LEGATO_ITERATION_LIMIT = 7,  /* the path is feasible and its gap certified */
  LEGATO_NUMERICAL_TROUBLE = 8 /* the path is the feasible one of the least gap */
} legato_status;

LEGATO_API const char* legato_version(void);                     /* "0.1.0"; any thread */
LEGATO_API const char* legato_status_text(legato_status status); /* one English sentence; any thread */
LEGATO_API const char* legato_isa(
    void); /* "baseline", "avx2" or "avx512"; any thread. LEGATO_ISA in the environment forces one */

/* logs[i] = log(homographies[i] / cbrt(det)), trace 0; *first_bad is the first matrix an error speaks of (may be null).
 * homographies: [n][9]; logs: [n][9], may be the same memory. Any thread. */
LEGATO_API legato_status legato_camera_log_homography_f64(const double* homographies, size_t n, double* logs,
                                                          size_t* first_bad);
/* homographies[i] = exp(logs[i]). logs: [n][9]; homographies: [n][9], may be the same memory. Any thread. */
LEGATO_API legato_status legato_camera_exp_homography_f64(const double* logs, size_t n, double* homographies,
                                                          size_t* first_bad);

/* Options of a camera path; see legato/camera.hpp, PathOptions, for each field. Lengths are in frame widths;
 * keystone_ratio NaN: estimated from the motion. */
typedef struct legato_camera_path_options {
  size_t size; /* sizeof(legato_camera_path_options), set by _default() */
  double crop, window_scale;
  double weights[4];
  double anisotropy, shear, keystone, keystone_ratio, acceleration;
  double roll_weight; /* factor of the weights of roll */
  double bound, inset, pixel, tolerance;
  int relinearize /* at most 1000 */, max_iterations;
} legato_camera_path_options;

LEGATO_API void legato_camera_path_options_init(legato_camera_path_options* options, size_t size); /* any thread */
static inline legato_camera_path_options legato_camera_path_options_default(void) {
  legato_camera_path_options options;
  legato_camera_path_options_init(&options, sizeof options);
  return options;
}

typedef struct legato_camera_path_result {
  double objective, gap, keystone_ratio;
  int iterations, rounds;
  size_t bad_frame;
} legato_camera_path_result;

/* Why these options, for frames of this aspect, are refused: one English sentence that names the field and what was
 * expected, in static storage; null where they are not. Any thread. */
LEGATO_API const char* legato_camera_path_problem(const legato_camera_path_options* options, double aspect);
/* Bytes of workspace for a clip of `frames`; 0 when the options are of a newer version or make no sense, and when no
 * memory has so many. Any thread. */
LEGATO_API size_t legato_camera_smooth_path_workspace(size_t frames, const legato_camera_path_options* options);

/* The L1-optimal path of a whole clip.
 * motion: [n][9], frame t to frame t-1, origin at the frame center, unit one frame width; motion[0] is not read.
 * aspect: height / width. corrections: [n][9]. violation: [n], or null; frame widths. result may be null. Any
 * thread, each with a workspace of its own. */
LEGATO_API legato_status legato_camera_smooth_path_f64(const double* motion, size_t n, double aspect,
                                                       const legato_camera_path_options* options, void* workspace,
                                                       size_t workspace_size, double* corrections, double* violation,
                                                       legato_camera_path_result* result);

/* Shrinks corrections until the exact crop window lies inside the frame less the inset: a path keeps it there to 0.05
 * of options->pixel, this to the last bit. corrections, contained: [n][9], may be the same memory. *first_bad: the
 * first that is no homography (may be null). Any thread. */
LEGATO_API legato_status legato_camera_contain_f64(const double* corrections, size_t n, double aspect,
                                                   const legato_camera_path_options* options, double* contained,
                                                   size_t* first_bad);

/* A camera path while the motion is still coming in: windows with three pinned frames, as legato.camera.PathStream.
 * A stream lives in the caller's memory, the same for clips of any length, and no call allocates. */
typedef struct legato_camera_stream_options {
  size_t size; /* sizeof(legato_camera_stream_options), set by _default() */
  legato_camera_path_options path;
  double aspect;         /* frame height / width */
  size_t window, stride; /* frames solved at once, and kept of them: 4 <= stride < window */
  int predicted;         /* motions appended to each window; -1: 15 where window - stride is at most 10, else none */
} legato_camera_stream_options;

typedef struct legato_camera_stream legato_camera_stream;

/* Any thread. path_size: sizeof options->path. */
LEGATO_API void legato_camera_stream_options_init(legato_camera_stream_options* options, size_t size, size_t path_size);
static inline legato_camera_stream_options legato_camera_stream_options_default(void) {
  legato_camera_stream_options options;
  legato_camera_stream_options_init(&options, sizeof options, sizeof options.path);
  return options;
}
/* Why memory and create refuse these options, as legato_camera_path_problem. Any thread. */
LEGATO_API const char* legato_camera_stream_problem(const legato_camera_stream_options* options);
/* Bytes; 0 when the options make no sense or no memory has so many. Any thread. */
LEGATO_API size_t legato_camera_stream_memory(const legato_camera_stream_options* options);
/* A stream inside the caller's memory, which must outlive it; null on a wrong argument. Nothing to destroy.
 * Any thread. */
LEGATO_API legato_camera_stream* legato_camera_stream_create(const legato_camera_stream_options* options, void* memory,
                                                             size_t memory_size);
/* Takes one frame. motion: [9], this frame to the one before it, frame widths; null: missing. *corrections:
 * [*count][9], what became final, in the stream's memory until its next call; a frame's comes at most window - 4 frames
 * later. One thread at a time for a stream. */
LEGATO_API legato_status legato_camera_stream_push_f64(legato_camera_stream* stream, const double* motion,
                                                       const double** corrections, size_t* count);
/* Ends the scene, at a cut or at the end: what is pending becomes final. The next frame starts a new scene.
 * One thread at a time for a stream. */
LEGATO_API legato_status legato_camera_stream_finish_f64(legato_camera_stream* stream, const double** corrections,
                                                         size_t* count);

/* Standard normals from counters: number e of sample i is a function of (seed, first_sample + i, step, substep, e)
 * alone (Threefry4x32-13 and Box-Muller; the same bits as legato.diffusion.normal). out: [samples][elements]. Any
 * thread. */
LEGATO_API legato_status legato_diffusion_normal_f32(unsigned long long seed, unsigned long long first_sample,
                                                     unsigned step, unsigned substep, size_t samples, size_t elements,
                                                     float* out);

/* A causal RASP program token by token, from its words (legato.rasp.Program.instructions, which docs/rasp.md explains).
 * A stream lives in the caller's memory, for `capacity` tokens, and no call allocates. Not there where the compiler has
 * no integers of 128 bits. */
typedef struct legato_rasp_stream legato_rasp_stream;

/* Bytes; 0 when the words are no program or no memory has so many. words: [count]. Any thread. */
LEGATO_API size_t legato_rasp_stream_memory(const int64_t* words, size_t count, size_t capacity);
/* A stream inside the caller's memory, which must outlive it; null on a wrong argument. Nothing to destroy.
 * Any thread. */
LEGATO_API legato_rasp_stream* legato_rasp_stream_create(const int64_t* words, size_t count, size_t capacity,
                                                         void* memory, size_t memory_size);
/* Appends tokens; the program's output at each, a double as its bits. tokens, out: [count].
 * LEGATO_WORKSPACE_TOO_SMALL: beyond the capacity, and nothing is done. LEGATO_NUMERICAL_TROUBLE: an integer left 64
 * bits, or a division by zero; the stream must be reset. One thread at a time for a stream. */
LEGATO_API legato_status legato_rasp_stream_push_i64(legato_rasp_stream* stream, const int64_t* tokens, size_t count,
                                                     int64_t* out);
/* Greedy generation: appends `token`, then each output in turn, until [*written] is `most` or ends with *stop (may be
 * null). out: [most]. One thread at a time for a stream. */
LEGATO_API legato_status legato_rasp_stream_generate_i64(legato_rasp_stream* stream, int64_t token, const int64_t* stop,
                                                         size_t most, int64_t* out, size_t* written);
LEGATO_API void legato_rasp_stream_reset(legato_rasp_stream* stream); /* one thread at a time for a stream */

/* One sampler step in one pass: out = a x + b (u + guidance (c - u)) + noise z, z drawn as above where noise is not 0.
 * Coefficients as legato.diffusion.step_coefficients makes them. */
typedef struct legato_diffusion_step {
  size_t size; /* sizeof(legato_diffusion_step), set by _default() */
  double a, b, noise, guidance;
  unsigned long long seed, first_sample;
  unsigned step, substep;
  int threads;
} legato_diffusion_step;

LEGATO_API void legato_diffusion_step_init(legato_diffusion_step* step, size_t size); /* any thread */
static inline legato_diffusion_step legato_diffusion_step_default(void) {
  legato_diffusion_step step;
  legato_diffusion_step_init(&step, sizeof step);
  return step;
}

/* x, cond: [samples][elements]; uncond: the same, or null where guidance is 1; out may be any of them. Any
 * thread; beside it step->threads - 1 more until the call returns. */
LEGATO_API legato_status legato_diffusion_apply_step_f32(const legato_diffusion_step* step, size_t samples,
                                                         size_t elements, const float* x, const float* cond,
                                                         const float* uncond, float* out);
LEGATO_API legato_status legato_diffusion_apply_step_f64(const legato_diffusion_step* step, size_t samples,
                                                         size_t elements, const double* x, const double* cond,
                                                         const double* uncond, double* out);

/* --- video: luma in, steady planes out --- */

typedef enum legato_video_model LEGATO_ENUM_OF_INT {
  LEGATO_VIDEO_HOMOGRAPHY = 0,
  LEGATO_VIDEO_AFFINE = 1,
  LEGATO_VIDEO_SIMILARITY = 2,
  LEGATO_VIDEO_TRANSLATION = 3,
  LEGATO_VIDEO_IDENTITY = 4 /* of a frame without a motion of its own; not to be asked for */
} legato_video_model;

typedef enum legato_video_interpolation LEGATO_ENUM_OF_INT {
  LEGATO_VIDEO_BILINEAR = 0,
  LEGATO_VIDEO_BICUBIC = 1,
  LEGATO_VIDEO_LANCZOS = 2
} legato_video_interpolation;

typedef struct legato_video_tracker_options {
  size_t size; /* sizeof(legato_video_tracker_options), set by _default() */
  legato_video_model model;
  int longest_work_side; /* frames are reduced by a whole factor until their longer side is at most this */
  double round_trip_px;  /* how far from home a point may return, pixels of the reduced frame */
  int region[4];         /* x, y, width, height of where the picture may be used; of width 0: everywhere */
} legato_video_tracker_options;

LEGATO_API void legato_video_tracker_options_init(legato_video_tracker_options* options, size_t size); /* any thread */
static inline legato_video_tracker_options legato_video_tracker_options_default(void) {
  legato_video_tracker_options options;
  legato_video_tracker_options_init(&options, sizeof options);
  return options;
}

typedef struct legato_video_motion {
  double homography[9]; /* this frame to the one before it, pixels, centers at integers; the identity unless ok */
  double confidence, residual_px;
  double corner_covariance[64]; /* [8][8], px^2: x and y of the top left, top right, bottom left, bottom right corner */
  int inliers, matches;
  int model; /* legato_video_model */
  int first, ok, duplicate;
} legato_video_motion;

typedef struct legato_video_tracker legato_video_tracker;

/* Why memory and create refuse this size or these options, as legato_camera_path_problem. Any thread. */
LEGATO_API const char* legato_video_tracker_problem(int width, int height, const legato_video_tracker_options* options);
/* Bytes of memory for a tracker of frames of width x height; 0 for sizes or options that make no sense. Any thread. */
LEGATO_API size_t legato_video_tracker_memory(int width, int height, const legato_video_tracker_options* options);
/* A tracker inside the caller's memory, which must outlive it; null on a wrong argument. mask: [height][width], nonzero
 * where the picture may be used, or null. There is nothing to destroy. Any thread. */
LEGATO_API legato_video_tracker* legato_video_tracker_create(int width, int height,
                                                             const legato_video_tracker_options* options,
                                                             const uint8_t* mask, void* memory, size_t memory_size);
/* luma: [height] rows of width bytes, `stride` bytes apart; not kept. One thread at a time for a tracker. */
LEGATO_API legato_status legato_video_tracker_push_u8(legato_video_tracker* tracker, const uint8_t* luma,
                                                      ptrdiff_t stride, legato_video_motion* motion);
/* The same of 16-bit samples with bit_depth (9 to 16) significant low bits; the stride is in samples. One
 * thread at a time for a tracker. */
LEGATO_API legato_status legato_video_tracker_push_u16(legato_video_tracker* tracker, const uint16_t* luma,
                                                       ptrdiff_t stride, int bit_depth, legato_video_motion* motion);
/* Matches of the last push, the inliers first: [*count][4], x y in that frame, then x y in the one before it; the
 * tracker's own memory, until the next push. One thread at a time for a tracker. */
LEGATO_API const float* legato_video_tracker_matches(const legato_video_tracker* tracker, size_t* count);
LEGATO_API void legato_video_tracker_reset(legato_video_tracker* tracker); /* one thread at a time for a tracker */

/* One plane through a homography: output pixel to source pixel, [3][3]. Strides in samples. bit_depth: 9 to 16. Any
 * thread: several may warp the same source into targets of their own. */
LEGATO_API legato_status legato_video_warp_u8(const double* map, const uint8_t* source, int source_width,
                                              int source_height, ptrdiff_t source_stride, uint8_t* target,
                                              int target_width, int target_height, ptrdiff_t target_stride,
                                              legato_video_interpolation interpolation);
LEGATO_API legato_status legato_video_warp_u16(const double* map, const uint16_t* source, int source_width,
                                               int source_height, ptrdiff_t source_stride, uint16_t* target,
                                               int target_width, int target_height, ptrdiff_t target_stride,
                                               int bit_depth, legato_video_interpolation interpolation);
/* The map of a chroma plane subsampled by sx, sy, whose first sample sits at (ox, oy) luma pixels. Any thread. */
LEGATO_API legato_status legato_video_chroma_map_f64(const double* map, int sx, int sy, double ox, double oy,
                                                     double* chroma);

#ifdef __cplusplus
}
#endif

#endif /* LEGATO_H */
