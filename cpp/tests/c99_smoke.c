/* The C face from C99: a shaky clip of a few frames becomes a path. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "legato.h"

#define FRAMES 30

static int failures = 0;

static void check(int holds, const char* what) {
  if (!holds) {
    printf("failed: %s\n", what);
    ++failures;
  }
}

static void check_diffusion(void) {
  float z[2 * 100], one[100], x[2 * 100], e[2 * 100];
  size_t i;
  legato_diffusion_step step = legato_diffusion_step_default();
  check(legato_diffusion_normal_f32(7, 0, 3, 0, 2, 100, z) == LEGATO_OK, "normal");
  check(legato_diffusion_normal_f32(7, 1, 3, 0, 1, 100, one) == LEGATO_OK, "normal of the second sample");
  check(memcmp(one, z + 100, sizeof one) == 0, "a sample does not know its batch");
  for (i = 0; i < 200; ++i) {
    x[i] = 1.0f;
    e[i] = 2.0f;
  }
  step.a = 0.5;
  step.b = 0.25;
  step.noise = 1.0;
  step.seed = 7;
  step.step = 3;
  check(legato_diffusion_apply_step_f32(&step, 2, 100, x, e, NULL, x) == LEGATO_OK, "step in place");
  check(x[150] == 1.0f + z[150], "the step draws the same noise");
  step.guidance = 2;
  check(legato_diffusion_apply_step_f32(&step, 2, 100, x, e, NULL, x) == LEGATO_INVALID_ARGUMENT, "no uncond");
  step.size = 0;
  check(legato_diffusion_apply_step_f32(&step, 2, 100, x, e, e, x) == LEGATO_INVALID_ARGUMENT, "another version");
}

enum { WIDTH = 160, HEIGHT = 120 };

/* Blocks of random gray, seen from (x, y). */
static void draw(uint8_t* luma, int x, int y) {
  int row, column;
  for (row = 0; row < HEIGHT; ++row) {
    for (column = 0; column < WIDTH; ++column) {
      const unsigned cell = (unsigned)((row + y) / 6) * 7919u + (unsigned)((column + x) / 6) * 104729u;
      luma[row * WIDTH + column] = (uint8_t)((cell * 2654435761u) >> 24);
    }
  }
}

