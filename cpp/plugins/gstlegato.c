/* GStreamer element legatostabilize: raw video in, steady video out, `latency` pictures later.
 *
 * A picture keeps its timestamp, and the latency is reported, so that a live pipeline holds its sound back alike. The
 * pictures that wait are the buffers as they came, not copies. */
#include <gst/gst.h>
#include <gst/video/video.h>

#include "legato.h"
#include "steady.h"

#define FORMATS "{ I420, YV12, Y42B, Y444, NV12, NV21, GRAY8, RGBA, BGRA, RGBx, BGRx }"

#define LEGATO_TYPE_STABILIZE (legato_stabilize_get_type())
G_DECLARE_FINAL_TYPE(LegatoStabilize, legato_stabilize, LEGATO, STABILIZE, GstElement)

struct _LegatoStabilize {
  GstElement element;
  GstPad *sink, *source;
  guint latency; /* pictures */
  steady_options options;
  GMutex lock; /* of the options, which the application sets, and of latency and info, which its queries ask */
  /* Of the streaming thread: */
  GstVideoInfo info;
  gboolean known; /* info has been negotiated */
  steady* steady;
  GQueue waiting; /* GstBuffer* */
};

G_DEFINE_TYPE(LegatoStabilize, legato_stabilize, GST_TYPE_ELEMENT)
GST_ELEMENT_REGISTER_DEFINE(legatostabilize, "legatostabilize", GST_RANK_NONE, LEGATO_TYPE_STABILIZE)
GST_DEBUG_CATEGORY_STATIC(legato_debug);
#define GST_CAT_DEFAULT legato_debug

enum { LATENCY = 1, CROP, STRENGTH };

