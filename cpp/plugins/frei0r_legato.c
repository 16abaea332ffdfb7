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

#include "legato_live.h"

enum { DELAY, CROP, STRENGTH, GUARD, PARAMETERS };
enum { DELAY_UNIT = 50 }; /* frei0r's numbers are from 0 to 1: 0.2 is ten pictures */

typedef struct filter {
  legato_video_live_options options;
  legato_video_live_settings settings;
  legato_video_live* live; /* in memory */
  void* memory;
  double time; /* of the last picture */
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
      {"delay", F0R_PARAM_DOUBLE, "Pictures by which the output is late, of 50: 0.2 is ten"},
      {"crop", F0R_PARAM_DOUBLE, "Share of the view that may be given up; 0: the preset's, 0.18"},
      {"strength", F0R_PARAM_DOUBLE, "Share of the correction that is applied"},
      {"guard", F0R_PARAM_BOOL, "Leave pictures as they are while they would not become steadier"},
  };
  if (index >= 0 && index < PARAMETERS) *info = parameters[index];
}

f0r_instance_t f0r_construct(unsigned int width, unsigned int height) {
  filter* f = calloc(1, sizeof *f);
  if (f == NULL) return NULL;
  f->options = legato_video_live_options_default();
  f->settings = legato_video_live_settings_default();
  f->options.width = (int)width;
  f->options.height = (int)height;
  f->options.format = LEGATO_VIDEO_RGBA;
  return f;
}

static void stop(filter* f) {
  free(f->memory);
  f->memory = NULL;
  f->live = NULL;
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
  const double value = *(const double*)param;
  if (index == DELAY) {
    const size_t delay = (size_t)lround(between(value, 0, 1) * DELAY_UNIT);
    if (delay != f->options.latency) stop(f); /* another delay begins again */
    f->options.latency = delay;
  }
  if (index == CROP) f->settings.crop = between(value, 0, 0.5);
  if (index == STRENGTH) f->settings.strength = between(value, 0, 1);
  if (index == GUARD) f->settings.guard = value >= 0.5;
  if (f->live != NULL) legato_video_live_change(f->live, &f->settings);
}

void f0r_get_param_value(f0r_instance_t instance, f0r_param_t param, int index) {
  const filter* f = instance;
  double* value = param;
  if (index == DELAY) *value = (double)f->options.latency / DELAY_UNIT;
  if (index == CROP) *value = f->settings.crop;
  if (index == STRENGTH) *value = f->settings.strength;
  if (index == GUARD) *value = f->settings.guard;
}

void f0r_update(f0r_instance_t instance, double time, const uint32_t* in, uint32_t* out) {
  filter* f = instance;
  const ptrdiff_t stride = 4 * (ptrdiff_t)f->options.width;
  const legato_video_picture picture = {{(void*)in}, {stride}}, steady = {{out}, {stride}};
  legato_video_live_result drawn = {0};
  if (f->live != NULL && time < f->time) stop(f);
  f->time = time;
  if (f->live == NULL) {
    const size_t size = legato_video_live_memory(&f->options, &f->settings);
    f->memory = size > 0 ? malloc(size) : NULL;
    if (f->memory != NULL) f->live = legato_video_live_create(&f->options, &f->settings, NULL, f->memory, size);
  }
  if (f->live != NULL) legato_video_live_push(f->live, &picture, 0, &steady, &drawn);
  if (!drawn.due) memcpy(out, in, (size_t)stride * (size_t)f->options.height);
}

/* For hosts that look for it; a filter has one input. */
void f0r_update2(f0r_instance_t instance, double time, const uint32_t* in, const uint32_t* second,
                 const uint32_t* third, uint32_t* out) {
  (void)second;
  (void)third;
  f0r_update(instance, time, in, out);
}
