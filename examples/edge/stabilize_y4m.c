/* Steadies a video from standard input to standard output while it arrives, in C99 and with no library but Legato's
 * core:
 *
 *   ffmpeg -i shaky.mp4 -f yuv4mpegpipe - | stabilize_y4m | ffmpeg -i - steady.mp4
 *   stabilize_y4m 30 smooth < in.y4m > out.y4m    (frames of delay, 10; and the preset, standard)
 *
 * Gray, 4:2:0, 4:2:2 and 4:4:4 of 8 to 16 bits. Memory is that of the delay's frames, whatever the length. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "legato_live.h"

typedef struct video {
  char header[256]; /* as it came */
  legato_video_live_options options;
  double fps;
  legato_video_picture picture; /* its planes lie one after another */
  size_t bytes;                 /* of a frame */
} video;

static int fail(const char* what) {
  fprintf(stderr, "stabilize_y4m: %s\n", what);
  return 1;
}

/* 1: a line, 0: the end, -1: a line that is too long or breaks off. */
static int read_line(char* line, size_t room) {
  size_t length = 0;
  int c;
  while ((c = getchar()) != EOF && c != '\n') {
    if (length + 1 >= room) return -1;
    line[length++] = (char)c;
  }
  line[length] = 0;
  if (c == EOF) return length == 0 ? 0 : -1;
  return 1;
}

/* C420jpeg, C420mpeg2, C422, C444p10, Cmono12 ...: 0 where it is none of those that are kept. */
static int read_chroma(const char* name, legato_video_live_options* options) {
  static const struct {
    const char* name;
    legato_video_format format;
    legato_video_chroma chroma;
  } known[] = {
      {"420jpeg", LEGATO_VIDEO_YUV420, LEGATO_VIDEO_CHROMA_CENTER},
      {"420mpeg2", LEGATO_VIDEO_YUV420, LEGATO_VIDEO_CHROMA_LEFT},
      {"420", LEGATO_VIDEO_YUV420, LEGATO_VIDEO_CHROMA_CENTER},
      {"422", LEGATO_VIDEO_YUV422, LEGATO_VIDEO_CHROMA_LEFT},
      {"444", LEGATO_VIDEO_YUV444, LEGATO_VIDEO_CHROMA_LEFT},
      {"mono", LEGATO_VIDEO_GRAY, LEGATO_VIDEO_CHROMA_LEFT},
  };
  size_t i;
  for (i = 0; i < sizeof known / sizeof *known; ++i) {
    const size_t length = strlen(known[i].name);
    const char* rest = name + length;
    if (strncmp(name, known[i].name, length) != 0) continue;
    options->format = known[i].format;
    options->chroma = known[i].chroma;
    if (*rest == 0) return 1;
    /* C420p10 says nothing of where chroma sits: left, as in the codecs that it comes from */
    if (options->format == LEGATO_VIDEO_YUV420) options->chroma = LEGATO_VIDEO_CHROMA_LEFT;
    if (options->format != LEGATO_VIDEO_GRAY && *rest++ != 'p') continue;
    options->bit_depth = atoi(rest);
    return options->bit_depth > 8 && options->bit_depth <= 16;
  }
  return 0;
}

/* YUV4MPEG2 W640 H360 F30:1 Ip C420mpeg2 ... */
static const char* read_header(video* v) {
  char fields[256], *field;
  int numerator = 30, denominator = 1;
  if (read_line(v->header, sizeof v->header) != 1 || strncmp(v->header, "YUV4MPEG2 ", 10) != 0)
    return "not a y4m stream";
  v->options = legato_video_live_options_default();
  v->options.chroma = LEGATO_VIDEO_CHROMA_CENTER; /* C420jpeg, which is what no C means */
  strcpy(fields, v->header);
  for (field = strtok(fields, " "); field != NULL; field = strtok(NULL, " ")) {
    if (*field == 'W') v->options.width = atoi(field + 1);
    if (*field == 'H') v->options.height = atoi(field + 1);
    if (*field == 'F' && (sscanf(field, "F%d:%d", &numerator, &denominator) != 2 || numerator < 1 || denominator < 1))
      return "expected a frame rate, as F30:1";
    if (*field == 'I' && strchr("tbm", field[1]) != NULL && field[1] != 0)
      fprintf(stderr, "stabilize_y4m: interlaced (%s), taken for progressive: fields are drawn as one picture\n",
              field);
    if (*field == 'C' && !read_chroma(field + 1, &v->options))
      return "expected gray, 4:2:0, 4:2:2 or 4:4:4 of 8 to 16 bits (Cmono, C420mpeg2, C422p10 ...)";
  }
  v->fps = (double)numerator / denominator;
  return NULL;
}

