/* GStreamer element legatostabilize: raw video in, steady video out, `latency` pictures later.
 *
 * A picture keeps its timestamp, and the latency is reported, so that a live pipeline holds its sound back alike. */
#include <gst/gst.h>
#include <gst/video/video.h>

#include "legato_live.h"

#define FORMATS "{ I420, YV12, Y42B, Y444, NV12, NV21, YUY2, GRAY8, RGBA, BGRA, RGBx, BGRx }"

#define LEGATO_TYPE_STABILIZE (legato_stabilize_get_type())
G_DECLARE_FINAL_TYPE(LegatoStabilize, legato_stabilize, LEGATO, STABILIZE, GstElement)

struct _LegatoStabilize {
  GstElement element;
  GstPad *sink, *source;
  GMutex lock;   /* of the next four, which applications set and ask; what the pads negotiate is also set under it */
  guint latency; /* pictures */
  double crop, strength;
  gboolean guard;
  GstVideoInfo info;
  gboolean known; /* info has been negotiated */
  /* Of the streaming thread: */
  legato_video_live* live; /* in memory */
  gpointer memory;
  legato_video_live_settings settings; /* as live has them */
  GQueue waiting; /* GstBuffer* of no memory, each with the timestamps and flags of a picture that waits */
};

G_DEFINE_TYPE(LegatoStabilize, legato_stabilize, GST_TYPE_ELEMENT)
GST_ELEMENT_REGISTER_DEFINE(legatostabilize, "legatostabilize", GST_RANK_NONE, LEGATO_TYPE_STABILIZE)
GST_DEBUG_CATEGORY_STATIC(legato_debug);
#define GST_CAT_DEFAULT legato_debug

enum { LATENCY = 1, CROP, STRENGTH, GUARD };

