/* Sizes of the C face: they do not wrap, and what has none is refused. Its numbers are of any width of size_t. */
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "legato.h"

static int failures = 0;

static void check(int holds, const char* what) {
  if (!holds) {
    printf("failed: %s\n", what);
    ++failures;
  }
}

/* A clip of `frames` has a true size or none, and then is refused whatever is said of the workspace. */
static void check_path(size_t frames) {
  legato_camera_path_options options = legato_camera_path_options_default();
  const size_t size = legato_camera_smooth_path_workspace(frames, &options);
  const size_t of_one = legato_camera_smooth_path_workspace(1, &options);
  double small[9 * 16] = {0};
  legato_status status;
  check(size == 0 || size / frames >= 80 + 9 * sizeof(double), "a size that did not wrap");
  check(size == 0 || size > of_one, "more frames, more bytes");
  if (frames <= 16 || size != 0) return;
  status = legato_camera_smooth_path_f64(small, frames, 0.5625, &options, small, SIZE_MAX / 2, small, NULL, NULL);
  check(status == LEGATO_WORKSPACE_TOO_SMALL || status == LEGATO_INVALID_ARGUMENT, "frames without a size");
}

static void check_paths(void) {
  size_t frames;
  check_path(300);
  check_path(336000); /* wraps 32 bits */
  for (frames = SIZE_MAX; frames > 100000; frames /= 2) {
    check_path(frames);
    check_path(frames / 3);
    check_path(frames / 2 + 1);
  }
}

