/* Steadies a video from standard input to standard output, in C99 and with no library but Legato's core:
 *
 *   ffmpeg -i shaky.mp4 -f yuv4mpegpipe - | stabilize_y4m | ffmpeg -i - steady.mp4
 *   stabilize_y4m 30 10 < in.y4m > out.y4m        (frames solved at once, and kept of them: less delay, less
 * look-ahead)
 *
 * Memory is that of WINDOW frames, whatever the length. 8-bit 4:2:0 and gray. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "legato.h"

typedef struct plane {
  int width, height;
  size_t offset; /* in a frame */
} plane;

typedef struct video {
  char header[256]; /* as it came */
  plane planes[3];
  int count;
  double chroma_x; /* where the first chroma sample sits, luma pixels */
  size_t frame_size;
} video;

static int fail(const char* what) {
  fprintf(stderr, "stabilize_y4m: %s\n", what);
  return 1;
}

static int read_line(char* line, size_t room) {
  size_t length = 0;
  int c;
  while ((c = getchar()) != EOF && c != '\n') {
    if (length + 1 >= room) return -1;
    line[length++] = (char)c;
  }
  line[length] = 0;
  return c == EOF && length == 0 ? 0 : 1;
}

/* YUV4MPEG2 W640 H360 F30:1 C420mpeg2 ... */
static const char* read_header(video* v) {
  char fields[256], *field;
  int width = 0, height = 0, i;
  if (read_line(v->header, sizeof v->header) != 1 || strncmp(v->header, "YUV4MPEG2 ", 10) != 0)
    return "not a y4m stream";
  v->count = 3;
  v->chroma_x = 0.5; /* C420jpeg, which is what no C means */
  strcpy(fields, v->header);
  for (field = strtok(fields, " "); field != NULL; field = strtok(NULL, " ")) {
    if (*field == 'W') width = atoi(field + 1);
    if (*field == 'H') height = atoi(field + 1);
    if (*field != 'C') continue;
    if (strcmp(field, "Cmono") == 0) {
      v->count = 1;
    } else if (strcmp(field, "C420mpeg2") == 0) {
      v->chroma_x = 0;
    } else if (strcmp(field, "C420jpeg") != 0 && strcmp(field, "C420") != 0) {
      return "expected 8-bit 4:2:0 (C420jpeg, C420mpeg2) or Cmono";
    }
  }
  if (width < 16 || height < 16 || width > 16384 || height > 16384) return "expected sizes from 16 to 16384";
  for (i = 0; i < v->count; ++i) {
    v->planes[i].width = i == 0 ? width : (width + 1) / 2;
    v->planes[i].height = i == 0 ? height : (height + 1) / 2;
    v->planes[i].offset = v->frame_size;
    v->frame_size += (size_t)v->planes[i].width * (size_t)v->planes[i].height;
  }
  return NULL;
}

/* 1: a frame, 0: the end, -1: half a frame. */
static int read_frame(uint8_t* frame, size_t size) {
  char line[256];
  const int more = read_line(line, sizeof line);
  if (more == 0) return 0;
  return more == 1 && strncmp(line, "FRAME", 5) == 0 && fread(frame, 1, size, stdin) == size ? 1 : -1;
}

static void multiply(const double* a, const double* b, double* out) {
  int row, column;
  for (row = 0; row < 3; ++row) {
    for (column = 0; column < 3; ++column) {
      out[3 * row + column] = a[3 * row] * b[column] + a[3 * row + 1] * b[3 + column] + a[3 * row + 2] * b[6 + column];
    }
  }
}

/* Pixels (centers at integers) to the camera path's unit, one frame width, from the frame center; and back. */
static void units(const video* v, double* to, double* from) {
  const double w = v->planes[0].width, x = (w - 1) / 2, y = (v->planes[0].height - 1) / 2.0;
  const double forth[9] = {1 / w, 0, -x / w, 0, 1 / w, -y / w, 0, 0, 1}, back[9] = {w, 0, x, 0, w, y, 0, 0, 1};
  memcpy(to, forth, sizeof forth);
  memcpy(from, back, sizeof back);
}

static int write_steady(const video* v, const double* correction, const uint8_t* frame, uint8_t* steady) {
  int i;
  for (i = 0; i < v->count; ++i) {
    const plane* p = &v->planes[i];
    double map[9];
    if (i == 0) {
      memcpy(map, correction, sizeof map);
    } else if (legato_video_chroma_map_f64(correction, 2, 2, v->chroma_x, 0.5, map) != LEGATO_OK) {
      return fail("a correction that is none");
    }
    if (legato_video_warp_u8(map, frame + p->offset, p->width, p->height, p->width, steady + p->offset, p->width,
                             p->height, p->width, LEGATO_VIDEO_BICUBIC) != LEGATO_OK) {
      return fail("a picture could not be warped");
    }
  }
  if (fputs("FRAME\n", stdout) < 0 || fwrite(steady, 1, v->frame_size, stdout) != v->frame_size) {
    return fail("cannot write");
  }
  return 0;
}