static GstStaticPadTemplate sink_template =
    GST_STATIC_PAD_TEMPLATE("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS(GST_VIDEO_CAPS_MAKE(FORMATS)));
static GstStaticPadTemplate source_template =
    GST_STATIC_PAD_TEMPLATE("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS(GST_VIDEO_CAPS_MAKE(FORMATS)));

static legato_video_format format_of(GstVideoFormat format) {
  switch (format) {
    case GST_VIDEO_FORMAT_I420:
    case GST_VIDEO_FORMAT_YV12:
      return LEGATO_VIDEO_YUV420;
    case GST_VIDEO_FORMAT_Y42B:
      return LEGATO_VIDEO_YUV422;
    case GST_VIDEO_FORMAT_Y444:
      return LEGATO_VIDEO_YUV444;
    case GST_VIDEO_FORMAT_NV12:
      return LEGATO_VIDEO_NV12;
    case GST_VIDEO_FORMAT_NV21:
      return LEGATO_VIDEO_NV21;
    case GST_VIDEO_FORMAT_YUY2:
      return LEGATO_VIDEO_YUYV;
    case GST_VIDEO_FORMAT_RGBA:
    case GST_VIDEO_FORMAT_RGBx:
      return LEGATO_VIDEO_RGBA;
    case GST_VIDEO_FORMAT_BGRA:
    case GST_VIDEO_FORMAT_BGRx:
      return LEGATO_VIDEO_BGRA;
    default:
      return LEGATO_VIDEO_GRAY;
  }
}

static legato_video_chroma chroma_of(GstVideoChromaSite site) {
  if ((site & GST_VIDEO_CHROMA_SITE_H_COSITED) == 0 && site != GST_VIDEO_CHROMA_SITE_UNKNOWN) {
    return LEGATO_VIDEO_CHROMA_CENTER;
  }
  return (site & GST_VIDEO_CHROMA_SITE_V_COSITED) != 0 ? LEGATO_VIDEO_CHROMA_TOPLEFT : LEGATO_VIDEO_CHROMA_LEFT;
}

/* Planes in the order Y, U, V: of YV12 V comes first in memory. */
static legato_video_picture picture_of(GstVideoFrame* frame) {
  const gboolean planar = GST_VIDEO_FRAME_N_PLANES(frame) == 3;
  legato_video_picture picture = {{0}, {0}};
  guint i;
  for (i = 0; i < GST_VIDEO_FRAME_N_PLANES(frame) && i < 3; ++i) {
    const guint plane = planar ? (guint)GST_VIDEO_FRAME_COMP_PLANE(frame, i) : i;
    picture.planes[i] = GST_VIDEO_FRAME_PLANE_DATA(frame, plane);
    picture.strides[i] = GST_VIDEO_FRAME_PLANE_STRIDE(frame, plane);
  }
  return picture;
}

static void forget(LegatoStabilize* self) {
  g_free(self->memory);
  self->memory = NULL;
  self->live = NULL;
  g_queue_clear_full(&self->waiting, (GDestroyNotify)gst_buffer_unref);
}

/* Sends the picture that was drawn into `drawn`, with the timestamps of its own time. */
static GstFlowReturn send(LegatoStabilize* self, GstBuffer* drawn) {
  GstBuffer* from = g_queue_pop_head(&self->waiting);
  gst_buffer_copy_into(drawn, from, GST_BUFFER_COPY_FLAGS | GST_BUFFER_COPY_TIMESTAMPS, 0, (gsize)-1);
  gst_buffer_unref(from);
  return gst_pad_push(self->source, drawn);
}

/* What waits comes out: the stream ends here, or goes on as another clip. */
static GstFlowReturn drain(LegatoStabilize* self) {
  GstFlowReturn flow = GST_FLOW_OK;
  legato_video_live_result result = {0};
  if (self->live == NULL) return flow;
  do {
    GstBuffer* drawn = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(&self->info), NULL);
    GstVideoFrame frame;
    result.due = 0;
    if (drawn == NULL || !gst_video_frame_map(&frame, &self->info, drawn, GST_MAP_WRITE)) {
      flow = GST_FLOW_ERROR;
    } else {
      const legato_video_picture steady = picture_of(&frame);
      legato_video_live_flush(self->live, &steady, &result);
      gst_video_frame_unmap(&frame);
    }
    if (result.due) {
      flow = send(self, drawn);
    } else if (drawn != NULL) {
      gst_buffer_unref(drawn);
    }
  } while (result.due && flow == GST_FLOW_OK);
  if (flow != GST_FLOW_OK) forget(self); /* what nobody takes */
  return flow;
}

/* Makes the stabilizer, or hands it settings that have changed; NULL, or why there is none. */
static const char* prepare(LegatoStabilize* self) {
  legato_video_live_options options = legato_video_live_options_default();
  legato_video_live_settings settings = legato_video_live_settings_default();
  const GstVideoInfo* info = &self->info;
  gsize size;
  g_mutex_lock(&self->lock);
  options.latency = self->latency;
  settings.crop = self->crop;
  settings.strength = self->strength;
  settings.guard = self->guard;
  g_mutex_unlock(&self->lock);
  if (info->fps_n > 0 && info->fps_d > 0) settings.fps = (double)info->fps_n / info->fps_d;
  if (self->live != NULL) {
    if (settings.crop != self->settings.crop || settings.strength != self->settings.strength ||
        settings.guard != self->settings.guard) {
      legato_video_live_change(self->live, &settings);
    }
    self->settings = settings;
    return NULL;
  }
  options.width = info->width;
  options.height = info->height;
  options.format = format_of(GST_VIDEO_INFO_FORMAT(info));
  options.chroma = chroma_of(GST_VIDEO_INFO_CHROMA_SITE(info));
  size = legato_video_live_memory(&options, &settings);
  if (size == 0) return legato_video_live_reason(&options, &settings);
  self->memory = g_try_malloc(size);
  if (self->memory == NULL) return "no memory";
  self->live = legato_video_live_create(&options, &settings, NULL, self->memory, size);
  self->settings = settings;
  return self->live != NULL ? NULL : "no stabilizer";
}

static GstFlowReturn legato_chain(GstPad* pad, GstObject* parent, GstBuffer* buffer) {
  LegatoStabilize* self = LEGATO_STABILIZE(parent);
  legato_video_live_result result = {0};
  legato_status status = LEGATO_INVALID_ARGUMENT;
  GstVideoFrame seen, shown;
  GstBuffer *drawn, *waits;
  const char* reason;
  (void)pad;
  if (!self->known) {
    gst_buffer_unref(buffer);
    return GST_FLOW_NOT_NEGOTIATED;
  }
  reason = prepare(self);
  if (reason != NULL) {
    gst_buffer_unref(buffer);
    GST_ELEMENT_ERROR(self, STREAM, FAILED, (NULL), ("%s", reason));
    return GST_FLOW_ERROR;
  }
  drawn = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(&self->info), NULL);
  if (drawn != NULL && gst_video_frame_map(&seen, &self->info, buffer, GST_MAP_READ)) {
    if (gst_video_frame_map(&shown, &self->info, drawn, GST_MAP_WRITE)) {
      const legato_video_picture picture = picture_of(&seen), steady = picture_of(&shown);
      status = legato_video_live_push(self->live, &picture, 0, &steady, &result);
      gst_video_frame_unmap(&shown);
    }
    gst_video_frame_unmap(&seen);
  }
  if (status == LEGATO_INVALID_ARGUMENT) {
    gst_buffer_unref(buffer);
    if (drawn != NULL) gst_buffer_unref(drawn);
    GST_ELEMENT_ERROR(self, STREAM, FORMAT, (NULL), ("a buffer that is no picture"));
    return GST_FLOW_ERROR;
  }
  waits = gst_buffer_new();
  gst_buffer_copy_into(waits, buffer, GST_BUFFER_COPY_FLAGS | GST_BUFFER_COPY_TIMESTAMPS, 0, (gsize)-1);
  gst_buffer_unref(buffer);
  g_queue_push_tail(&self->waiting, waits);
  if (result.due) return send(self, drawn);
  gst_buffer_unref(drawn);
  return GST_FLOW_OK;
}