/* Counts whose arrays no memory has: SIZE_MAX / 9 + 2 matrices are seven numbers where 9 n wraps. */
static void check_counts(void) {
  const size_t half = (size_t)1 << (4 * sizeof(size_t));
  const size_t counts[] = {SIZE_MAX / 9 + 2, SIZE_MAX / 72 + 2, SIZE_MAX};
  legato_camera_path_options options = legato_camera_path_options_default();
  legato_diffusion_step step = legato_diffusion_step_default();
  double matrix[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  float number[1] = {0};
  size_t i, bad;
  for (i = 0; i < sizeof counts / sizeof *counts; ++i) {
    const size_t n = counts[i];
    check(legato_camera_log_homography_f64(matrix, n, matrix, &bad) == LEGATO_INVALID_ARGUMENT, "log");
    check(legato_camera_exp_homography_f64(matrix, n, matrix, &bad) == LEGATO_INVALID_ARGUMENT, "exp");
    check(legato_camera_contain_f64(matrix, n, 0.5625, &options, matrix, &bad) == LEGATO_INVALID_ARGUMENT, "contain");
    check(legato_camera_smooth_path_f64(matrix, n, 0.5625, &options, matrix, sizeof matrix, matrix, NULL, NULL) ==
              LEGATO_INVALID_ARGUMENT,
          "path");
  }
  check(legato_diffusion_normal_f32(1, 0, 0, 0, half, half, number) == LEGATO_INVALID_ARGUMENT, "normal");
  check(legato_diffusion_apply_step_f32(&step, half, half, number, number, NULL, number) == LEGATO_INVALID_ARGUMENT,
        "step");
  check(legato_diffusion_apply_step_f32(&step, 1, 1, number, NULL, NULL, number) == LEGATO_INVALID_ARGUMENT, "null");
  {
    const double identity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    uint8_t from[4] = {0}, to[4];
    check(legato_video_warp_u8(identity, from, 2, 2, 2, to, 2, 2, 2, (legato_video_interpolation)9) ==
              LEGATO_INVALID_ARGUMENT,
          "interpolation");
  }
}

static void check_tracker(legato_video_tracker_options options, int width, int height, const char* what) {
  static char memory[1 << 18];
  const size_t size = legato_video_tracker_memory(width, height, &options);
  legato_video_tracker* tracker = legato_video_tracker_create(width, height, &options, NULL, memory, sizeof memory);
  check((size > 0 && size <= sizeof memory) == (tracker != NULL), what);
  check((size > 0) == (legato_video_tracker_problem(width, height, &options) == NULL), what);
}

static void check_stream(legato_camera_stream_options options, const char* what) {
  const size_t size = legato_camera_stream_memory(&options);
  void* memory = malloc(size == 0 ? 1 << 20 : size);
  check((size > 0) == (legato_camera_stream_create(&options, memory, size == 0 ? 1 << 20 : size) != NULL), what);
  check((size > 0) == (legato_camera_stream_problem(&options) == NULL), what);
  free(memory);
}

/* Whether a reason begins with the field it speaks of. */
static int names(const char* problem, const char* field) {
  return problem != NULL && strncmp(problem, field, strlen(field)) == 0;
}

/* A size function and the create call refuse the same options, and the reason names the field. */
static void check_options(void) {
  legato_video_tracker_options t;
  legato_camera_stream_options s;
#define TRACKER(field, change)                                                       \
  t = legato_video_tracker_options_default();                                        \
  change;                                                                            \
  check(legato_video_tracker_memory(64, 64, &t) == 0, "tracker memory: " #change);   \
  check(names(legato_video_tracker_problem(64, 64, &t), field), "reason: " #change); \
  check_tracker(t, 64, 64, "tracker: " #change)
  check_tracker(legato_video_tracker_options_default(), 64, 64, "tracker");
  check_tracker(legato_video_tracker_options_default(), INT_MAX, INT_MAX, "tracker of no size");
  TRACKER("model:", t.model = (legato_video_model)4);
  TRACKER("model:", t.model = (legato_video_model)9);
  TRACKER("model:", t.model = (legato_video_model)-1);
  TRACKER("round_trip_px:", t.round_trip_px = NAN);
  TRACKER("round_trip_px:", t.round_trip_px = -5);
  TRACKER("region:", t.region[0] = 1000; t.region[2] = t.region[3] = 5);
  TRACKER("longest_work_side:", t.longest_work_side = 0);
  TRACKER("longest_work_side:", t.longest_work_side = -3);
#define STREAM(field, change)                                                \
  s = legato_camera_stream_options_default();                                \
  change;                                                                    \
  check(legato_camera_stream_memory(&s) == 0, "stream memory: " #change);    \
  check(names(legato_camera_stream_problem(&s), field), "reason: " #change); \
  check_stream(s, "stream: " #change)
  check_stream(legato_camera_stream_options_default(), "stream");
  STREAM("crop:", s.path.crop = 2);
  STREAM("crop:", s.path.crop = NAN);
  STREAM("weights:", s.path.weights[0] = -1);
  STREAM("predicted:", s.predicted = -7);
  STREAM("aspect:", s.aspect = NAN);
  STREAM("window:", s.window = SIZE_MAX);
  STREAM("stride:", s.stride = SIZE_MAX);
  s = legato_camera_stream_options_default();
  s.path.max_iterations = 0; /* the start, as it is */
  check_stream(s, "stream without iterations");
  s.path.crop = 2;
  check(names(legato_camera_path_problem(&s.path, 0.5), "crop:"), "reason: crop");
  s.path.crop = 0.1;
  check(names(legato_camera_path_problem(&s.path, -1), "aspect:"), "reason: aspect");
  check(names(legato_camera_path_problem(NULL, 0.5), "size:"), "reason: no options");
  check(legato_camera_path_problem(&s.path, 0.5) == NULL, "no reason");
}

/* What a caller has whose header is older, without the last eight bytes, or newer, with eight more. */
static void check_growth(void) {
  const legato_camera_path_options now = legato_camera_path_options_default();
  const legato_camera_stream_options stream = legato_camera_stream_options_default();
  const size_t head = offsetof(legato_camera_stream_options, path), older = sizeof now - 8;
  const size_t size_now = legato_camera_smooth_path_workspace(30, &now);
  char* bytes = malloc(sizeof stream + 8);
  legato_camera_path_options* path = (legato_camera_path_options*)bytes;
  legato_camera_stream_options* whole = (legato_camera_stream_options*)bytes;
  legato_video_tracker_options tracker = legato_video_tracker_options_default();
  size_t size;

  memset(bytes, 0xff, sizeof stream + 8);
  legato_camera_path_options_init(path, older);
  check(path->size == older && path->crop == now.crop, "an older struct is filled");
  check(memcmp(bytes + older, "\xff\xff\xff\xff\xff\xff\xff\xff", 8) == 0, "and nothing behind it");
  check(legato_camera_smooth_path_workspace(30, path) == size_now, "an older struct is taken");
  memset(bytes, 0xff, sizeof stream + 8);
  legato_camera_path_options_init(path, sizeof now + 8);
  check(legato_camera_smooth_path_workspace(30, path) == 0, "a newer struct is refused");
  check(names(legato_camera_path_problem(path, 0.5), "size:"), "reason: newer");
  for (size = 0; size < 2 * sizeof now; size += size < 16 ? 1 : 8) {
    *path = now;
    path->size = size;
    check((legato_camera_smooth_path_workspace(30, path) > 0) ==
              (size > sizeof size && size <= sizeof now && size % sizeof size == 0),
          "sizes of path options");
  }

  /* The path in the middle of a stream's options has grown since: what follows it lies further on now. */
  memset(bytes, 0xff, sizeof stream + 8);
  legato_camera_stream_options_init(whole, sizeof stream - 8, older);
  check(whole->size == sizeof stream - 8 && whole->path.size == older, "an older stream is filled");
  check(memcmp(bytes + head + older, &stream.aspect, sizeof stream.aspect) == 0, "with its tail behind its path");
  check(bytes[sizeof stream - 8] == (char)0xff, "and nothing behind it");
  check(legato_camera_stream_memory(whole) == legato_camera_stream_memory(&stream), "an older stream is taken");
  whole->size = head + older - 8;
  check(legato_camera_stream_memory(whole) == 0, "a stream smaller than its path");
  legato_camera_stream_options_init(whole, sizeof stream + 8, sizeof now + 8);
  check(legato_camera_stream_memory(whole) == 0, "a newer stream is refused");
  tracker.size = sizeof tracker + 8;
  check(names(legato_video_tracker_problem(64, 64, &tracker), "size:"), "a newer tracker is refused");
  free(bytes);
}

static void check_version(void) {
  char text[32];
  sprintf(text, "%d.%d.%d", LEGATO_VERSION_MAJOR, LEGATO_VERSION_MINOR, LEGATO_VERSION_PATCH);
  check(strcmp(text, legato_version()) == 0, "the header's version is the library's");
}

int main(void) {
  check_paths();
  check_counts();
  check_options();
  check_growth();
  check_version();
  printf("%u bits: %d failures\n", (unsigned)(8 * sizeof(size_t)), failures);
  return failures != 0;
}
