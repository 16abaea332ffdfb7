/* frei0r filter "legato": steady pictures in FFmpeg, Shotcut, Kdenlive and whatever else loads frei0r plug-ins.
 *
 * frei0r knows of no delay: each call gives a picture back, which here is the one of `delay` calls before, and as long
 * as there is none the newest as it is. A host whose time goes back begins again. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC visibility push(default) /* what hosts ask for by name */
#include <frei0r.h>
#pragma GCC visibility pop

#include "legato.h"
#include "steady.h"

enum { DELAY, CROP, STRENGTH, PARAMETERS };
enum { DELAY_UNIT = 50 }; /* frei0r's numbers are from 0 to 1: 0.2 is ten pictures */

typedef struct filter {
  int width, height, delay;
  steady_options options;
  steady* steady;
  uint8_t* ring; /* [delay + 1] pictures */
  size_t taken, shown;
  double time;
} filter;

int f0r_init(void) { return 1; }
void f0r_deinit(void) {}

void f0r_get_plugin_info(f0r_plugin_info_t* info) {
  info->name = "Legato";
  info->author = "The Legato developers";
  info->plugin_type = F0R_PLUGIN_TYPE_FILTER;
  info->color_model = F0R_COLOR_MODEL_RGBA8888;
  info->frei0r_version = FREI0R_MAJOR_VERSION;
  info->major_version = LEGATO_VERSION_MAJOR;
  info->minor_version = LEGATO_VERSION_MINOR;
  info->num_params = PARAMETERS;
  info->explanation = "Stabilizes shaky video in one pass, some pictures later";
}

void f0r_get_param_info(f0r_param_info_t* info, int index) {
  static const f0r_param_info_t parameters[PARAMETERS] = {
      {"delay", F0R_PARAM_DOUBLE, "Pictures by which the output is late, of 50: 0.2 is ten; at least four"},
      {"crop", F0R_PARAM_DOUBLE, "Share of width and height that may be cut away, 0.02 to 0.5"},
      {"strength", F0R_PARAM_DOUBLE, "Share of the correction that is applied"},
  };
  if (index >= 0 && index < PARAMETERS) *info = parameters[index];
}

f0r_instance_t f0r_construct(unsigned int width, unsigned int height) {
  filter* f = calloc(1, sizeof *f);
  if (f == NULL) return NULL;
  f->width = (int)width;
  f->height = (int)height;
  f->delay = 10;
  f->options = steady_options_default();
  return f;
}

static void stop(filter* f) {
  steady_close(f->steady);
  free(f->ring);
  f->steady = NULL;
  f->ring = NULL;
  f->taken = f->shown = 0;
}

void f0r_destruct(f0r_instance_t instance) {
  stop(instance);
  free(instance);
}

static double between(double value, double least, double most) {
  return value > least ? (value < most ? value : most) : least; /* NaN: least */
}

void f0r_set_param_value(f0r_instance_t instance, f0r_param_t param, int index) {
  filter* f = instance;
  const double value = *(const f0r_param_double*)param;
  if (index == DELAY) {
    const int delay = (int)lround(between(value * DELAY_UNIT, STEADY_LEAST_DELAY, DELAY_UNIT));
    if (delay != f->delay) stop(f); /* another delay begins again */
    f->delay = delay;
  }
  if (index == CROP) f->options.crop = between(value, 0.02, 0.5);
  if (index == STRENGTH) f->options.strength = between(value, 0, 1);
  if (f->steady != NULL) steady_set(f->steady, &f->options);
}

void f0r_get_param_value(f0r_instance_t instance, f0r_param_t param, int index) {
  const filter* f = instance;
  f0r_param_double* value = param;
  if (index == DELAY) *value = (double)f->delay / DELAY_UNIT;
  if (index == CROP) *value = f->options.crop;
  if (index == STRENGTH) *value = f->options.strength;
}

static steady_picture picture_of(const filter* f, uint8_t* pixels) {
  steady_picture picture;
  int i;
  picture.count = 4;
  picture.is_rgb = 1;
  for (i = 0; i < 4; ++i) {
    const steady_component c = {pixels + i, f->width, f->height, 4, 4 * (ptrdiff_t)f->width, 1, 1, 0, 0};
    picture.components[i] = c;
  }
  return picture;
}

void f0r_update(f0r_instance_t instance, double time, const uint32_t* in, uint32_t* out) {
  filter* f = instance;
  const size_t bytes = 4 * (size_t)f->width * (size_t)f->height, slots = (size_t)f->delay + 1;
  double map[9];
  if (f->steady != NULL && time < f->time) stop(f);
  f->time = time;
  if (f->steady == NULL) {
    f->ring = malloc(slots * bytes);
    if (f->ring != NULL) f->steady = steady_open(f->width, f->height, f->delay, &f->options);
  }
  if (f->steady != NULL) {
    uint8_t* slot = f->ring + f->taken % slots * bytes;
    steady_picture newest = picture_of(f, slot);
    memcpy(slot, in, bytes);
    f->taken += (size_t)steady_push(f->steady, &newest);
    if (steady_next(f->steady, map)) {
      const steady_picture from = picture_of(f, f->ring + f->shown++ % slots * bytes),
                           to = picture_of(f, (uint8_t*)out);
      if (steady_draw(f->steady, map, &from, &to)) return;
    }
  }
  memcpy(out, in, bytes);
}

/* For hosts that look for it; a filter has one input. */
void f0r_update2(f0r_instance_t instance, double time, const uint32_t* in, const uint32_t* second,
                 const uint32_t* third, uint32_t* out) {
  (void)second;
  (void)third;
  f0r_update(instance, time, in, out);
}