static gboolean legato_sink_event(GstPad* pad, GstObject* parent, GstEvent* event) {
  LegatoStabilize* self = LEGATO_STABILIZE(parent);
  switch (GST_EVENT_TYPE(event)) {
    case GST_EVENT_CAPS: {
      GstCaps* caps;
      GstVideoInfo info;
      gst_event_parse_caps(event, &caps);
      if (!gst_video_info_from_caps(&info, caps)) {
        gst_event_unref(event);
        return FALSE;
      }
      if (!self->known || !gst_video_info_is_equal(&info, &self->info)) {
        drain(self); /* pictures of another kind are another scene */
        forget(self);
        g_mutex_lock(&self->lock);
        self->info = info;
        self->known = TRUE;
        g_mutex_unlock(&self->lock);
        gst_element_post_message(GST_ELEMENT(self), gst_message_new_latency(GST_OBJECT(self)));
      }
      break;
    }
    case GST_EVENT_SEGMENT: /* timestamps mean something else from here on */
    case GST_EVENT_EOS:
      drain(self);
      break;
    case GST_EVENT_FLUSH_STOP:
      forget(self);
      break;
    default:
      break;
  }
  return gst_pad_event_default(pad, parent, event);
}

/* What comes in is late already; this adds its pictures. Nothing is known of a stream whose rate is not. */
static gboolean legato_source_query(GstPad* pad, GstObject* parent, GstQuery* query) {
  LegatoStabilize* self = LEGATO_STABILIZE(parent);
  GstClockTime least, most, own = 0;
  gboolean live;
  if (GST_QUERY_TYPE(query) != GST_QUERY_LATENCY) return gst_pad_query_default(pad, parent, query);
  if (!gst_pad_peer_query(self->sink, query)) return FALSE;
  gst_query_parse_latency(query, &live, &least, &most);
  g_mutex_lock(&self->lock);
  if (self->known && self->info.fps_n > 0) {
    own = gst_util_uint64_scale((guint64)self->latency * GST_SECOND, (guint64)self->info.fps_d,
                                (guint64)self->info.fps_n);
  }
  g_mutex_unlock(&self->lock);
  if (GST_CLOCK_TIME_IS_VALID(most)) most += own;
  gst_query_set_latency(query, live, least + own, most);
  return TRUE;
}

static GstStateChangeReturn legato_change_state(GstElement* element, GstStateChange change) {
  LegatoStabilize* self = LEGATO_STABILIZE(element);
  const GstStateChangeReturn done = GST_ELEMENT_CLASS(legato_stabilize_parent_class)->change_state(element, change);
  if (change == GST_STATE_CHANGE_PAUSED_TO_READY) {
    forget(self);
    g_mutex_lock(&self->lock);
    self->known = FALSE;
    g_mutex_unlock(&self->lock);
  }
  return done;
}

static void legato_set_property(GObject* object, guint id, const GValue* value, GParamSpec* spec) {
  LegatoStabilize* self = LEGATO_STABILIZE(object);
  g_mutex_lock(&self->lock);
  switch (id) {
    case LATENCY:
      self->latency = g_value_get_uint(value);
      break;
    case CROP:
      self->crop = g_value_get_double(value);
      break;
    case STRENGTH:
      self->strength = g_value_get_double(value);
      break;
    case GUARD:
      self->guard = g_value_get_boolean(value);
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
      break;
  }
  g_mutex_unlock(&self->lock);
}