/* The pictures whose corrections have become final. */
static int write_final(const video* v, const double* corrections, size_t count, const legato_camera_stream_options* how,
                       const uint8_t* ring, size_t slots, size_t* written, uint8_t* steady) {
  double inside[9], to[9], from[9], crop[9] = {0}, part[9], other[9];
  size_t i;
  units(v, to, from);
  crop[0] = crop[4] = 1 - how->path.crop / 2; /* the output is as large as the input: it shows the crop window */
  crop[8] = 1;
  for (i = 0; i < count; ++i, ++*written) {
    if (legato_camera_contain_f64(corrections + 9 * i, 1, how->aspect, &how->path, inside, NULL) != LEGATO_OK) {
      return fail("a correction that is none");
    }
    multiply(inside, crop, part);
    multiply(part, to, other);
    multiply(from, other, part);
    if (write_steady(v, part, ring + *written % slots * v->frame_size, steady) != 0) return 1;
  }
  return 0;
}

static int run(const video* v, legato_camera_stream* stream, legato_video_tracker* tracker,
               const legato_camera_stream_options* how, uint8_t* ring, size_t slots, uint8_t* steady) {
  size_t taken = 0, written = 0, count = 0;
  const double* corrections = NULL;
  double to[9], from[9], part[9], motion[9];
  legato_video_motion found;
  legato_status status;
  units(v, to, from);
  for (;; ++taken) {
    uint8_t* frame = ring + taken % slots * v->frame_size;
    const int more = read_frame(frame, v->frame_size);
    if (more < 0) return fail("the stream breaks off in a frame");
    if (more == 0) break;
    if (legato_video_tracker_push_u8(tracker, frame, v->planes[0].width, &found) != LEGATO_OK) {
      return fail("a picture could not be tracked");
    }
    multiply(found.homography, from, part);
    multiply(to, part, motion);
    status = legato_camera_stream_push_f64(stream, found.ok || taken == 0 ? motion : NULL, &corrections, &count);
    if (status != LEGATO_OK && status != LEGATO_ITERATION_LIMIT && status != LEGATO_NUMERICAL_TROUBLE) {
      return fail(legato_status_text(status));
    }
    if (write_final(v, corrections, count, how, ring, slots, &written, steady) != 0) return 1;
  }
  if (taken == 0) return 0;
  status = legato_camera_stream_finish_f64(stream, &corrections, &count);
  if (status != LEGATO_OK && status != LEGATO_ITERATION_LIMIT && status != LEGATO_NUMERICAL_TROUBLE) {
    return fail(legato_status_text(status));
  }
  return write_final(v, corrections, count, how, ring, slots, &written, steady) != 0 || fflush(stdout) != 0;
}

int main(int argc, char** argv) {
  static video v;
  legato_camera_stream_options path = legato_camera_stream_options_default();
  legato_video_tracker_options how = legato_video_tracker_options_default();
  const char* problem = read_header(&v);
  size_t path_size, tracker_size, slots;
  void *path_memory, *tracker_memory;
  uint8_t *ring, *steady;
  int result = 1;

  if (problem != NULL) return fail(problem);
  if (argc == 3) {
    path.window = strtoul(argv[1], NULL, 10);
    path.stride = strtoul(argv[2], NULL, 10);
  }
  path.aspect = (double)v.planes[0].height / v.planes[0].width;
  path_size = legato_camera_stream_memory(&path);
  tracker_size = legato_video_tracker_memory(v.planes[0].width, v.planes[0].height, &how);
  if ((argc != 1 && argc != 3) || path_size == 0)
    return fail("expected WINDOW STRIDE, 4 <= STRIDE < WINDOW, or nothing");

  slots = path.window + 1;
  path_memory = malloc(path_size);
  tracker_memory = malloc(tracker_size);
  ring = malloc(slots * v.frame_size);
  steady = malloc(v.frame_size);
  if (path_memory != NULL && tracker_memory != NULL && ring != NULL && steady != NULL) {
    legato_camera_stream* stream = legato_camera_stream_create(&path, path_memory, path_size);
    legato_video_tracker* tracker =
        legato_video_tracker_create(v.planes[0].width, v.planes[0].height, &how, NULL, tracker_memory, tracker_size);
    printf("%s\n", v.header);
    result = run(&v, stream, tracker, &path, ring, slots, steady);
  } else {
    fail("out of memory");
  }
  free(steady);
  free(ring);
  free(tracker_memory);
  free(path_memory);
  return result;
}
