/* Live video for embedding: pictures in, steady pictures out, one for one, a fixed number of frames later.
 *
 * As in legato.h: C99, the caller's memory, no allocation, no exceptions, no global state the caller can see. One
 * stabilizer serves one thread at a time; several are independent of one another. */
#ifndef LEGATO_LIVE_H
#define LEGATO_LIVE_H

#include "legato.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum legato_video_format LEGATO_ENUM_OF_INT {
  LEGATO_VIDEO_GRAY = 0,
  LEGATO_VIDEO_YUV420 = 1, /* planar, as the next two are: Y, U, V; chroma sides are rounded up */
  LEGATO_VIDEO_YUV422 = 2,
  LEGATO_VIDEO_YUV444 = 3,
  LEGATO_VIDEO_NV12 = 4, /* Y, then U and V in turn */
  LEGATO_VIDEO_NV21 = 5, /* Y, then V and U in turn */
  LEGATO_VIDEO_YUYV = 6,
  LEGATO_VIDEO_RGBA = 7,
  LEGATO_VIDEO_BGRA = 8
} legato_video_format;

typedef enum legato_video_chroma LEGATO_ENUM_OF_INT { /* where a chroma sample sits among the luma it covers */
                                                      LEGATO_VIDEO_CHROMA_LEFT = 0,
                                                      LEGATO_VIDEO_CHROMA_CENTER = 1,
                                                      LEGATO_VIDEO_CHROMA_TOPLEFT = 2
} legato_video_chroma;

typedef enum legato_video_preset LEGATO_ENUM_OF_INT {
  LEGATO_VIDEO_GENTLE = 0,
  LEGATO_VIDEO_STANDARD = 1,
  LEGATO_VIDEO_SMOOTH = 2,
  LEGATO_VIDEO_STEADY = 3,
  LEGATO_VIDEO_FULL = 4,
  LEGATO_VIDEO_TRIPOD = 5,
  LEGATO_VIDEO_FOLLOW = 6
} legato_video_preset;

/* What may be changed while pictures run. */
typedef struct legato_video_live_settings {
  size_t size; /* sizeof(legato_video_live_settings), set by _default() */
  legato_video_preset preset;
  double crop;     /* share of the view that may be given up, 0 to 1; 0: the preset's */
  double fps;      /* frames a second, to which the path is adapted */
  double strength; /* share of the correction that is applied, 0 to 1 */
  int guard;       /* not 0: pictures that would not become steadier are left as they are */
} legato_video_live_settings;

LEGATO_API void legato_video_live_settings_init(legato_video_live_settings* settings, size_t size); /* any thread */
static inline legato_video_live_settings legato_video_live_settings_default(void) {
  legato_video_live_settings settings;
  legato_video_live_settings_init(&settings, sizeof settings);
  return settings;
}

typedef struct legato_video_live_options {
  size_t size; /* sizeof(legato_video_live_options), set by _default() */
  int width, height;
  size_t latency; /* pictures that follow a picture before it comes out, from 0 up */
  int predicted;  /* motions told ahead, 0 to 1000 */
  legato_video_format format;
  int bit_depth; /* 8; or 9 to 16 of gray and planar YUV: samples of 16 bits with so many significant low bits */
  legato_video_chroma chroma;
  legato_video_interpolation interpolation;
  int threads; /* of the warp; above 1 each picture starts threads */
} legato_video_live_options;

LEGATO_API void legato_video_live_options_init(legato_video_live_options* options, size_t size); /* any thread */
static inline legato_video_live_options legato_video_live_options_default(void) {
  legato_video_live_options options;
  legato_video_live_options_init(&options, sizeof options);
  return options;
}

/* A picture in the caller's memory: the planes its format has, and the bytes from row to row (may be negative). */
typedef struct legato_video_picture {
  void* planes[3]; /* of the picture that is pushed, only read */
  ptrdiff_t strides[3];
} legato_video_picture;

typedef struct legato_video_live_result {
  int due;              /* not 0: a picture was drawn, and all below is of it */
  size_t frame;         /* its number in the clip */
  double homography[9]; /* output pixel to input pixel */
  double rest;          /* share of the picture that the guard left as it is */
} legato_video_live_result;

typedef struct legato_video_live_counts {
  size_t frames, failed, duplicates, cuts, rested; /* see legato/live.hpp, LiveCounts */
} legato_video_live_counts;

typedef struct legato_video_live legato_video_live;

/* Bytes of memory; 0 for what create refuses, whose reason legato_video_live_reason gives. Any thread. */
LEGATO_API size_t legato_video_live_memory(const legato_video_live_options* options,
                                           const legato_video_live_settings* settings);
/* Which argument is wrong, one English sentence in static storage; "" where none is. Any
 * thread. */
LEGATO_API const char* legato_video_live_reason(const legato_video_live_options* options,
                                                const legato_video_live_settings* settings);
/* A stabilizer inside the caller's memory, which must outlive it; null on a wrong argument. mask: [height][width],
 * nonzero where motion may be measured, or null. There is nothing to destroy. Any thread. */
LEGATO_API legato_video_live* legato_video_live_create(const legato_video_live_options* options,
                                                       const legato_video_live_settings* settings, const uint8_t* mask,
                                                       void* memory, size_t memory_size);
/* Takes a picture, which is copied, and draws the one that is due into `steady`, which may be the same memory. cut: not
 * 0 where the caller knows that a scene begins here; else cuts are recognized. One thread at a time for a stabilizer.
 */
LEGATO_API legato_status legato_video_live_push(legato_video_live* live, const legato_video_picture* picture, int cut,
                                                const legato_video_picture* steady, legato_video_live_result* result);
/* Ends the clip: each call draws the next picture that is still held. The call that finds none (result->due 0) starts
 * another clip, and until then nothing may be pushed. One thread at a time for a stabilizer. */
LEGATO_API legato_status legato_video_live_flush(legato_video_live* live, const legato_video_picture* steady,
                                                 legato_video_live_result* result);
/* Goes over to other settings, in a second and a half. One thread at a time for a stabilizer. */
LEGATO_API legato_status legato_video_live_change(legato_video_live* live, const legato_video_live_settings* settings);
/* One thread at a time for a stabilizer. */
LEGATO_API legato_video_live_counts legato_video_live_count(const legato_video_live* live);

#ifdef __cplusplus
}
#endif

#endif /* LEGATO_LIVE_H */
