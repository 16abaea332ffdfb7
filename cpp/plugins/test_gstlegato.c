/* The element in a pipeline that an application drives: what it reports, and what changes while it plays. */
#include <gst/gst.h>
#include <stdio.h>

enum { PICTURES = 60, CHANGED = 30, DELAY = 10 };

static int failures = 0;

static void check(int holds, const char* what) {
  if (!holds) {
    printf("failed: %s\n", what);
    ++failures;
  }
}

typedef struct seen {
  GstElement *stabilizer, *pipeline;
  int count, late, size_changes;
  gsize size;
  GstClockTime last, latency;
  guint64 sums[PICTURES + DELAY];
} seen;

static void on_picture(GstElement* sink, GstBuffer* buffer, GstPad* pad, gpointer data) {
  seen* s = data;
  GstMapInfo map;
  guint64 sum = 0;
  gsize i;
  (void)sink;
  (void)pad;
  if (s->count > 0 && GST_BUFFER_PTS(buffer) <= s->last) ++s->late;
  s->last = GST_BUFFER_PTS(buffer);
  gst_buffer_map(buffer, &map, GST_MAP_READ);
  if (s->count > 0 && map.size != s->size) ++s->size_changes;
  s->size = map.size;
  for (i = 0; i < map.size; ++i) sum = 31 * sum + map.data[i];
  gst_buffer_unmap(buffer, &map);
  if (s->count < PICTURES + DELAY) s->sums[s->count] = sum;
  if (s->count == 0) { /* by now the rate has been negotiated */
    GstQuery* query = gst_query_new_latency();
    if (gst_element_query(s->pipeline, query)) gst_query_parse_latency(query, NULL, &s->latency, NULL);
    gst_query_unref(query);
  }
  if (++s->count == CHANGED && s->stabilizer != NULL) g_object_set(s->stabilizer, "crop", 0.4, "strength", 0.5, NULL);
}

/* Plays a line to its end. */
static seen play(const char* line, gboolean change, int* ended) {
  static const GstMessageType ends = GST_MESSAGE_EOS | GST_MESSAGE_ERROR;
  GError* error = NULL;
  GstElement *pipeline = gst_parse_launch(line, &error), *sink;
  seen s = {0};
  GstMessage* message;
  check(pipeline != NULL && error == NULL, line);
  *ended = 0;
  if (pipeline == NULL || error != NULL) return s;
  sink = gst_bin_get_by_name(GST_BIN(pipeline), "sink");
  s.pipeline = pipeline;
  if (change) s.stabilizer = gst_bin_get_by_name(GST_BIN(pipeline), "steady");
  g_signal_connect(sink, "handoff", G_CALLBACK(on_picture), &s);
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  message = gst_bus_timed_pop_filtered(GST_ELEMENT_BUS(pipeline), 60 * GST_SECOND, ends);
  if (message != NULL) {
    *ended = GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS;
    gst_message_unref(message);
  }
  gst_element_set_state(pipeline, GST_STATE_NULL);
  if (s.stabilizer != NULL) gst_object_unref(s.stabilizer);
  gst_object_unref(sink);
  gst_object_unref(pipeline);
  return s;
}

#define SOURCE "videotestsrc num-buffers=60 pattern=smpte "
#define CAPS "video/x-raw,format=I420,width=160,height=120,framerate=30/1"
#define SINK "fakesink name=sink signal-handoffs=true "

int main(int argc, char** argv) {
  int ended, i, before = 0, after = 0;
  seen plain, changed, other;
  gst_init(&argc, &argv);

  plain = play(SOURCE "! " CAPS " ! legatostabilize latency=10 guard=false name=steady ! " SINK, FALSE, &ended);
  check(ended && plain.count == PICTURES, "each picture comes out once, the last ones at the end");
  check(plain.late == 0 && plain.last == gst_util_uint64_scale(PICTURES - 1, GST_SECOND, 30), "with its own timestamp");

  changed = play(SOURCE "! " CAPS " ! legatostabilize latency=10 guard=false name=steady ! " SINK, TRUE, &ended);
  check(ended && changed.count == PICTURES && changed.size_changes == 0, "properties change while it plays");
  for (i = 0; i < PICTURES; ++i) *(i < CHANGED ? &before : &after) += plain.sums[i] != changed.sums[i];
  check(before == 0 && after > (PICTURES - CHANGED) / 2, "and are seen from then on, little by little");

  other = play(SOURCE "is-live=true ! " CAPS " ! " SINK "sync=true", FALSE, &ended);
  check(other.count == PICTURES, "without the element");
  plain = play(SOURCE "is-live=true ! " CAPS " ! legatostabilize latency=10 ! " SINK "sync=true", FALSE, &ended);
  check(plain.count == PICTURES && plain.latency - other.latency == gst_util_uint64_scale(DELAY, GST_SECOND, 30),
        "latency is told");

  /* Another size in mid-stream is another scene: what waits comes out before it. */
  other = play("concat name=c ! legatostabilize latency=10 ! " SINK SOURCE "! " CAPS
               " ! c. "
               "videotestsrc num-buffers=5 ! video/x-raw,format=I420,width=96,height=64,framerate=30/1 ! c.",
               FALSE, &ended);
  check(ended && other.count == PICTURES + 5 && other.size_changes == 1, "another size");

  printf("%d failures\n", failures);
  return failures != 0;
}