static GstStaticPadTemplate sink_template =
    GST_STATIC_PAD_TEMPLATE("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS(GST_VIDEO_CAPS_MAKE(FORMATS)));
static GstStaticPadTemplate source_template =
    GST_STATIC_PAD_TEMPLATE("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS(GST_VIDEO_CAPS_MAKE(FORMATS)));

static steady_picture picture_of(GstVideoFrame* frame) {
  const GstVideoFormatInfo* format = frame->info.finfo;
  const GstVideoChromaSite site = GST_VIDEO_INFO_CHROMA_SITE(&frame->info);
  steady_picture picture = {0};
  guint i;
  picture.is_rgb = GST_VIDEO_FORMAT_INFO_IS_RGB(format);
  picture.count = (int)GST_VIDEO_FORMAT_INFO_N_COMPONENTS(format);
  for (i = 0; i < (guint)picture.count; ++i) {
    steady_component* c = &picture.components[i];
    c->data = GST_VIDEO_FRAME_COMP_DATA(frame, i);
    c->width = GST_VIDEO_FRAME_COMP_WIDTH(frame, i);
    c->height = GST_VIDEO_FRAME_COMP_HEIGHT(frame, i);
    c->step = GST_VIDEO_FRAME_COMP_PSTRIDE(frame, i);
    c->stride = GST_VIDEO_FRAME_COMP_STRIDE(frame, i);
    c->covers_x = 1 << GST_VIDEO_FORMAT_INFO_W_SUB(format, i);
    c->covers_y = 1 << GST_VIDEO_FORMAT_INFO_H_SUB(format, i);
    /* In the middle of the samples it covers, unless it is sited on the first of them; unknown is MPEG-2's. */
    c->site_x = site == GST_VIDEO_CHROMA_SITE_JPEG ? (c->covers_x - 1) / 2.0 : 0;
    c->site_y = (site & GST_VIDEO_CHROMA_SITE_V_COSITED) != 0 ? 0 : (c->covers_y - 1) / 2.0;
  }
  return picture;
}

/* Draws the oldest waiting picture into a buffer of its own and sends it on. */
static GstFlowReturn send(LegatoStabilize* self, const double map[9]) {
  GstBuffer *from = g_queue_pop_head(&self->waiting), *to;
  GstVideoFrame seen, drawn;
  gboolean done = FALSE;
  to = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(&self->info), NULL);
  if (to != NULL && gst_video_frame_map(&seen, &self->info, from, GST_MAP_READ)) {
    if (gst_video_frame_map(&drawn, &self->info, to, GST_MAP_WRITE)) {
      const steady_picture a = picture_of(&seen), b = picture_of(&drawn);
      done = steady_draw(self->steady, map, &a, &b);
      gst_video_frame_unmap(&drawn);
    }
    gst_video_frame_unmap(&seen);
  }
  if (!done) {
    gst_buffer_unref(from);
    if (to != NULL) gst_buffer_unref(to);
    GST_ELEMENT_ERROR(self, STREAM, FAILED, (NULL), ("a picture could not be drawn"));
    return GST_FLOW_ERROR;
  }
  gst_buffer_copy_into(to, from, GST_BUFFER_COPY_FLAGS | GST_BUFFER_COPY_TIMESTAMPS, 0, (gsize)-1);
  gst_buffer_unref(from);
  return gst_pad_push(self->source, to);
}

static GstFlowReturn send_due(LegatoStabilize* self) {
  GstFlowReturn flow = GST_FLOW_OK;
  double map[9];
  while (flow == GST_FLOW_OK && steady_next(self->steady, map)) flow = send(self, map);
  return flow;
}

/* What waits comes out: the stream ends here, or goes on as another scene. */
static GstFlowReturn drain(LegatoStabilize* self) {
  if (self->steady == NULL) return GST_FLOW_OK;
  steady_end(self->steady);
  return send_due(self);
}

static void forget(LegatoStabilize* self) {
  steady_close(self->steady);
  self->steady = NULL;
  g_queue_clear_full(&self->waiting, (GDestroyNotify)gst_buffer_unref);
}

static GstFlowReturn legato_chain(GstPad* pad, GstObject* parent, GstBuffer* buffer) {
  LegatoStabilize* self = LEGATO_STABILIZE(parent);
  GstVideoFrame frame;
  gboolean taken;
  steady_options options;
  guint latency;
  (void)pad;
  if (!self->known) {
    gst_buffer_unref(buffer);
    return GST_FLOW_NOT_NEGOTIATED;
  }
  g_mutex_lock(&self->lock);
  options = self->options;
  latency = self->latency;
  g_mutex_unlock(&self->lock);
  if (self->steady == NULL) {
    self->steady = steady_open(self->info.width, self->info.height, (int)latency, &options);
    if (self->steady == NULL) {
      gst_buffer_unref(buffer);
      GST_ELEMENT_ERROR(self, RESOURCE, FAILED, (NULL), ("no memory for %d x %d", self->info.width, self->info.height));
      return GST_FLOW_ERROR;
    }
  }
  steady_set(self->steady, &options);
  if (!gst_video_frame_map(&frame, &self->info, buffer, GST_MAP_READ)) {
    gst_buffer_unref(buffer);
    GST_ELEMENT_ERROR(self, STREAM, FORMAT, (NULL), ("a buffer that is no picture"));
    return GST_FLOW_ERROR;
  }
  {
    const steady_picture picture = picture_of(&frame);
    taken = steady_push(self->steady, &picture);
  }
  gst_video_frame_unmap(&frame);
  if (!taken) {
    gst_buffer_unref(buffer);
    GST_ELEMENT_ERROR(self, STREAM, FAILED, (NULL), ("a picture could not be followed"));
    return GST_FLOW_ERROR;
  }
  g_queue_push_tail(&self->waiting, buffer);
  return send_due(self);
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

/* Upstream's pool must have as many buffers as wait here. */
static gboolean legato_sink_query(GstPad* pad, GstObject* parent, GstQuery* query) {
  LegatoStabilize* self = LEGATO_STABILIZE(parent);
  GstCaps* caps;
  GstVideoInfo info;
  if (GST_QUERY_TYPE(query) != GST_QUERY_ALLOCATION) return gst_pad_query_default(pad, parent, query);
  gst_query_parse_allocation(query, &caps, NULL);
  if (caps == NULL || !gst_video_info_from_caps(&info, caps)) return FALSE;
  g_mutex_lock(&self->lock);
  gst_query_add_allocation_pool(query, NULL, (guint)GST_VIDEO_INFO_SIZE(&info), self->latency + 2, 0);
  g_mutex_unlock(&self->lock);
  gst_query_add_allocation_meta(query, GST_VIDEO_META_API_TYPE, NULL);
  return TRUE;
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
      self->options.crop = g_value_get_double(value);
      break;
    case STRENGTH:
      self->options.strength = g_value_get_double(value);
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
      g_value_set_double(value, self->options.crop);
      break;
    case STRENGTH:
      g_value_set_double(value, self->options.strength);
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
  const steady_options usual = steady_options_default();
  const GParamFlags flags = G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS;
  const GParamFlags playing = flags | GST_PARAM_MUTABLE_PLAYING | GST_PARAM_CONTROLLABLE;
  object->set_property = legato_set_property;
  object->get_property = legato_get_property;
  object->finalize = legato_finalize;
  element->change_state = legato_change_state;
  g_object_class_install_property(
      object, LATENCY,
      g_param_spec_uint("latency", "Latency", "Pictures that follow a picture before it comes out", STEADY_LEAST_DELAY,
                        STEADY_MOST_DELAY, 10, flags | GST_PARAM_MUTABLE_READY));
  g_object_class_install_property(
      object, CROP,
      g_param_spec_double("crop", "Crop",
                          "Share of width and height that may be cut away; the view at once, the path "
                          "from the next scene on",
                          0.02, 0.5, usual.crop, playing));
  g_object_class_install_property(object, STRENGTH,
                                  g_param_spec_double("strength", "Strength", "Share of the correction that is applied",
                                                      0, 1, usual.strength, playing));
  gst_element_class_add_static_pad_template(element, &sink_template);
  gst_element_class_add_static_pad_template(element, &source_template);
  gst_element_class_set_static_metadata(element, "Legato stabilizer", "Filter/Effect/Video",
                                        "Stabilizes shaky video in one pass, some pictures later",
                                        "The Legato developers");
  GST_DEBUG_CATEGORY_INIT(legato_debug, "legatostabilize", 0, "Legato stabilizer");
}

static void legato_stabilize_init(LegatoStabilize* self) {
  self->latency = 10;
  self->options = steady_options_default();
  g_mutex_init(&self->lock);
  g_queue_init(&self->waiting);
  self->sink = gst_pad_new_from_static_template(&sink_template, "sink");
  gst_pad_set_chain_function(self->sink, legato_chain);
  gst_pad_set_event_function(self->sink, legato_sink_event);
  gst_pad_set_query_function(self->sink, legato_sink_query);
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