/* Where the planes of a frame lie; called once the options have been found good. */
static void lay_out(video* v, uint8_t* frame) {
  const int count = v->options.format == LEGATO_VIDEO_GRAY ? 1 : 3, size = v->options.bit_depth > 8 ? 2 : 1;
  size_t at = 0;
  int i;
  for (i = 0; i < count; ++i) {
    const int half = i > 0 && v->options.format != LEGATO_VIDEO_YUV444;
    const int low = i > 0 && v->options.format == LEGATO_VIDEO_YUV420;
    const int width = half ? (v->options.width + 1) / 2 : v->options.width;
    const int height = low ? (v->options.height + 1) / 2 : v->options.height;
    v->picture.planes[i] = frame != NULL ? frame + at : NULL;
    v->picture.strides[i] = (ptrdiff_t)width * size;
    at += (size_t)width * (size_t)height * (size_t)size;
  }
  v->bytes = at;
}

/* Samples of two bytes come with the low one first. */
static void swap_on_big_endian(const video* v, uint8_t* frame) {
  const uint16_t one = 1;
  size_t i;
  if (v->options.bit_depth == 8 || *(const uint8_t*)&one == 1) return;
  for (i = 0; i + 1 < v->bytes; i += 2) {
    const uint8_t low = frame[i];
    frame[i] = frame[i + 1];
    frame[i + 1] = low;
  }
}

/* 1: a frame, 0: the end, -1: half a frame. */
static int read_frame(const video* v, uint8_t* frame) {
  char line[256];
  const int more = read_line(line, sizeof line);
  if (more <= 0) return more;
  if (strncmp(line, "FRAME", 5) != 0 || fread(frame, 1, v->bytes, stdin) != v->bytes) return -1;
  swap_on_big_endian(v, frame);
  return 1;
}

static int write_frame(const video* v, uint8_t* frame) {
  swap_on_big_endian(v, frame);
  return fputs("FRAME\n", stdout) >= 0 && fwrite(frame, 1, v->bytes, stdout) == v->bytes ? 0 : fail("cannot write");
}

static int run(const video* v, legato_video_live* live, uint8_t* frame) {
  legato_video_live_result drawn = {0};
  int more;
  while ((more = read_frame(v, frame)) == 1) {
    if (legato_video_live_push(live, &v->picture, 0, &v->picture, &drawn) != LEGATO_OK)
      return fail("a picture could not be taken");
    if (drawn.due && write_frame(v, frame) != 0) return 1;
  }
  for (;;) { /* what came whole goes out, wherever the stream broke off */
    if (legato_video_live_flush(live, &v->picture, &drawn) != LEGATO_OK) return fail("a picture could not be drawn");
    if (!drawn.due) break;
    if (write_frame(v, frame) != 0) return 1;
  }
  if (fflush(stdout) != 0) return fail("cannot write");
  return more < 0 ? fail("the stream breaks off in a frame") : 0;
}

static int find_preset(const char* name, legato_video_preset* preset) {
  static const char* const names[] = {"gentle", "standard", "smooth", "steady", "full", "tripod", "follow"};
  size_t i;
  for (i = 0; i < sizeof names / sizeof *names; ++i) {
    if (strcmp(name, names[i]) != 0) continue;
    *preset = (legato_video_preset)i;
    return 1;
  }
  return 0;
}

int main(int argc, char** argv) {
  static video v;
  legato_video_live_settings settings = legato_video_live_settings_default();
  const char* problem = read_header(&v);
  void* memory;
  uint8_t* frame;
  size_t size;
  int result = 1;

  if (problem != NULL) return fail(problem);
  if (argc > 1) v.options.latency = strtoul(argv[1], NULL, 10);
  if (argc > 3 || (argc == 3 && !find_preset(argv[2], &settings.preset)))
    return fail("expected [LATENCY [gentle|standard|smooth|steady|full|tripod|follow]]");
  settings.fps = v.fps;
  problem = legato_video_live_reason(&v.options, &settings);
  if (*problem != 0) return fail(problem);

  size = legato_video_live_memory(&v.options, &settings);
  lay_out(&v, NULL);
  memory = malloc(size);
  frame = malloc(v.bytes);
  if (memory != NULL && frame != NULL) {
    lay_out(&v, frame);
    printf("%s\n", v.header);
    result = run(&v, legato_video_live_create(&v.options, &settings, NULL, memory, size), frame);
  } else {
    fail("out of memory");
  }
  free(frame);
  free(memory);
  return result;
}