static void legato_get_property(GObject* object, guint id, GValue* value, GParamSpec* spec) {
  LegatoStabilize* self = LEGATO_STABILIZE(object);
  g_mutex_lock(&self->lock);
  switch (id) {
    case LATENCY:
      g_value_set_uint(value, self->latency);
      break;
    case CROP:
      g_value_set_double(value, self->crop);
      break;
    case STRENGTH:
      g_value_set_double(value, self->strength);
      break;
    case GUARD:
      g_value_set_boolean(value, self->guard);
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
      break;
  }
  g_mutex_unlock(&self->lock);
}

static void legato_finalize(GObject* object) {
  forget(LEGATO_STABILIZE(object));
  g_mutex_clear(&LEGATO_STABILIZE(object)->lock);
  G_OBJECT_CLASS(legato_stabilize_parent_class)->finalize(object);
}

static void legato_stabilize_class_init(LegatoStabilizeClass* class) {
  GObjectClass* object = G_OBJECT_CLASS(class);
  GstElementClass* element = GST_ELEMENT_CLASS(class);
  const GParamFlags flags = G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS;
  const GParamFlags playing = flags | GST_PARAM_MUTABLE_PLAYING | GST_PARAM_CONTROLLABLE;
  object->set_property = legato_set_property;
  object->get_property = legato_get_property;
  object->finalize = legato_finalize;
  element->change_state = legato_change_state;
  g_object_class_install_property(
      object, LATENCY,
      g_param_spec_uint("latency", "Latency", "Pictures that follow a picture before it comes out", 0, 300, 10,
                        flags | GST_PARAM_MUTABLE_READY));
  g_object_class_install_property(
      object, CROP,
      g_param_spec_double("crop", "Crop", "Share of the view that may be given up; 0: the preset's, 0.18", 0, 0.5, 0,
                          playing));
  g_object_class_install_property(
      object, STRENGTH,
      g_param_spec_double("strength", "Strength", "Share of the correction that is applied", 0, 1, 1, playing));
  g_object_class_install_property(
      object, GUARD,
      g_param_spec_boolean("guard", "Guard", "Leave pictures as they are while they would not become steadier", TRUE,
                           playing));
  gst_element_class_add_static_pad_template(element, &sink_template);
  gst_element_class_add_static_pad_template(element, &source_template);
  gst_element_class_set_static_metadata(element, "Legato stabilizer", "Filter/Effect/Video",
                                        "Stabilizes shaky video in one pass, some pictures later",
                                        "The Legato developers");
  GST_DEBUG_CATEGORY_INIT(legato_debug, "legatostabilize", 0, "Legato stabilizer");
}

static void legato_stabilize_init(LegatoStabilize* self) {
  self->latency = 10;
  self->strength = 1;
  self->guard = TRUE;
  g_mutex_init(&self->lock);
  g_queue_init(&self->waiting);
  self->sink = gst_pad_new_from_static_template(&sink_template, "sink");
  gst_pad_set_chain_function(self->sink, legato_chain);
  gst_pad_set_event_function(self->sink, legato_sink_event);
  GST_PAD_SET_PROXY_CAPS(self->sink);
  gst_element_add_pad(GST_ELEMENT(self), self->sink);
  self->source = gst_pad_new_from_static_template(&source_template, "src");
  gst_pad_set_query_function(self->source, legato_source_query);
  GST_PAD_SET_PROXY_CAPS(self->source);
  gst_element_add_pad(GST_ELEMENT(self), self->source);
}

static gboolean register_plugin(GstPlugin* plugin) { return GST_ELEMENT_REGISTER(legatostabilize, plugin); }

#define PACKAGE "legato"
#define TEXT_OF(x) #x
#define DOTTED(a, b, c) TEXT_OF(a) "." TEXT_OF(b) "." TEXT_OF(c)
GST_PLUGIN_DEFINE(GST_VERSION_MAJOR, GST_VERSION_MINOR, legato, "Stabilizes shaky video", register_plugin,
                  DOTTED(LEGATO_VERSION_MAJOR, LEGATO_VERSION_MINOR, LEGATO_VERSION_PATCH), "Apache 2.0", "Legato",
                  "https://example.org/legato")
