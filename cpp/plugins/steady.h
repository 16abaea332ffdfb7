/* What the plug-ins share: pictures in, steady pictures out, a fixed number of pictures later. The host keeps the
 * pictures that wait; this keeps what is known of their motion. One thread at a time for each. */
#ifndef LEGATO_PLUGINS_STEADY_H
#define LEGATO_PLUGINS_STEADY_H

#include <stddef.h>
#include <stdint.h>

enum { STEADY_LEAST_DELAY = 4, STEADY_MOST_DELAY = 120 };

/* Samples of one kind, `step` bytes apart in rows `stride` bytes apart. Of chroma, how many luma samples one covers and
 * where in them the first one sits. */
typedef struct steady_component {
  uint8_t* data;
  int width, height, step;
  ptrdiff_t stride;
  int covers_x, covers_y;
  double site_x, site_y;
} steady_component;

/* The first component is luma, or the first three are red, green and blue. */
typedef struct steady_picture {
  steady_component components[4];
  int count, is_rgb;
} steady_picture;

typedef struct steady_options {
  double crop;     /* share of the picture's width and height that may be cut away, 0.02 to 0.5 */
  double strength; /* share of the correction that is applied, 0 to 1 */
} steady_options;

typedef struct steady steady;

steady_options steady_options_default(void);
/* For pictures of one size; null without memory, or for a size or delay that has none. */
steady* steady_open(int width, int height, int delay, const steady_options* options);
void steady_close(steady* s);
/* Takes a picture; it need not be kept for this. Whether one is due is steady_next's to say. */
int steady_push(steady* s, const steady_picture* picture);
/* The oldest picture that has not come out: 1 and the map from its pixels on the screen to those of the picture, once
 * `delay` pictures came after it or the end was said; else 0. */
int steady_next(steady* s, double map[9]);
/* Nothing follows: the pictures that wait are due, and the next push begins another scene. */
void steady_end(steady* s);
/* At once for the view, and for the path from the next scene on. */
void steady_set(steady* s, const steady_options* options);
/* Draws a picture of the size of `open` by a map. */
int steady_draw(steady* s, const double map[9], const steady_picture* from, const steady_picture* to);

#endif
