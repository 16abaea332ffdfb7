#include "steady.h"

#include <stdlib.h>
#include <string.h>

#include "legato.h"

enum { KEPT = 4 }; /* of each window: the least that a stream allows, three of which are held */

struct steady {
  int width, height, delay;
  steady_options options;
  legato_camera_stream_options path;
  legato_video_tracker* tracker;
  legato_camera_stream* stream;
  void *tracker_memory, *stream_memory;
  size_t stream_size;
  double to_width[9], to_pixels[9]; /* pixels, centers at integers, to frame widths from the center; and back */
  double* corrections;              /* [slots][9], of the pictures that wait; the oldest is number `out` */
  size_t slots, in, out, final;     /* pictures taken, come out, and whose correction is known */
  int ended, fresh;                 /* fresh: no picture of this scene yet */
  uint8_t* planes[2];               /* one component before and after the warp, or luma */
};

static void multiply(const double* a, const double* b, double* out) {
  int row, column;
  for (row = 0; row < 3; ++row) {
    for (column = 0; column < 3; ++column) {
      out[3 * row + column] = a[3 * row] * b[column] + a[3 * row + 1] * b[3 + column] + a[3 * row + 2] * b[6 + column];
    }
  }
}

steady_options steady_options_default(void) {
  const steady_options options = {0.18, 1};
  return options;
}

static int begin_scene(steady* s) {
  s->path.path.crop = s->options.crop;
  s->stream = legato_camera_stream_create(&s->path, s->stream_memory, s->stream_size);
  legato_video_tracker_reset(s->tracker);
  s->fresh = 1;
  return s->stream != NULL;
}

steady* steady_open(int width, int height, int delay, const steady_options* options) {
  legato_video_tracker_options how = legato_video_tracker_options_default();
  const size_t tracker_size = legato_video_tracker_memory(width, height, &how);
  const double w = width, x = (w - 1) / 2, y = (height - 1) / 2.0;
  const double forth[9] = {1 / w, 0, -x / w, 0, 1 / w, -y / w, 0, 0, 1}, back[9] = {w, 0, x, 0, w, y, 0, 0, 1};
  steady* s;
  if (tracker_size == 0 || delay < STEADY_LEAST_DELAY || delay > STEADY_MOST_DELAY) return NULL;
  s = calloc(1, sizeof *s);
  if (s == NULL) return NULL;
  s->width = width;
  s->height = height;
  s->delay = delay;
  s->options = *options;
  memcpy(s->to_width, forth, sizeof forth);
  memcpy(s->to_pixels, back, sizeof back);
  /* The preset "standard" of live video (python/legato/video/presets.py). */
  s->path = legato_camera_stream_options_default();
  s->path.aspect = height / w;
  s->path.window = (size_t)delay + 1;
  s->path.stride = KEPT;
  s->path.path.crop = options->crop;
  s->path.path.acceleration = 1e6;
  s->path.path.inset = 0.5 / w;
  s->path.path.pixel = 1 / w;
  s->stream_size = legato_camera_stream_memory(&s->path);
  s->slots = (size_t)delay + 1;
  s->tracker_memory = malloc(tracker_size);
  s->stream_memory = malloc(s->stream_size);
  s->corrections = malloc(s->slots * 9 * sizeof(double));
  s->planes[0] = malloc((size_t)width * (size_t)height);
  s->planes[1] = malloc((size_t)width * (size_t)height);
  if (s->stream_size > 0 && s->tracker_memory != NULL && s->stream_memory != NULL && s->corrections != NULL &&
      s->planes[0] != NULL && s->planes[1] != NULL) {
    s->tracker = legato_video_tracker_create(width, height, &how, NULL, s->tracker_memory, tracker_size);
    if (s->tracker != NULL && begin_scene(s)) return s;
  }
  steady_close(s);
  return NULL;
}

void steady_close(steady* s) {
  if (s == NULL) return;
  free(s->planes[0]);
  free(s->planes[1]);
  free(s->corrections);
  free(s->stream_memory);
  free(s->tracker_memory);
  free(s);
}

/* A path that could not be solved leaves its pictures as they are. */
static void keep(steady* s, legato_status status, const double* corrections, size_t count) {
  static const double identity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  const int solved = status == LEGATO_OK || status == LEGATO_ITERATION_LIMIT || status == LEGATO_NUMERICAL_TROUBLE;
  size_t i;
  for (i = 0; solved && i < count && s->final < s->in; ++i, ++s->final) {
    memcpy(s->corrections + 9 * (s->final % s->slots), corrections + 9 * i, sizeof identity);
  }
  if (solved) return;
  for (; s->final < s->in; ++s->final) memcpy(s->corrections + 9 * (s->final % s->slots), identity, sizeof identity);
  begin_scene(s);
}

