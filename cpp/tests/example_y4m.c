/* For the test of examples/edge: `make` writes a shaky clip to standard output, `check SHAKY STEADY` compares two. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "legato.h"

enum { WIDTH = 321, HEIGHT = 200, CHROMA = ((WIDTH + 1) / 2) * (HEIGHT / 2), FRAMES = 70 };
static const char kHeader[] = "YUV4MPEG2 W321 H200 F30:1 Ip A1:1 C420mpeg2\n";

static uint8_t luma[WIDTH * HEIGHT], chroma[2 * CHROMA];

/* Blocks of random gray under a camera that shakes by up to five pixels. */
static int make(void) {
  unsigned state = 1;
  int frame, row, column;
  fputs(kHeader, stdout);
  memset(chroma, 100, sizeof chroma);
  for (frame = 0; frame < FRAMES; ++frame) {
    int x, y;
    state = state * 1664525u + 1013904223u;
    x = 50 + (int)(state >> 24) % 6;
    y = 50 + (int)(state >> 16 & 255) % 6;
    for (row = 0; row < HEIGHT; ++row) {
      for (column = 0; column < WIDTH; ++column) {
        const unsigned cell = (unsigned)((row + y) / 7) * 7919u + (unsigned)((column + x) / 7) * 104729u;
        luma[row * WIDTH + column] = (uint8_t)((cell * 2654435761u) >> 24);
      }
    }
    fputs("FRAME\n", stdout);
    fwrite(luma, 1, sizeof luma, stdout);
    fwrite(chroma, 1, sizeof chroma, stdout);
  }
  return 0;
}

/* Root mean square acceleration of the picture, pixels; negative where the file is not what it should be. */
static double jitter(const char* path) {
  legato_video_tracker_options options = legato_video_tracker_options_default();
  const size_t size = legato_video_tracker_memory(WIDTH, HEIGHT, &options);
  void* memory = malloc(size);
  legato_video_tracker* tracker = legato_video_tracker_create(WIDTH, HEIGHT, &options, NULL, memory, size);
  FILE* file = fopen(path, "rb");
  char line[sizeof kHeader];
  double before[2] = {0, 0}, sum = 0;
  int frame, i;
  if (file == NULL || fgets(line, sizeof line, file) == NULL || strcmp(line, kHeader) != 0) return -1;
  for (frame = 0; frame < FRAMES; ++frame) {
    legato_video_motion motion;
    if (fgets(line, sizeof line, file) == NULL || strcmp(line, "FRAME\n") != 0) return -2;
    if (fread(luma, 1, sizeof luma, file) != sizeof luma || fread(chroma, 1, sizeof chroma, file) != sizeof chroma) {
      return -3;
    }
    for (i = 0; i < 2 * CHROMA; ++i) {
      if (chroma[i] != 100) return -4;
    }
    if (legato_video_tracker_push_u8(tracker, luma, WIDTH, &motion) != LEGATO_OK || (frame > 0 && !motion.ok))
      return -5;
    for (i = 0; i < 2; ++i) {
      const double moved = motion.homography[3 * i + 2];
      if (frame > 1) sum += (moved - before[i]) * (moved - before[i]);
      before[i] = moved;
    }
  }
  if (fgetc(file) != EOF) return -6;
  fclose(file);
  free(memory);
  return sqrt(sum / (FRAMES - 2));
}

int main(int argc, char** argv) {
  double shaky, steady;
  if (argc == 2 && strcmp(argv[1], "make") == 0) return make();
  if (argc != 4) return 2;
  shaky = jitter(argv[2]);
  steady = jitter(argv[3]);
  printf("jitter %.3f -> %.3f px\n", shaky, steady);
  return !(shaky > 2 && steady >= 0 && steady < 0.1 * shaky);
}