static void check_video(void) {
  static uint16_t deep[WIDTH * HEIGHT], deep_after[WIDTH * HEIGHT], deep_steady[WIDTH * HEIGHT];
  static uint8_t before[WIDTH * HEIGHT], after[WIDTH * HEIGHT], steady[WIDTH * HEIGHT];
  legato_video_tracker_options options = legato_video_tracker_options_default();
  const size_t size = legato_video_tracker_memory(WIDTH, HEIGHT, &options);
  void* memory = malloc(size);
  legato_video_tracker* tracker;
  legato_video_motion motion;
  const float* points;
  size_t count = 0;
  double inverse[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, chroma[9];
  int row, column, wrong = 0;
  check(size > 0 && memory != NULL && legato_video_tracker_memory(0, 3, &options) == 0, "tracker memory");
  check(legato_video_tracker_create(WIDTH, HEIGHT, &options, NULL, memory, size / 2) == NULL, "too small");
  options.region[2] = WIDTH + 1;
  options.region[3] = HEIGHT;
  check(legato_video_tracker_create(WIDTH, HEIGHT, &options, NULL, memory, size) == NULL, "region outside");
  options.region[2] = WIDTH;
  tracker = legato_video_tracker_create(WIDTH, HEIGHT, &options, NULL, memory, size);
  check(tracker != NULL, "tracker");
  draw(before, 20, 20);
  draw(after, 23, 18);
  check(legato_video_tracker_push_u8(tracker, before, WIDTH, &motion) == LEGATO_OK && motion.first, "first frame");
  check(legato_video_tracker_push_u8(tracker, after, WIDTH, &motion) == LEGATO_OK && motion.ok, "motion");
  check(fabs(motion.homography[2] - 3) < 0.3 && fabs(motion.homography[5] + 2) < 0.3, "the shift is found");
  check(motion.corner_covariance[0] > 0 && motion.corner_covariance[1] == motion.corner_covariance[8], "covariance");
  points = legato_video_tracker_matches(tracker, &count);
  check(points != NULL && (int)count == motion.matches && fabs(points[0] + 3 - points[2]) < 1.0, "matches");
  check(legato_video_tracker_push_u8(tracker, after, 3, &motion) == LEGATO_INVALID_ARGUMENT, "stride");
  inverse[2] = -3;
  inverse[5] = 2;
  check(legato_video_warp_u8(inverse, after, WIDTH, HEIGHT, WIDTH, steady, WIDTH, HEIGHT, WIDTH,
                             LEGATO_VIDEO_BICUBIC) == LEGATO_OK,
        "warp");
  for (row = 10; row < HEIGHT - 10; ++row) {
    for (column = 10; column < WIDTH - 10; ++column) {
      wrong += steady[row * WIDTH + column] != before[row * WIDTH + column];
    }
  }
  check(wrong == 0, "the steady picture is the one before");
  check(legato_video_chroma_map_f64(inverse, 2, 2, 0, 0.5, chroma) == LEGATO_OK && chroma[2] == -1.5, "chroma map");
  check(legato_video_warp_u8(NULL, after, WIDTH, HEIGHT, WIDTH, steady, WIDTH, HEIGHT, WIDTH, LEGATO_VIDEO_BILINEAR) ==
            LEGATO_INVALID_ARGUMENT,
        "null map");
  for (row = 0; row < WIDTH * HEIGHT; ++row) {
    deep[row] = (uint16_t)(before[row] * 4);
    deep_after[row] = (uint16_t)(after[row] * 4);
  }
  legato_video_tracker_reset(tracker);
  check(legato_video_tracker_push_u16(tracker, deep, WIDTH, 10, &motion) == LEGATO_OK && motion.first, "deep first");
  check(legato_video_tracker_push_u16(tracker, deep_after, WIDTH, 10, &motion) == LEGATO_OK && motion.ok,
        "deep motion");
  check(fabs(motion.homography[2] - 3) < 0.3 && fabs(motion.homography[5] + 2) < 0.3, "the deep shift is found");
  check(legato_video_tracker_push_u16(tracker, deep, WIDTH, 8, &motion) == LEGATO_INVALID_ARGUMENT, "bit depth");
  check(legato_video_warp_u16(inverse, deep_after, WIDTH, HEIGHT, WIDTH, deep_steady, WIDTH, HEIGHT, WIDTH, 10,
                              LEGATO_VIDEO_LANCZOS) == LEGATO_OK,
        "deep warp");
  for (row = 10; row < HEIGHT - 10; ++row) {
    for (column = 10; column < WIDTH - 10; ++column) {
      wrong += deep_steady[row * WIDTH + column] != deep[row * WIDTH + column];
    }
  }
  check(wrong == 0, "the deep steady picture is the one before");
  legato_video_tracker_reset(tracker);
  check(legato_video_tracker_push_u8(tracker, after, WIDTH, &motion) == LEGATO_OK && motion.first, "reset");
  free(memory);
}

/* A picture that looks ten pixels beyond the left edge of its frame, and a neighbor that shows what is there. */
static void check_fill(void) {
  static uint8_t frame[WIDTH * HEIGHT], neighbor[WIDTH * HEIGHT], picture[WIDTH * HEIGHT], truth[WIDTH * HEIGHT];
  static uint16_t deep[2][WIDTH * HEIGHT];
  static float errors[WIDTH * HEIGHT];
  const size_t size = legato_video_pyramid_memory(WIDTH, HEIGHT, 1);
  const double map[9] = {1, 0, -10, 0, 1, 0, 0, 0, 1}, aside[9] = {1, 0, 20, 0, 1, 0, 0, 0, 1};
  const ptrdiff_t strides[3] = {WIDTH, 0, 0};
  void *memory[2], *workspace;
  legato_video_pyramid *own, *lender;
  legato_video_fill_source_u8 source = {0};
  legato_video_fill_source_u16 deep_source = {0};
  legato_video_fill_options options = legato_video_fill_options_default();
  legato_video_fill_result found;
  uint8_t* planes[3] = {picture, NULL, NULL};
  uint16_t* deep_planes[3] = {deep[1], NULL, NULL};
  size_t room;
  int across, down, row, column;
  long off = 0, deep_off = 0;
  memory[0] = malloc(size);
  memory[1] = malloc(size);
  check(size > 0 && memory[0] != NULL && memory[1] != NULL, "pyramid memory");
  check(legato_video_pyramid_create(WIDTH, HEIGHT, 1, memory[0], size / 2) == NULL, "small pyramid memory");
  own = legato_video_pyramid_create(WIDTH, HEIGHT, 1, memory[0], size);
  lender = legato_video_pyramid_create(WIDTH, HEIGHT, 1, memory[1], size);
  draw(frame, 20, 20);
  draw(neighbor, 0, 20);
  draw(truth, 10, 20);
  check(legato_video_pyramid_fill_u8(own, frame, WIDTH) == LEGATO_OK &&
            legato_video_pyramid_fill_u8(lender, neighbor, WIDTH) == LEGATO_OK,
        "pyramids");
  check(legato_video_warp_u8(map, frame, WIDTH, HEIGHT, WIDTH, picture, WIDTH, HEIGHT, WIDTH, LEGATO_VIDEO_BICUBIC) ==
            LEGATO_OK,
        "drawn");
  source.planes[0] = neighbor;
  source.strides[0] = WIDTH;
  source.pyramid = lender;
  source.distance = 1;
  memcpy(source.map, aside, sizeof aside);
  legato_video_fill_cells(WIDTH, HEIGHT, &across, &down);
  check(across == 20 && down == 15, "cells");
  room = legato_video_fill_workspace(own, WIDTH, HEIGHT, 1);
  workspace = malloc(room);
  check(room > 0 && workspace != NULL && legato_video_fill_workspace(own, 0, HEIGHT, 1) == 0, "fill workspace");
  check(legato_video_fill_u8(map, own, &source, 1, planes, strides, WIDTH, HEIGHT, &options, workspace, room / 2,
                             errors, &found) == LEGATO_WORKSPACE_TOO_SMALL,
        "small fill workspace");
  check(legato_video_fill_u8(map, own, &source, 1, planes, strides, WIDTH, HEIGHT, &options, workspace, room, errors,
                             &found) == LEGATO_OK,
        "fill");
  check(found.sources == 1 && fabs(found.outside - 10.0 / WIDTH) < 1e-9 && found.membrane < 0.01, "what was filled");
  for (row = 0; row < HEIGHT; ++row) {
    for (column = 0; column < 10; ++column) off += abs(picture[row * WIDTH + column] - truth[row * WIDTH + column]);
  }
  check(off < 4L * 10 * HEIGHT, "the border is the neighbor's");
  check(errors[0] > 0 && errors[across / 2] == 0, "errors of the cells");
  for (row = 0; row < WIDTH * HEIGHT; ++row) {
    deep[0][row] = (uint16_t)(neighbor[row] * 4);
    deep[1][row] = (uint16_t)(truth[row] * 4); /* the border of which is drawn anew */
  }
  deep_source.planes[0] = deep[0];
  deep_source.strides[0] = WIDTH;
  deep_source.pyramid = lender;
  deep_source.distance = 1;
  memcpy(deep_source.map, aside, sizeof aside);
  check(legato_video_fill_u16(map, own, &deep_source, 1, deep_planes, strides, WIDTH, HEIGHT, 10, &options, workspace,
                              room, errors, &found) == LEGATO_OK,
        "deep fill");
  for (row = 0; row < HEIGHT; ++row) {
    for (column = 0; column < 10; ++column)
      deep_off += abs(deep[1][row * WIDTH + column] - 4 * truth[row * WIDTH + column]);
  }
  check(deep_off < 4L * 4 * 10 * HEIGHT, "the deep border is the neighbor's");
  planes[1] = picture;
  check(legato_video_fill_u8(map, own, &source, 1, planes, strides, WIDTH, HEIGHT, &options, workspace, room, errors,
                             &found) == LEGATO_INVALID_ARGUMENT,
        "one chroma plane");
  planes[1] = NULL;
  options.size = 0;
  check(legato_video_fill_u8(map, own, &source, 1, planes, strides, WIDTH, HEIGHT, &options, workspace, room, errors,
                             &found) == LEGATO_INVALID_ARGUMENT,
        "fill options of another version");
  check(legato_video_pyramid_fill_u8(own, NULL, WIDTH) == LEGATO_INVALID_ARGUMENT, "no luma");
  free(workspace);
  free(memory[0]);
  free(memory[1]);
}

/* The first window of a stream is a solve of its own; the rest comes out too. */
static void check_stream(const double* motion, const double* whole) {
  legato_camera_stream_options options = legato_camera_stream_options_default();
  legato_camera_stream* stream;
  const double* corrections;
  size_t count, out = 0, t;
  size_t size;
  void* memory;

  options.window = FRAMES + 1; /* all of the clip is one window */
  options.stride = FRAMES;
  options.predicted = 0;
  size = legato_camera_stream_memory(&options);
  check(size > 0, "stream memory");
  memory = malloc(size);
  check(memory != NULL, "memory");
  check(legato_camera_stream_create(&options, memory, size / 2) == NULL, "small stream memory");
  stream = legato_camera_stream_create(&options, memory, size);
  check(stream != NULL, "stream");
  for (t = 0; t < FRAMES; ++t) {
    check(legato_camera_stream_push_f64(stream, motion + 9 * t, &corrections, &count) == LEGATO_OK, "push");
    out += count;
  }
  check(out == 0, "a window that is not full");
  check(legato_camera_stream_finish_f64(stream, &corrections, &count) == LEGATO_OK, "finish");
  check(count == FRAMES, "everything comes out");
  check(memcmp(corrections, whole, 9 * FRAMES * sizeof(double)) == 0, "as in one solve");

  options.window = 8;
  options.stride = 6;
  stream = legato_camera_stream_create(&options, memory, size);
  check(stream != NULL, "a smaller stream in the same memory");
  out = 0;
  for (t = 0; t < FRAMES; ++t) {
    check(legato_camera_stream_push_f64(stream, t == 3 ? NULL : motion + 9 * t, &corrections, &count) == LEGATO_OK,
          "push, one motion missing");
    out += count;
  }
  check(out > 0, "frames came out while others went in");
  check(legato_camera_stream_finish_f64(stream, &corrections, &count) == LEGATO_OK, "finish");
  check(out + count == FRAMES, "each frame once");
  check(legato_camera_stream_push_f64(NULL, motion, &corrections, &count) == LEGATO_INVALID_ARGUMENT, "null");
  options.stride = 3;
  check(legato_camera_stream_memory(&options) == 0, "a stride too short");
  free(memory);
}

int main(void) {
  double motion[FRAMES * 9], logs[FRAMES * 9], corrections[FRAMES * 9], violation[FRAMES];
  size_t bad = 0, size, t, i;
  void* workspace;
  legato_camera_path_result result;
  legato_camera_path_options options = legato_camera_path_options_default();

  for (t = 0; t < FRAMES; ++t) {
    for (i = 0; i < 9; ++i) motion[9 * t + i] = i % 4 == 0 ? 1.0 : 0.0;
    motion[9 * t + 2] = 0.01 * sin(2.5 * (double)t);
  }
  check(legato_camera_log_homography_f64(motion, FRAMES, logs, &bad) == LEGATO_OK, "log");
  check(logs[9 * 3 + 2] == motion[9 * 3 + 2], "log of a translation is exact");
  check(legato_camera_exp_homography_f64(logs, FRAMES, logs, NULL) == LEGATO_OK, "exp in place");

  size = legato_camera_smooth_path_workspace(FRAMES, &options);
  check(size > 0, "workspace size");
  workspace = malloc(size);
  check(workspace != NULL, "memory");
  check(legato_camera_smooth_path_f64(motion, FRAMES, 9.0 / 16, &options, workspace, size, corrections, violation,
                                      &result) == LEGATO_OK,
        "path");
  check(result.objective > 0 && result.gap <= 1e-5 * result.objective, "certified optimum");
  check(violation[5] < 1e-4, "inside the frame");
  check(legato_camera_smooth_path_f64(motion, FRAMES, 9.0 / 16, &options, workspace, size, corrections, NULL, NULL) ==
            LEGATO_OK,
        "path without the optional outputs");
  check(legato_camera_smooth_path_f64(motion, FRAMES, 9.0 / 16, &options, workspace, size / 2, corrections, violation,
                                      &result) == LEGATO_WORKSPACE_TOO_SMALL,
        "small workspace");
  for (i = 0; i < 9; ++i) logs[i] = 3 * (corrections[9 * 5 + i] - (i % 4 == 0)) + (i % 4 == 0);
  check(legato_camera_contain_f64(logs, 1, 9.0 / 16, &options, logs, &bad) == LEGATO_OK, "contain");
  check(logs[2] > -0.06 && logs[2] < 0.06 && logs[2] * corrections[9 * 5 + 2] > 0, "moved back inside, no further");
  check(legato_camera_contain_f64(NULL, 1, 9.0 / 16, &options, logs, NULL) == LEGATO_INVALID_ARGUMENT, "null");
  check_stream(motion, corrections);
  options.size = 0;
  check(legato_camera_smooth_path_workspace(FRAMES, &options) == 0, "options of another version");
  check(legato_camera_smooth_path_f64(motion, FRAMES, 9.0 / 16, &options, workspace, size, corrections, violation,
                                      &result) == LEGATO_INVALID_ARGUMENT,
        "options of another version");
  check(legato_camera_log_homography_f64(NULL, 1, logs, NULL) == LEGATO_INVALID_ARGUMENT, "null");
  check(strlen(legato_version()) > 0 && strlen(legato_isa()) > 0, "version");
  check(strcmp(legato_status_text(LEGATO_OK), "done") == 0, "status text");
  check(legato_status_text((legato_status)77)[0] != 0, "text of no status");
  free(workspace);
  check_diffusion();
  check_video();
  check_fill();
  printf("%s, %s: %d failures\n", legato_version(), legato_isa(), failures);
  return failures != 0;
}