static void gather(const steady_component* c, uint8_t* plane) {
  int x, y;
  for (y = 0; y < c->height; ++y, plane += c->width) {
    const uint8_t* row = c->data + y * c->stride;
    for (x = 0; x < c->width; ++x) plane[x] = row[(ptrdiff_t)x * c->step];
  }
}

static void scatter(const uint8_t* plane, const steady_component* c) {
  int x, y;
  for (y = 0; y < c->height; ++y, plane += c->width) {
    uint8_t* row = c->data + y * c->stride;
    for (x = 0; x < c->width; ++x) row[(ptrdiff_t)x * c->step] = plane[x];
  }
}

/* Luma of BT.601, in whole numbers: what the tracker sees need not be exact. */
static void gather_luma(const steady_component* rgb, uint8_t* plane) {
  int x, y;
  for (y = 0; y < rgb->height; ++y, plane += rgb->width) {
    const uint8_t *red = rgb[0].data + y * rgb[0].stride, *green = rgb[1].data + y * rgb[1].stride,
                  *blue = rgb[2].data + y * rgb[2].stride;
    for (x = 0; x < rgb->width; ++x) {
      plane[x] = (uint8_t)((77 * red[(ptrdiff_t)x * rgb[0].step] + 150 * green[(ptrdiff_t)x * rgb[1].step] +
                            29 * blue[(ptrdiff_t)x * rgb[2].step] + 128) >>
                           8);
    }
  }
}

int steady_push(steady* s, const steady_picture* picture) {
  const steady_component* first = &picture->components[0];
  const uint8_t* luma = first->data;
  ptrdiff_t stride = first->stride;
  legato_video_motion found;
  legato_status status;
  const double* corrections = NULL;
  double part[9], motion[9];
  size_t count = 0;
  if (s->in - s->out >= s->slots) return 0; /* a host that takes nothing out */
  if (picture->is_rgb || first->step != 1) {
    if (picture->is_rgb) {
      gather_luma(first, s->planes[0]);
    } else {
      gather(first, s->planes[0]);
    }
    luma = s->planes[0];
    stride = s->width;
  }
  if (legato_video_tracker_push_u8(s->tracker, luma, stride, &found) != LEGATO_OK) return 0;
  multiply(found.homography, s->to_pixels, part);
  multiply(s->to_width, part, motion);
  status = legato_camera_stream_push_f64(s->stream, found.ok || s->fresh ? motion : NULL, &corrections, &count);
  s->fresh = s->ended = 0;
  ++s->in;
  keep(s, status, corrections, count);
  return 1;
}

void steady_end(steady* s) {
  const double* corrections = NULL;
  size_t count = 0;
  const legato_status status = legato_camera_stream_finish_f64(s->stream, &corrections, &count);
  keep(s, status, corrections, count);
  begin_scene(s);
  s->ended = 1;
}

int steady_next(steady* s, double map[9]) {
  double correction[9], part[9], other[9], view[9] = {0};
  const int due = s->out < s->final && (s->ended || s->in - s->out > (size_t)s->delay);
  legato_camera_path_options room = s->path.path;
  if (!due) return 0;
  memcpy(correction, s->corrections + 9 * (s->out++ % s->slots), sizeof correction);
  if (s->options.strength < 1) {
    double log[9];
    int i;
    if (legato_camera_log_homography_f64(correction, 1, log, NULL) == LEGATO_OK) {
      for (i = 0; i < 9; ++i) log[i] *= s->options.strength;
      legato_camera_exp_homography_f64(log, 1, correction, NULL);
    }
  }
  room.crop = s->options.crop;
  legato_camera_contain_f64(correction, 1, s->path.aspect, &room, correction, NULL);
  view[0] = view[4] = 1 - room.crop / 2; /* the output is as large as the input: it shows the crop window */
  view[8] = 1;
  multiply(correction, view, part);
  multiply(part, s->to_width, other);
  multiply(s->to_pixels, other, map);
  return 1;
}

void steady_set(steady* s, const steady_options* options) { s->options = *options; }

int steady_draw(steady* s, const double map[9], const steady_picture* from, const steady_picture* to) {
  int i;
  for (i = 0; i < from->count; ++i) {
    const steady_component *a = &from->components[i], *b = &to->components[i];
    const int apart = a->step != 1 || b->step != 1;
    double own[9];
    if (a->covers_x == 1 && a->covers_y == 1) {
      memcpy(own, map, sizeof own);
    } else if (legato_video_chroma_map_f64(map, a->covers_x, a->covers_y, a->site_x, a->site_y, own) != LEGATO_OK) {
      return 0;
    }
    if (apart) gather(a, s->planes[0]);
    if (legato_video_warp_u8(own, apart ? s->planes[0] : a->data, a->width, a->height, apart ? a->width : a->stride,
                             apart ? s->planes[1] : b->data, b->width, b->height, apart ? b->width : b->stride,
                             LEGATO_VIDEO_BICUBIC) != LEGATO_OK) {
      return 0;
    }
    if (apart) scatter(s->planes[1], b);
  }
  return 1;
}
